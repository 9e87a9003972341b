"""The orders example: it loads, its file of events is what its script makes, and the demo's arithmetic is the product's."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from stepwell import Event
from stepwell.loading import load
from stepwell.testing import Durable

ORDERS = Path(__file__).parents[2] / "examples" / "orders"
Example = Callable[[str], ModuleType]


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[Example]:
    """Import a module of the example as its own programs do; forgotten again after the test."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(ORDERS))
    yield import_module
    for name in set(sys.modules) - before:
        if str(ORDERS) in str(getattr(sys.modules[name], "__file__", None) or getattr(sys.modules[name], "__path__", "")):
            del sys.modules[name]


@pytest.fixture
def lines(example: Example) -> list[Any]:
    """The file, read as the demo reads it."""
    return example("proof.expected").read((ORDERS / "events.ndjson").read_text(encoding="utf-8"))


def test_the_example_validates() -> None:
    """`stepwell validate` finds the decorated functions and the manifest's in one folder, and nothing wrong with them."""
    command = [sys.executable, "-c", "import sys; from stepwell.cli import main; sys.exit(main())", "validate", str(ORDERS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    for function in (
        "process-order",
        "charge-card",
        "release-stock",
        "count-events",
        "daily-report",
        "stock-take",
        "thank-customer",
    ):
        assert function in done.stdout


def test_the_file_is_what_its_script_makes(example: Example) -> None:
    """`events.ndjson` is the output of `make_events.py`, to the byte."""
    assert example("make_events").make() == (ORDERS / "events.ndjson").read_text(encoding="utf-8")


def test_the_file_has_everything_in_it(example: Example, lines: list[Any]) -> None:
    """The file has 200 orders and more, duplicates, conflicts, lines to refuse, retries, and orders that end each way."""
    calls = example("proof.expected").calls_of(lines)
    assert len(lines) >= 220
    assert calls.events["order/created"] >= 200
    assert all(calls.fates[fate] >= 5 for fate in ("duplicate", "conflict", "refused"))
    assert set(calls.outcomes) == {"shipped", "declined", "expired"}
    assert {status for function, status in calls.runs if function == "process-order"} == {
        "COMPLETED",
        "FAILED",
        "CANCELLED",
        "SKIPPED",
    }
    assert calls.retries["process-order"] >= 20
    assert calls.retries["charge-card"] >= 5


async def test_orders_end_as_the_file_calls_for(
    example: Example, lines: list[Any], durable: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of the file, under a manual clock, leads to the runs and steps that the demo works out from its lines alone."""

    async def at_once(_seconds: float) -> None:
        return

    loaded = load([str(ORDERS)])
    assert not loaded.errors
    monkeypatch.setattr(example("services"), "_work", at_once)
    part = [line for line in lines if line.event is not None and "A-040" < line.event["data"].get("orderId", "") < "A-080"]
    wanted = example("proof.expected").calls_of(part)
    assert {status for function, status in wanted.runs if function == "process-order"} == {
        "COMPLETED",
        "FAILED",
        "CANCELLED",
        "SKIPPED",
    }
    await durable.serve(*loaded.functions)
    accepted = [line.event for line in part if line.fate == "accepted"]
    for following in (False, True):
        events = [event for event in accepted if (event["name"] in {"order/paid", "order/cancelled"}) is following]
        await durable.send_event(*(Event(event["name"], event["data"], event["id"]) for event in events))
        await durable.advance(timedelta(seconds=1.9 if not following else 5))
    found: Counter[tuple[str, str]] = Counter()
    steps: Counter[str] = Counter()
    for function in {function for function, _ in wanted.runs}:
        for run in await durable.runs(function):
            found[function, (await run.status()).upper()] += 1
            steps[function] += len(await run.recorded())
    assert found == wanted.runs
    assert steps == wanted.steps


def test_the_diary_tells_a_step_that_ran_twice(example: Example) -> None:
    """A body that began again after it was recorded is a fault; one that the kill cut off is none."""
    compare = example("proof.diary").compare

    def begun(run: str, *pids: int) -> str:
        return "".join(json.dumps({"run": run, "step": "s", "occurrence": 0, "attempt": 0, "pid": pid}) + "\n" for pid in pids)

    def recorded(second: int) -> list[dict[str, Any]]:
        ended = f"2026-01-05T09:00:{second:02}.000Z"
        return [
            {
                "id": "s",
                "occurrence": 0,
                "kind": "RUN",
                "status": "COMPLETED",
                "attempts": 1,
                "ended_at": ended,
                "failed_attempts": [],
            }
        ]

    killed_at = 1767603610.0
    fine = compare(
        begun("a", 1) + begun("b", 1, 2) + begun("c", 2),
        {"a": recorded(5), "b": recorded(15), "c": recorded(15)},
        (1, 2),
        killed_at,
    )
    assert (fine.bodies, fine.repeated, fine.faults) == (4, 1, ())
    again = compare(begun("a", 1, 2), {"a": recorded(5)}, (1, 2), killed_at)
    twice = compare(begun("a", 2, 2), {"a": recorded(15)}, (1, 2), killed_at)
    unknown = compare(begun("a", 1), {}, (1, 2), killed_at)
    never = compare("", {"a": recorded(15)}, (1, 2), killed_at)
    assert [len(one.faults) for one in (again, twice, unknown, never)] == [1, 1, 1, 1]
