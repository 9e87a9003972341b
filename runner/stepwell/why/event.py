"""What an event did: which functions it started, and for each that it didn't, why not. Pure.

It is worked out when somebody asks, from the stored event and the functions of today: nothing of it costs anything when the
event comes in. The event carries the version of the registry that it was matched with, and a function the one since which it has
been as it is: where it may have been another one then, that is said.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, cast

import orjson

from stepwell.engine.registry import Known, KnownRegistry
from stepwell.engine.run import RunStatus
from stepwell.engine.trigger import TRIGGER_NAMES, is_for
from stepwell.spec.function import EventTrigger
from stepwell.store.records import CANCELLED_RUN, ENDED_WAIT
from stepwell.store.views import EndedBy, RunRow, StoredEvent
from stepwell.why.answer import WaitingFor
from stepwell.why.condition import values_seen, why_false
from stepwell.why.words import brief, clock_time, span

STARTED, SKIPPED, NOT_MATCHED, INACTIVE, OTHER_NAME = "started", "skipped", "not matched", "inactive", "other name"
NEAREST = 10
MOST_RUNS = 200
"""How many of an event's runs are listed, the newest first; of those beyond, one for each function that has none among them."""
ALIKE = 0.6
LATER = " (as the function is now; it may have been another then)"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was written as the event came in: (function, decision, detail) where one started nothing; what it did to live runs."""

    decisions: Sequence[tuple[str, str, str]] = ()
    ended: Sequence[EndedBy] = ()


@dataclass(frozen=True, slots=True)
class Reaction:
    """What one function did about an event: the run that it started, or the decision against one and its reason.

    Or what the event did to a run of the function: the wait (its step is the detail) that it ended, the run that it cancelled.
    """

    function_id: str
    decision: str
    detail: str | None
    run_id: str | None


@dataclass(frozen=True, slots=True)
class EventWhy:
    """What an event did in one sentence; `until` is when its runs may begin, where that lies ahead."""

    sentence: str
    since: int
    until: int | None
    next: str


def reactions(
    event: StoredEvent, runs: Sequence[tuple[RunRow, WaitingFor | None]], recorded: Recorded, registry: KnownRegistry
) -> list[Reaction]:
    """What each function that listens to the event's name did about it, then which waits it ended and which runs it cancelled.

    Where there is nothing of all that, which names the nearest functions listen to.

    `runs` are those of the event, each with what it waits for if it lives.
    """
    document = cast("dict[str, Any]", orjson.loads(event.data))
    found = [_of_run(run, waiting, document, registry) for run, waiting in runs]
    found += [Reaction(function_id, decision, brief(detail), None) for function_id, decision, detail in recorded.decisions]
    told = {one.function_id for one in found}
    for known, triggers in listening(event, registry):
        if known.row.function_id not in told:
            found.append(_without_run(known, triggers, document, _later(known, event)))
    found += [_to_run(one) for one in recorded.ended]
    return found or _nearest(event, registry)


def listening(event: StoredEvent, registry: KnownRegistry) -> Iterator[tuple[Known, list[EventTrigger]]]:
    """The functions that listen to the event's name, each with the triggers that do."""
    for known in registry.all:
        triggers = [one for one in known.spec.triggers if isinstance(one, EventTrigger) and is_for(one, event.name)]
        if triggers:
            yield known, triggers


def event_why(event: StoredEvent, found: Sequence[Reaction], now: int) -> EventWhy:
    """What the event did, in one sentence."""
    ahead = event.ts * 1000 if event.ts * 1000 > now else None
    started = [one for one in found if one.decision == STARTED]
    ended = _ended(found)
    others = [one for one in found if one.decision not in {STARTED, ENDED_WAIT, CANCELLED_RUN}]
    if started:
        names = ", ".join(dict.fromkeys(one.function_id for one in started))
        rest = f"; {len(others)} other" + ("s" if len(others) != 1 else "") + " did not start" if others else ""
        when = f"; they may begin at {clock_time(ahead, now)} (in {span(ahead - now)}), the event's time" if ahead else ""
        runs = "1 run" if len(started) == 1 else f"{len(started)} runs" + (" or more" if len(started) >= MOST_RUNS else "")
        return EventWhy(
            f"started {runs}: {brief(names)}{rest}{when}{ended and f'; {ended}'}",
            event.received,
            ahead,
            "each run says what it waits for",
        )
    against = [one for one in others if one.decision != OTHER_NAME]
    if against:
        first = against[0]
        more = f"; and {len(against) - 1} more" if len(against) > 1 else ""
        sentence = f"{ended and f'{ended}; '}started nothing: {first.function_id} {first.decision}: {first.detail}{more}"
        return EventWhy(
            sentence, event.received, None, NEXT.get(first.decision, "mend the expression, then send it again with another id")
        )
    if ended:
        return EventWhy(ended, event.received, None, "nothing: each of these runs says how it went on")
    near = (
        f"; the nearest is {others[0].function_id}, which {others[0].detail}"
        if others
        else "; no function is registered for any like it"
    )
    return EventWhy(
        f"started nothing: no function has a trigger for the name {event.name!r}{near}",
        event.received,
        None,
        "send it under the name that a trigger has, or give a function a trigger for this one",
    )


NEXT = {
    SKIPPED: "nothing: the run that stands for it has done, or does, the work",
    NOT_MATCHED: "nothing, if that is meant; else correct the condition or the data, and send it again with another id",
    INACTIVE: "resume the function, then send it again with another id",
}
"""What to do about an event that started nothing, by the first decision against it."""


def _of_run(run: RunRow, waiting: WaitingFor | None, document: dict[str, Any], registry: KnownRegistry) -> Reaction:
    if run.status is not RunStatus.SKIPPED:
        return Reaction(run.function_id, STARTED, None if waiting is None else waiting.sentence, run.run_id)
    known = registry.known(run.function_id)
    text = known.spec.idempotency if known is not None else None
    key = (
        f": idempotency {brief(text)} has the same value ({values_seen(text, {'event': document})}) within 24 hours"
        if text
        else ""
    )
    return Reaction(run.function_id, SKIPPED, f"duplicate of run {_first_run(run)}{key}", run.run_id)


def _to_run(one: EndedBy) -> Reaction:
    return Reaction(one.function_id, CANCELLED_RUN if one.step_id is None else ENDED_WAIT, one.step_id, one.run_id)


def _ended(found: Sequence[Reaction]) -> str:
    """Which waits an event ended and which runs it cancelled, in words; nothing where it did neither."""
    told: list[str] = []
    for decision, one_of, many in (
        (ENDED_WAIT, "ended wait {} of run {}", "waits"),
        (CANCELLED_RUN, "cancelled run {1}", "runs"),
    ):
        these = [one for one in found if one.decision == decision]
        if len(these) == 1:
            told.append(one_of.format(these[0].detail, these[0].run_id))
        elif these:
            verb, names = decision.partition(" ")[0], ", ".join(dict.fromkeys(one.function_id for one in these))
            told.append(f"{verb} {len(these)} {many} of {brief(names)}")
    return "; ".join(told)


def _first_run(run: RunRow) -> str:
    """The run that stands for a skipped one, as its end has it."""
    told = cast("dict[str, Any]", orjson.loads(run.value)) if run.value else {}
    return str(told.get("run_id", "?"))


def _without_run(known: Known, triggers: Sequence[EventTrigger], document: dict[str, Any], later: str) -> Reaction:
    function_id = known.row.function_id
    if not known.row.active:
        return Reaction(function_id, INACTIVE, f"it is suspended or was deleted, and starts no run{later}", None)
    texts = [trigger.if_ for trigger in triggers if trigger.if_ is not None]
    if len(texts) < len(triggers):
        gone = "it was registered, or got this trigger, after the event came in" if later else "its run is no longer kept"
        return Reaction(function_id, NOT_MATCHED, gone, None)
    told = "; ".join(why_false(text, document, TRIGGER_NAMES) for text in texts)
    return Reaction(function_id, NOT_MATCHED, f"{told}{later}", None)


def _later(known: Known, event: StoredEvent) -> str:
    """What to add where the function may have been another one when the event came in."""
    return LATER if known.row.since > event.registry_version else ""


def _nearest(event: StoredEvent, registry: KnownRegistry) -> list[Reaction]:
    """The functions whose triggers have the most similar names, where no function listens to this one."""
    alike: list[tuple[float, str, str]] = []
    for known in registry.all:
        names = [one.event for one in known.spec.triggers if isinstance(one, EventTrigger)]
        best = max(((SequenceMatcher(None, event.name, one).ratio(), one) for one in names), default=(0.0, ""))
        if best[0] >= ALIKE:
            alike.append(
                (-best[0], known.row.function_id, f"{brief(', '.join(names))}, not to {event.name}{_later(known, event)}")
            )
    return [
        Reaction(function_id, OTHER_NAME, f"listens to {told}", None) for _likeness, function_id, told in sorted(alike)[:NEAREST]
    ]
