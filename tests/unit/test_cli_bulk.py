"""`stepwell runs cancel|rerun --function`: many at once only for who is sure, after a count."""

from typing import Any

import pytest

from stepwell.cli import main
from stepwell.cli.api import Api


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, Any]]:
    """What the command asks of a gateway that knows seven such runs."""
    found: list[tuple[str, str, Any]] = []

    def ask(_api: Api, method: str, path: str, body: Any = None) -> dict[str, Any]:
        found.append((method, path, body))
        run_ids = [] if (body or {}).get("dry_run") else ["r"] * 7
        return {"data": {"matched": 7, "cancelled": len(run_ids), "run_ids": run_ids, "run_id": "R", "function_id": "f"}}

    monkeypatch.setattr(Api, "ask", ask)
    return found


def test_without_yes_it_counts_and_stops(asked: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Without --yes the runs are counted, and the command ends as misused."""
    assert main(["runs", "cancel", "--function", "f"]) == 2
    assert [body["dry_run"] for _, _, body in asked] == [True]
    assert "7 runs are meant" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(("verb", "path"), [("cancel", "/v1/cancellations"), ("rerun", "/v1/reruns")])
def test_a_dry_run_says_how_many(asked: list[Any], capsys: pytest.CaptureFixture[str], verb: str, path: str) -> None:
    """--dry-run counts, even beside --yes, and says that nothing was done."""
    assert main(["runs", verb, "--function", "f", "--dry-run", "--yes"]) == 0
    assert asked == [("POST", path, {"function_id": "f", "dry_run": True})]
    assert "7 runs are meant; nothing was done" in capsys.readouterr().out


def test_yes_does_it(asked: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    """--yes does it, with every selector."""
    words = "--status queued --status waiting --after 2026-01-01T00:00:00Z --before 2026-02-01T00:00:00Z --if event.data.x --yes"
    assert main(["runs", "cancel", "--function", "f", *words.split()]) == 0
    told = {
        "function_id": "f",
        "started_after": "2026-01-01T00:00:00Z",
        "started_before": "2026-02-01T00:00:00Z",
        "if": "event.data.x",
        "status": ["QUEUED", "WAITING"],
    }
    assert asked == [("POST", "/v1/cancellations", told)]
    assert "7 of 7 runs of f are cancelled" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["R", "--function", "f", "--yes"], ["R", "--status", "FAILED"]])
@pytest.mark.parametrize("verb", ["cancel", "rerun"])
def test_runs_or_a_function(asked: list[Any], verb: str, words: list[str]) -> None:
    """Neither, both, or runs by their ids with selectors is misuse, and nothing is asked."""
    assert main(["runs", verb, *words]) == 2
    assert asked == []


@pytest.mark.parametrize("verb", ["cancel", "rerun"])
def test_by_id_as_before(asked: list[Any], verb: str) -> None:
    """A run that is named needs no --yes."""
    assert main(["runs", verb, "R"]) == 0
    assert len(asked) == 1
