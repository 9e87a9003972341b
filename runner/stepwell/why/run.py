"""Why a live run isn't moving: one sentence, since when, until when, and what happens next. Pure; made here and nowhere else."""

import json
from dataclasses import dataclass
from typing import Any, cast

from stepwell.engine.run import RunStatus
from stepwell.store.records import FOREVER, StepKind, Wait
from stepwell.store.views import RunRow
from stepwell.why.answer import Paused, Runners, WaitingFor, Why
from stepwell.why.condition import values_seen
from stepwell.why.function import no_runner
from stepwell.why.words import brief, clock_time, pause_sentence, span

SHOWN_HOLDERS = 5
SHOWN_WAITS = 3


@dataclass(frozen=True, slots=True)
class Around:
    """What a run's own row doesn't tell.

    `tries` is how many a step gets by the function's definition; `holders` and `limit` belong to the concurrency key that
    blocks the run; `runners` are those of its pool, and `orphaned` tells that the one that holds it is dead (None, False:
    nobody looked); `owner` is who registered the function, `paused` who paused it; `error` is the JSON of what the code between
    steps failed with last.
    """

    tries: int = 5
    holders: tuple[str, ...] = ()
    limit: int = 0
    runners: Runners | None = None
    orphaned: bool = False
    owner: str = ""
    paused: Paused | None = None
    error: bytes | None = None


ALONE = Around()


def waiting_for(run: RunRow, now: int, around: Around = ALONE) -> WaitingFor | None:
    """Say why the run isn't moving; None once it has ended."""
    if run.status.is_final:
        return None
    if run.status is RunStatus.RUNNING:
        return _orphaned(run, now, around) if around.orphaned else _running(run, now)
    return _unleased(run, now, around)


def _unleased(run: RunRow, now: int, around: Around) -> WaitingFor:
    if around.paused is not None and (run.blocked_on is not None or (run.due is not None and run.due <= now)):
        return _paused(run, around.paused, now)
    if run.blocked_on is not None:
        return _blocked(run, run.blocked_on, around)
    if run.due is not None and run.due <= now:
        return _due(run, now, around)
    waits = _open_waits(run)
    if len(waits) > 1:
        return _several(run, waits, now, around)
    if waits:
        return _single(run, waits[0], now, around)
    return _by_time(run, now, around)


def _paused(run: RunRow, paused: Paused, now: int) -> WaitingFor:
    by_hand = f"`stepwell resume {run.function_id}`"
    mend = by_hand if paused.source == "api" else "taking the annotation stepwell.dev/paused-by off its DurableFunction"
    next_ = f"it goes on when somebody resumes the function, by {mend}"
    return WaitingFor(Why.PAUSED, pause_sentence(paused, now), paused.since, None, next_)


def _orphaned(run: RunRow, now: int, around: Around) -> WaitingFor:
    since = run.since if run.since is not None else run.created
    told = f"its runner {run.runner_id} died: its lease is over; the run began there at {clock_time(since, now)}"
    if around.runners is not None and not around.runners.taking:
        found = no_runner(run.function_id, run.pool, around.runners, around.owner)
        return WaitingFor(Why.NO_RUNNER, f"{found.sentence}; {told}", since, None, found.next)
    return WaitingFor(
        Why.DUE, f"{told}; another one takes it over", since, None, "it goes on from its last recorded step in seconds"
    )


def _running(run: RunRow, now: int) -> WaitingFor:
    since = run.since if run.since is not None else run.created
    runner = f" on runner {run.runner_id}" if run.runner_id else ""
    return WaitingFor(
        Why.RUNNING,
        f"running since {clock_time(since, now)} ({span(now - since)}){runner}",
        since,
        None,
        "it records each step as it ends; if its runner dies, another one goes on from there once the lease is over",
    )


def _blocked(run: RunRow, key: str, around: Around) -> WaitingFor:
    used = f"{len(around.holders)}/{around.limit} in use" if around.limit else f"{len(around.holders)} in use"
    return WaitingFor(
        Why.LIMIT,
        f"blocked by {_limit_name(key, run.function_id)}: {used}{_by(around.holders)}",
        max(run.due or 0, _since(run)),
        None,
        f"it {'starts' if run.started is None else 'goes on'} when one of them ends, sleeps or waits",
    )


def _limit_name(key: str, function_id: str) -> str:
    if key == function_id:
        return "the function's concurrency limit"
    if not key:
        return "the namespace's concurrency limit"
    place, _, value = key.partition(":")
    return f"concurrency key {brief(_unquoted(value))}" + ("" if place else " (of the namespace)")


def _by(holders: tuple[str, ...]) -> str:
    if not holders:
        return ""
    named = ", ".join(f"run {holder}" for holder in holders[:SHOWN_HOLDERS])
    more = len(holders) - SHOWN_HOLDERS
    return f" by {named}" + (f" and {more} more" if more > 0 else "")


def _due(run: RunRow, now: int, around: Around) -> WaitingFor:
    since = max(run.due or 0, run.created)
    late = f"due since {clock_time(since, now)} ({span(now - since)})"
    runners = around.runners
    if runners is not None and not runners.taking:
        found = no_runner(run.function_id, run.pool, runners, around.owner)
        return WaitingFor(Why.NO_RUNNER, f"{found.sentence}; {late}", since, None, found.next)
    used = f": {runners.busy}/{runners.slots} in use" if runners is not None and runners.busy >= runners.slots > 0 else ""
    return WaitingFor(
        Why.DUE, f"{late}, waiting for a free runner slot{used}", since, None, f"the next free slot of pool {run.pool!r} takes it"
    )


def _open_waits(run: RunRow) -> list[Wait]:
    waits = [wait for wait in run.waits if wait.kind is not StepKind.CANCEL]
    return sorted(waits, key=lambda wait: (wait.due, wait.step_id, wait.occurrence))


def _several(run: RunRow, waits: list[Wait], now: int, around: Around) -> WaitingFor:
    each = [_single(run, wait, now, around) for wait in waits]
    pairs = list(zip(waits, each, strict=True))[:SHOWN_WAITS]
    shown = "; ".join(one.sentence if one.kind is Why.RETRY else f"{brief(wait.step_id)} {one.sentence}" for wait, one in pairs)
    more = len(each) - SHOWN_WAITS
    ends = [one.until for one in each if one.until is not None]
    return WaitingFor(
        Why.SEVERAL,
        f"waiting for {len(each)} things at once: {shown}" + (f"; and {more} more" if more > 0 else ""),
        run.since if run.since is not None else min(one.since for one in each),
        min(ends) if ends else None,
        "it goes on when the first of them is there",
    )


def _single(run: RunRow, wait: Wait, now: int, around: Around) -> WaitingFor:
    until = None if wait.due >= FOREVER else wait.due
    match wait.kind:
        case StepKind.RUN:
            return _retrying(wait.attempt, _detail(wait), wait, now, around)
        case StepKind.SLEEP:
            return WaitingFor(Why.SLEEP, _sleep_sentence(until, now), wait.opened, until, "it goes on after the sleep by itself")
        case StepKind.SIGNAL:
            kind, thing = Why.SIGNAL, f"signal {_told(wait, 'signal')}"
        case StepKind.INVOKE:
            kind, thing = Why.RUN, _invoked(wait)
        case _:
            kind, thing = Why.EVENT, _event(run, wait)
    return WaitingFor(kind, f"waiting for {thing}{_timeout(until, now)}", wait.opened, until, _after_wait(kind, until))


def _sleep_sentence(until: int | None, now: int) -> str:
    if until is None:
        return "sleeping"
    return f"sleeping until {clock_time(until, now)} ({span(until - now)})"


def _invoked(wait: Wait) -> str:
    function = _told(wait, "function")
    target = f"run {wait.target_run}" if wait.target_run else "a run"
    return f"{target} of {function}" if function else target


def _event(run: RunRow, wait: Wait) -> str:
    name = _told(wait, "event") or "an event"
    condition = _detail(wait).get("if")
    if not isinstance(condition, str) or not condition:
        return name
    values = values_seen(condition, {"event": _first_event(run)})
    return f"{name} where {brief(condition)}" + (f" with {values}" if values else "")


def _first_event(run: RunRow) -> dict[str, Any]:
    """The event that the run began with: what its conditions call `event`."""
    try:
        events = cast("object", json.loads(run.input))
    except ValueError:
        return {}
    first = cast("list[object]", events)[0] if isinstance(events, list) and events else None
    return cast("dict[str, Any]", first) if isinstance(first, dict) else {}


def _told(wait: Wait, field: str) -> str:
    """The name of what is waited for, as the code said it."""
    told = _detail(wait).get(field)
    return brief(told if isinstance(told, str) and told else wait.name or "")


def _timeout(until: int | None, now: int) -> str:
    return "" if until is None else f" (timeout in {span(until - now)})"


def _after_wait(kind: Why, until: int | None) -> str:
    late = "" if until is None else "; at the timeout it goes on without"
    match kind:
        case Why.SIGNAL:
            return f"it goes on when the signal is sent{late}"
        case Why.RUN:
            fails = "" if until is None else "; at the timeout the step fails"
            return f"it goes on when that run has ended{fails}; ask why that one isn't moving"
        case _:
            return f"it goes on with the first such event{late}"


def _by_time(run: RunRow, now: int, around: Around) -> WaitingFor:
    if run.status is RunStatus.QUEUED and run.started is not None and run.attempt == 0 and run.due is not None:
        return _without_code(run, run.due, now, around.runners.broken if around.runners is not None else "")
    if run.attempt > 0 and run.due is not None:
        between = Wait(StepKind.RUN, "", 0, run.due, _since(run), detail=around.error)
        return _retrying(run.attempt, _detail(between), between, now, around)
    until = None if run.due is None or run.due >= FOREVER else run.due
    since = _since(run)
    match run.status:
        case RunStatus.SLEEPING:
            return WaitingFor(Why.SLEEP, _sleep_sentence(until, now), since, until, "it goes on after the sleep by itself")
        case RunStatus.WAITING:
            return WaitingFor(
                Why.SEVERAL, f"waiting{_timeout(until, now)}", since, until, "it goes on when what it waits for is there"
            )
        case _ if until is None:
            return WaitingFor(Why.DUE, "queued", since, None, "the next free slot of its pool takes it")
        case _:
            sentence = f"queued until {clock_time(until, now)} (in {span(until - now)})"
            return WaitingFor(Why.SCHEDULED, sentence, since, until, "it becomes due then")


def _without_code(run: RunRow, due: int, now: int, broken: str) -> WaitingFor:
    """It was claimed and given back at once: neither a try that failed nor a wait, so its code was not there."""
    return WaitingFor(
        Why.NO_RUNNER,
        f"no runner has its code: pool {run.pool!r} can't load revision {run.revision} of function {run.function_id!r}"
        f"{f': {brief(broken)}' if broken else ''}; it is asked again at {clock_time(due, now)}",
        _since(run),
        due,
        "mend the code there, or roll the function back; the runner's log has it too",
    )


def _retrying(failed: int, detail: dict[str, Any], wait: Wait, now: int, around: Around) -> WaitingFor:
    tries = detail.get("tries", around.tries)
    what = f"step {brief(wait.step_id)}" if wait.step_id else "the code between steps"
    when = f"in {span(wait.due - now)}" if wait.due > now else "now"
    sentence = f"retrying {what} {when} (attempt {failed + 1}/{tries}){_error(detail)}"
    return WaitingFor(Why.RETRY, sentence, wait.opened, wait.due, f"attempt {failed + 1} of {tries} begins then")


def _error(detail: dict[str, Any]) -> str:
    error = cast("object", detail.get("error", detail))
    if not isinstance(error, dict):
        return ""
    told = cast("dict[str, object]", error)
    name, message = told.get("name"), told.get("message")
    if not isinstance(name, str):
        return ""
    return f": {name}: {brief(message)}" if isinstance(message, str) and message else f": {name}"


def _detail(wait: Wait) -> dict[str, Any]:
    if wait.detail is None:
        return {}
    try:
        found = json.loads(wait.detail)
    except ValueError:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _since(run: RunRow) -> int:
    return run.since if run.since is not None else run.created


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
