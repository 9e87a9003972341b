"""An event says what each function did about it, and for each that did not start, why not."""

import json
from typing import Any

import pytest

from stepwell.engine.registry import KnownRegistry, parse
from stepwell.engine.run import RunStatus
from stepwell.spec.function import EventTrigger, FunctionSpec
from stepwell.store.records import TriggerKind
from stepwell.store.registry import FunctionRow, Registry
from stepwell.store.views import EndedBy, RunRow, StoredEvent
from stepwell.why import Reaction, Recorded, event_why, reactions

SECOND = 1_000_000
NOW = 1_763_884_800 * SECOND
VERSION = 5


def function(name: str, *triggers: EventTrigger, active: bool = True, since: int = 1, **options: Any) -> FunctionRow:
    spec = FunctionSpec(id=name, triggers=triggers, **options)
    return FunctionRow(name, "r", "p", "o", spec.to_json(), active, since)


def registry(*rows: FunctionRow) -> KnownRegistry:
    return parse(Registry(VERSION, rows), KnownRegistry())


def event(data: Any = None, name: str = "order/created", ts: int = 0) -> StoredEvent:
    document = {"id": "E", "name": name, "data": data or {}, "ts": ts}
    return StoredEvent("E", name, json.dumps(document).encode(), ts, NOW - SECOND, VERSION)


def run(status: RunStatus = RunStatus.COMPLETED, value: Any = None, name: str = "f") -> RunRow:
    encoded = None if value is None else json.dumps(value).encode()
    return RunRow("R2", name, "r", TriggerKind.EVENT, status, NOW, None, NOW, ("E",), b"[]", encoded)


def told(found: list[Reaction], sent: StoredEvent) -> str:
    return event_why(sent, found, NOW).sentence


BIG = EventTrigger(event="order/created", if_="event.data.total > 100")


def test_a_false_condition_shows_the_values_it_saw() -> None:
    """A function whose condition was false is told with it and the values."""
    sent = event({"total": 80})
    found = reactions(sent, [], Recorded(), registry(function("f", BIG)))
    assert found == [Reaction("f", "not matched", "event.data.total > 100 is false (event.data.total = 80)", None)]
    assert told(found, sent) == "started nothing: f not matched: event.data.total > 100 is false (event.data.total = 80)"


def test_a_function_that_changed_since_is_told_as_such() -> None:
    """What is certain is told plainly; of a function that changed after the event it is said that it may have been another."""
    (certain,) = reactions(event(), [], Recorded(), registry(function("f", BIG, since=VERSION)))
    (changed,) = reactions(event(), [], Recorded(), registry(function("f", BIG, since=VERSION + 1)))
    assert certain.detail is not None
    assert changed.detail == f"{certain.detail} (as the function is now; it may have been another then)"
    (new,) = reactions(event(), [], Recorded(), registry(function("f", EventTrigger(event="order/*"), since=VERSION + 1)))
    assert new.detail == "it was registered, or got this trigger, after the event came in"


def test_a_name_that_nobody_listens_to_shows_the_nearest() -> None:
    """Where no function listens to the name, those with similar names are told, the nearest first; others are not."""
    known = registry(
        function("one", EventTrigger(event="order/create")),
        function("two", EventTrigger(event="order/created")),
        function("three", EventTrigger(event="parcel/picked")),
    )
    sent = event(name="order/creatd")
    found = reactions(sent, [], Recorded(), known)
    assert [(one.function_id, one.decision) for one in found] == [("two", "other name"), ("one", "other name")]
    assert told(found, sent) == (
        "started nothing: no function has a trigger for the name 'order/creatd'; "
        "the nearest is two, which listens to order/created, not to order/creatd"
    )
    assert told([], event(name="zzz")) == (
        "started nothing: no function has a trigger for the name 'zzz'; no function is registered for any like it"
    )


def test_a_duplicate_names_the_first_run_and_the_value() -> None:
    """A start that idempotency refused names the run that stands for it, the expression and its value."""
    known = registry(function("f", EventTrigger(event="order/created"), idempotency="event.data.orderId"))
    sent = event({"orderId": "7"})
    found = reactions(sent, [(run(RunStatus.SKIPPED, {"name": "Skipped", "run_id": "R1"}), None)], Recorded(), known)
    assert found == [
        Reaction(
            "f",
            "skipped",
            'duplicate of run R1: idempotency event.data.orderId has the same value (event.data.orderId = "7") within 24 hours',
            "R2",
        )
    ]
    assert told(found, sent).startswith("started nothing: f skipped: duplicate of run R1")


def test_what_was_recorded_is_told_as_it_was() -> None:
    """An expression's error was recorded with the event, and stands for the function."""
    found = reactions(event(), [], Recorded([("f", "expression error", "x: no such key")]), registry(function("f", BIG)))
    assert found == [Reaction("f", "expression error", "x: no such key", None)]


def test_a_suspended_function_says_so() -> None:
    """A function that starts nothing is told, where it listens to the name."""
    (one,) = reactions(event(), [], Recorded(), registry(function("f", BIG, active=False)))
    assert (one.decision, one.detail) == ("inactive", "it is suspended or was deleted, and starts no run")


def test_a_full_list_claims_no_number() -> None:
    """Of an event with more runs than are listed it is said that there may be more."""
    for count, runs in ((199, "199 runs"), (200, "200 runs or more")):
        assert told([Reaction("f", "started", None, f"R{number}") for number in range(count)], event()) == f"started {runs}: f"


def test_an_event_of_the_future_says_when_its_runs_begin() -> None:
    """An event whose time lies ahead has started its runs, and says when they may begin."""
    ts = (NOW + 3600 * SECOND) // 1000
    sent = event(ts=ts)
    found = reactions(sent, [(run(RunStatus.QUEUED), None)], Recorded(), registry(function("f", BIG), function("g", BIG)))
    why = event_why(sent, found, NOW)
    assert why.sentence == (
        "started 1 run: f; 1 other did not start; they may begin at 09:00 UTC (in 1 h), the event's time"
    )  # fmt: skip
    assert why.until == ts * 1000


def test_what_an_event_did_to_live_runs_is_told() -> None:
    """Waits that it ended and runs that it cancelled come before any guess at its name, and beside what it started or didn't."""
    wait, cancel = EndedBy("f", "R1", "paid"), EndedBy("g", "R2", None)
    sent = event(name="payment/ok")
    near = registry(function("f", EventTrigger(event="payment/okay")))
    found = reactions(sent, [], Recorded(ended=[wait]), near)
    assert found == [Reaction("f", "ended wait", "paid", "R1")]
    why = event_why(sent, found, NOW)
    assert (why.sentence, why.next) == ("ended wait paid of run R1", "nothing: each of these runs says how it went on")
    assert told(reactions(sent, [], Recorded(ended=[wait, wait, cancel]), near), sent) == "ended 2 waits of f; cancelled run R2"
    both = reactions(event(), [(run(name="f"), None)], Recorded(ended=[wait]), registry(function("f", BIG)))
    assert told(both, event()) == "started 1 run: f; ended wait paid of run R1"
    against = reactions(event({"total": 80}), [], Recorded(ended=[wait]), registry(function("f", BIG)))
    assert told(against, event()).startswith("ended wait paid of run R1; started nothing: f not matched: ")


@pytest.mark.parametrize("decision", ["skipped", "not matched", "inactive", "expression error", "other name"])
def test_there_is_always_a_next_action(decision: str) -> None:
    """Whatever an event did, there is a next thing to do or the word that there is none."""
    assert event_why(event(), [Reaction("f", decision, "why", None)], NOW).next
