"""What a command that waits shows of how far steps are: bars on a terminal, else a line for each tenth, nothing for a program."""

import io
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from stepwell import cli
from stepwell.cli.progress import Bars, Lines, fitting, following

Answers = dict[str, Any]
UNTOLD = ("created_at", "run_started_at", "ended_at", "waiting_for", "error", "output", "rerun_of")


def word(ratio: float, note: str = "", step_id: str = "copy", **more: int) -> dict[str, Any]:
    """What a step tells, as the gateway has it."""
    return {"step_id": step_id, "occurrence": 0, "attempt": 0, "ratio": ratio, "note": note, "told_at": "…", **more}


def run(*words: dict[str, Any], run_id: str = "R", status: str = "RUNNING") -> dict[str, Any]:
    """A run, as the gateway has it."""
    shown = {
        "run_id": run_id,
        "function_id": "files",
        "revision": "1",
        "status": status,
        "event_ids": [],
        "progress": list(words),
    }
    return {**shown, **dict.fromkeys(UNTOLD)}


class Terminal(io.StringIO):
    """A terminal that shows what it is told to: rows of letters, as far as ours draws."""

    def isatty(self) -> bool:
        return True

    @property
    def rows(self) -> list[str]:
        rows, row = [""], 0
        for part in re.findall(r"\x1b\[\d*[A-Z]|\n|[^\x1b\n]+", self.getvalue()):
            if part == "\n":
                row += 1
                rows += [""] * (row + 1 - len(rows))
            elif part.endswith("A") and part.startswith("\x1b"):
                row -= int(part[2:-1])
            elif part == "\x1b[J":
                rows[row:] = [""]
            elif part != "\x1b[K":
                rows[row] = part
        return rows[:-1]


def at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Standard error is a terminal of eighty columns."""
    made = Terminal()
    monkeypatch.setattr("sys.stderr", made)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    return made


def test_bars_move_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step that tells has a bar, drawn over the one before and no more often than it changes; at the end none is left."""
    terminal, bars = at_a_terminal(monkeypatch), Bars()
    bars.show([run()])
    assert terminal.getvalue() == ""
    bars.show([run(word(0.4, "120/300"), word(1, occurrence=1))])
    assert terminal.rows == ["[########------------] copy 40% 120/300", "[####################] copy #2 100%"]
    before = terminal.getvalue()
    bars.show([run(word(0.4, "120/300"), word(1, occurrence=1))])
    assert terminal.getvalue() == before
    bars.show([run(word(0.5, "150/300"))])
    assert terminal.rows == ["[##########----------] copy 50% 150/300"]
    bars.show([run(word(0)), run(word(0.999), run_id="S")])
    assert terminal.rows == ["[--------------------] files: copy 0%", "[###################-] files: copy 100%"]
    bars.clear()
    assert terminal.rows == []
    before = terminal.getvalue()
    bars.clear()
    assert terminal.getvalue() == before


def test_bars_fit_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """No bar is wider than the terminal, in letters of whatever width; of many steps five have one; nothing acts on the terminal."""
    terminal = at_a_terminal(monkeypatch)
    monkeypatch.setenv("COLUMNS", "40")
    Bars().show([run(*(word(0.5, "漢\u202e\x9b" * 100, f"s{number}") for number in range(9)))])
    assert terminal.rows == [f"[##########----------] s{number} 50% 漢漢漢漢" for number in range(5)] + ["and 4 more"]
    assert not {"\u202e", "\x9b"} & set(terminal.getvalue())


@pytest.mark.parametrize(
    ("text", "columns", "fits"), [("abc", 3, "abc"), ("abc", 2, "ab"), ("漢字", 3, "漢"), ("e\u0301e\u0301", 1, "e\u0301")]
)
def test_what_fits(text: str, columns: int, fits: str) -> None:
    """Wide letters take two columns, and accents none."""
    assert fitting(text, columns) == fits


def test_lines_for_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is no terminal a step has a line at its first word and at each tenth that it reaches, each try anew."""
    lines = Lines()
    for done in range(301):
        lines.show([run(word(done / 300, f"{done}/300"))])
    lines.show([run(word(0.2, "once more"), word(0.05, attempt=1))])
    lines.show([run(word(0.19, attempt=1), word(0.95, step_id="b"))])
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        *(f"copy {tenth * 10}% {tenth * 30}/300" for tenth in range(11)),
        "copy 5%",
        "copy 19%",
        "b 95%",
    ]


def test_where_what_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bars on a terminal, lines on one that can't draw, nothing beside JSON."""
    terminal = at_a_terminal(monkeypatch)
    with following(json=False) as follower:
        assert isinstance(follower, Bars)
        follower.show([run(word(0.5))])
        assert terminal.rows
    assert terminal.rows == []
    with following(json=True) as follower:
        assert follower is None
    monkeypatch.setenv("TERM", "dumb")
    with following(json=False) as follower:
        assert isinstance(follower, Lines)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Have a gateway answer with what is given, one answer after the other; what was asked for."""
    paths: list[str] = []

    def having(**answers: list[Any]) -> list[str]:
        left = {name: list(given) for name, given in answers.items()}

        def ask(_self: object, _method: str, path: str, _body: object = None) -> dict[str, Any]:
            paths.append(path)
            kind = "steps" if path.endswith("/steps") else "runs" if "/runs?" in path else "run" if "/runs/R" in path else "made"
            given = left.get(kind, [[]])
            return {"data": given.pop(0) if len(given) > 1 else given[0], "results": [{"id": "E", "status": "accepted"}]}

        monkeypatch.setattr("stepwell.cli.api.Api.ask", ask)
        monkeypatch.setattr("time.sleep", lambda _seconds: None)
        return paths

    return having


LOOKS = [run(), run(word(0.2)), run(word(0.4)), run(status="COMPLETED")]


@pytest.mark.parametrize(
    "arguments", [["invoke", "files", "--wait"], ["runs", "rerun", "R", "--wait"], ["runs", "get", "R", "--wait"]]
)
def test_a_command_that_waits_for_a_run(
    arguments: list[str], asked: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """What the run's steps tell meanwhile is on standard error; the output is as ever."""
    asked(made=[{"run_id": "R", "function_id": "files"}], run=[{"run_id": "R"}, *LOOKS] if arguments[1] == "rerun" else LOOKS)
    assert cli.main(arguments) == 0
    said = capsys.readouterr()
    assert said.err.splitlines() == ["copy 20%", "copy 40%"]
    assert "COMPLETED" in said.out


def test_a_command_that_waits_for_an_events_runs(asked: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    """Of the runs in a list those that execute are looked at one by one, for a list doesn't tell how far they are."""
    bare = [{name: value for name, value in one.items() if name != "progress"} for one in LOOKS]
    listed = [[bare[0]], [run(status="SLEEPING")], [bare[0]], [bare[3]]]
    paths = asked(runs=listed, run=[run(word(0.3)), run(word(0.6))])
    assert cli.main(["send", "files/chosen", "--wait"]) == 0
    assert capsys.readouterr().err.splitlines() == ["copy 30%", "copy 60%"]
    assert paths.count("/v1/runs/R") == 2


def test_a_program_that_reads_on_is_told_nothing(asked: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    """With --json there is the JSON and nothing else, and no further request."""
    paths = asked(run=LOOKS, steps=[[]])
    assert cli.main(["runs", "get", "R", "--wait", "--json"]) == 0
    said = capsys.readouterr()
    assert (json.loads(said.out)["status"], said.err) == ("COMPLETED", "")
    assert paths == ["/v1/runs/R"] * 4 + ["/v1/runs/R/steps"]


@pytest.mark.parametrize(("status", "code"), [("FAILED", 1), ("CANCELLED", 1), ("SKIPPED", 0)])
def test_waiting_ends_with_the_runs_fate(
    status: str, code: int, asked: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """`runs get --wait` exits with 1 unless the run completed; without --wait a look is no judgement."""
    asked(run=[run(status=status)])
    assert cli.main(["runs", "get", "R", "--wait"]) == code
    assert cli.main(["runs", "get", "R"]) == 0
    assert status in capsys.readouterr().out


def test_waiting_has_an_end(asked: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    """When the time is up the run is shown as it is, and the exit code is 1."""
    asked(run=[run(word(0.4))])
    assert cli.main(["runs", "get", "R", "--wait", "--timeout", "0"]) == 1
    said = capsys.readouterr()
    assert "progress  copy 40%" in said.out.splitlines()
    assert "did not end within 0 s" in said.err
