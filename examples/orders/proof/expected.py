"""What a file of events calls for, worked out from its lines alone. Pure: nothing here has heard of the product."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

Fate = Literal["accepted", "duplicate", "conflict", "refused"]
Runs = Counter[tuple[str, str]]
"""How many runs there are by function and status."""

BLANKS = " \t\r\n"
JAMS = {"mirror": 1, "wardrobe": 2}
TRIES_OF_A_STUCK_LIFT = 4
THANKED_FROM = 200_00
STEPS = {"failed": 2, "declined": 4, "cancelled": 3, "expired": 5, "shipped": 8}
"""How many steps of `process-order` are recorded on each way through it."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the file, by its number from 0, and what is to become of it. `event` is None where it is no event."""

    number: int
    text: str
    fate: Fate
    event: dict[str, Any] | None


@dataclass(slots=True)
class Calls:
    """What the file calls for. `events` are the stored ones by name, `retries` tries that were followed by another."""

    fates: Counter[str] = field(default_factory=Counter[str])
    events: Counter[str] = field(default_factory=Counter[str])
    runs: Runs = field(default_factory=Counter[tuple[str, str]])
    outcomes: Counter[str] = field(default_factory=Counter[str])
    steps: Counter[str] = field(default_factory=Counter[str])
    retries: Counter[str] = field(default_factory=Counter[str])


def read(text: str) -> list[Line]:
    """The lines of the file: an event is accepted once, refused if it is none, and judged by its id after that."""
    bodies: dict[str, object] = {}
    lines: list[Line] = []
    for number, one in enumerate(text.splitlines()):
        event = event_in(one)
        if event is None:
            lines.append(Line(number, one, "refused", None))
            continue
        body = {name: value for name, value in event.items() if name != "id"}
        known = bodies.setdefault(event["id"], body)
        fate: Fate = "accepted" if known is body else "duplicate" if known == body else "conflict"
        lines.append(Line(number, one, fate, event))
    return lines


def event_in(text: str) -> dict[str, Any] | None:
    """The event that a line holds; None if it holds none that may be sent."""
    try:
        value = cast("object", json.loads(text, parse_constant=_refuse))
    except ValueError:
        return None
    if not isinstance(value, dict) or "\\u0000" in text:
        return None
    event = cast("dict[str, Any]", value)
    name, event_id = event.get("name"), event.get("id")
    is_named = isinstance(name, str) and name != "" and not name.startswith(("stepwell/", "inngest/"))
    is_known = isinstance(event_id, str) and event_id != "" and not any(blank in event_id for blank in BLANKS)
    is_timed = isinstance(event.get("ts", 0), int)
    return event if is_named and is_known and is_timed and isinstance(event.get("data", {}), dict) else None


def calls_of(lines: Sequence[Line]) -> Calls:
    """Everything that the shop has to do about these lines, as exact numbers."""
    calls = Calls(fates=Counter(line.fate for line in lines))
    events = [line.event for line in lines if line.event is not None and line.fate == "accepted"]
    named = {name: {one["data"].get("orderId") for one in events if one["name"] == name} for name in FOLLOWING}
    taken: set[str] = set()
    for event in events:
        calls.events[event["name"]] += 1
        if event["name"] == "report/requested":
            _one_run(calls, "daily-report", steps=3)
        if event["name"] == "order/created" and _is_bought(event["data"]):
            order_id = event["data"]["orderId"]
            if order_id in taken:
                calls.runs["process-order", "SKIPPED"] += 1
            else:
                taken.add(order_id)
                _process(calls, event["data"], {name for name in FOLLOWING if order_id in named[name]})
    for name, count in calls.events.items():
        if name.startswith("order/"):
            _one_run(calls, "count-events", times=count)
    return calls


FOLLOWING = ("order/paid", "order/cancelled")
"""Events that follow an order. They are of use only once its run waits for them."""


def _process(calls: Calls, order: dict[str, Any], following: set[str]) -> None:
    """One run of `process-order` and all that comes of it."""
    outcome = _outcome(order, following)
    if outcome == "misfit":
        _one_run(calls, "process-order", "FAILED", steps=0)
        _one_run(calls, "process-order-failure")
        return
    calls.steps["process-order"] += STEPS[outcome]
    calls.retries["process-order"] += _retries(order)
    status = {"failed": "FAILED", "cancelled": "CANCELLED"}.get(outcome, "COMPLETED")
    calls.runs["process-order", status] += 1
    if status == "COMPLETED":
        calls.outcomes[outcome] += 1
    if outcome == "failed":
        _one_run(calls, "process-order-failure")
        return
    _one_run(calls, "charge-card", "FAILED" if outcome == "declined" else "COMPLETED")
    calls.retries["charge-card"] += order["card"] == "4000-0119"
    if outcome == "cancelled":
        _one_run(calls, "release-stock")
    if outcome == "shipped":
        calls.events["order/processed"] += 1
        if order["total"] >= THANKED_FROM:
            _one_run(calls, "thank-customer", steps=2)


def _outcome(order: dict[str, Any], following: set[str]) -> str:
    articles = order["articles"]
    if not isinstance(articles, list):
        return "misfit"
    if "unicorn" in articles or "piano" in articles:
        return "failed"
    if order["card"] == "4000-0002":
        return "declined"
    if "order/paid" in following:
        return "shipped"
    return "cancelled" if "order/cancelled" in following else "expired"


def _retries(order: dict[str, Any]) -> int:
    if "piano" in order["articles"]:
        return TRIES_OF_A_STUCK_LIFT - 1
    return max(JAMS.get(article, 0) for article in order["articles"])


def _is_bought(order: dict[str, Any]) -> bool:
    return isinstance(order["total"], int) and order["total"] > 0


def _one_run(calls: Calls, function: str, status: str = "COMPLETED", *, steps: int = 1, times: int = 1) -> None:
    calls.runs[function, status] += times
    calls.steps[function] += steps * times


def _refuse(constant: str) -> float:
    raise ValueError(constant)
