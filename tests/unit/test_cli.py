"""The command line: help at once, exit codes that scripts can rely on, nothing that a terminal would act on."""

import io
import json
import subprocess
import sys
from typing import Any

import pytest

from stepwell import cli
from stepwell.cli import payload, show
from stepwell.settings import SettingsError

NOWHERE = "http://127.0.0.1:9"


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["help"]])
def test_help_lists_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Help names every command and fits 80 columns."""
    assert cli.main(arguments) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in cli.COMMANDS)
    assert max(len(line) for line in text.splitlines()) <= 80


def test_help_imports_nothing_heavy() -> None:
    """`stepwell --help` imports neither typer nor anything that serves, so that it is there at once."""
    code = "import sys; from stepwell import cli; cli.main(['--help']); print(sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(done.stderr.replace("'", '"'))}
    assert not loaded & {"typer", "fastapi", "uvicorn", "asyncpg", "apsw", "aiohttp", "pydantic", "watchfiles"}


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command explains itself, without an error and without colours in a pipe."""
    assert cli.main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"stepwell {name}" in text
    assert "\x1b" not in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`stepwell --version` prints the version."""
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("stepwell ")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["send"],
        ["send", "a", "--nonsense"],
        ["send", "a", "--data", "{"],
        ["send", "a", "--data", "[]"],
        ["send", "a", "--data", '{"a": NaN}'],
        ["send", "a", "--data", "@/no/such/file"],
        ["send", "a", "--url", "ftp://x"],
        ["runs", "nonsense"],
        ["runs", "list", "--limit", "0"],
        ["gateway"],
        ["store", "migrate"],
        ["runner", "--store", "x.db"],
        ["dev", "x.py", "--store", "postgresql://h/d", "--db", "x"],
        ["dev", "x.py", "--host", "0.0.0.0"],
    ],
)
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is typed wrongly ends with exit code 2 and a reason, never with a traceback."""
    for name in ("STEPWELL_STORE", "STEPWELL_FUNCTIONS", "STEPWELL_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert cli.main(arguments) == 2
    said = capsys.readouterr()
    assert said.err or said.out
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["send", "a"],
        ["invoke", "f"],
        ["runs", "list"],
        ["runs", "get", "R"],
        ["runs", "cancel", "R"],
        ["runs", "rerun", "R"],
        ["events", "list"],
        ["events", "get", "E"],
    ],
)
def test_no_gateway_is_3(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Where no gateway answers, the exit code is 3 and the reason says what to start."""
    assert cli.main([*arguments, "--url", NOWHERE]) == 3
    assert "stepwell dev" in capsys.readouterr().err


def test_data_comes_from_three_places(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--data` is JSON itself, @FILE, or - for standard input; without it {}."""
    file = tmp_path / "a.json"
    file.write_text('{"a": "ä"}', encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.StringIO('{"b": 2}'))
    assert payload.read_data(None) == {}
    assert payload.read_data('{"c": 3}') == {"c": 3}
    assert payload.read_data(f"@{file}") == {"a": "ä"}
    assert payload.read_data("-") == {"b": 2}
    with pytest.raises(SettingsError, match="--data"):
        payload.read_data("7")


def test_control_characters_never_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Escape sequences, C1 controls and direction marks are stripped from text and escaped in JSON."""
    hostile = "a\x1b]0;x\x07b\x9bc\u202ed\x7f"
    show.line(hostile)
    show.table(["X"], [[hostile]])
    show.note(hostile)
    said = capsys.readouterr()
    for character in hostile:
        if not character.isalnum() and character not in "];":
            assert character not in said.out + said.err
    show.json_out({"x": hostile})
    text = capsys.readouterr().out
    assert json.loads(text) == {"x": hostile}
    assert "\x9b" not in text
    assert "\u202e" not in text


def test_a_run_shows_how_far_its_steps_are(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`runs get` has a line for each step that tells of itself, without what a terminal would act on; an older gateway has none."""
    told = [
        {"step_id": "copy", "occurrence": 0, "ratio": 0.4, "note": "120/300\u202e"},
        {"step_id": "copy", "occurrence": 1, "ratio": 1.0, "note": ""},
    ]
    run = {
        "run_id": "R",
        "function_id": "f",
        "revision": "1",
        "status": "RUNNING",
        "event_ids": [],
        "rerun_of": None,
        **dict.fromkeys(("created_at", "run_started_at", "ended_at", "waiting_for", "error", "output")),
    }

    def shown(run: dict[str, Any]) -> list[str]:
        answers: dict[str, Any] = {"/v1/runs/R": {"data": run}, "/v1/runs/R/steps": {"data": []}}
        monkeypatch.setattr("stepwell.cli.api.Api.get", lambda _self, path: answers[path])
        assert cli.main(["runs", "get", "R"]) == 0
        return [line for line in capsys.readouterr().out.splitlines() if line.startswith("progress")]

    assert shown({**run, "progress": told}) == ["progress  copy 40% 120/300", "progress  copy #2 100%"]
    assert shown(run) == []


def test_no_colour_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Statuses are coloured on a terminal alone, and never where NO_COLOR is set."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert show.status("FAILED") == "FAILED"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert show.status("FAILED") == "\x1b[31mFAILED\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert show.status("FAILED") == "FAILED"


def test_tables_fit_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On a terminal the last column is cut so that each row stays on one line of 80 columns."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    show.table(["RUN", "RESULT"], [["R" * 26, "x" * 500]])
    assert max(len(line) for line in capsys.readouterr().out.splitlines()) == 80
