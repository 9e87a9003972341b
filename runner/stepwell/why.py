"""Why a live run isn't moving: one sentence, since when, until when, and what happens next. Pure; made here and nowhere else."""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

from stepwell.clock import to_datetime
from stepwell.engine.run import RunStatus
from stepwell.store.records import FOREVER, PauseRow, RunRow, StepKind, Wait

SHOWN_HOLDERS = 5
SHOWN_WAITS = 3
SHOWN_TEXT = 200
UNITS = ((86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "m"), (1_000_000, "s"))


class Why(StrEnum):
    """The closed set of reasons; on the wire as they stand here."""

    RUNNING = "running"
    DUE = "due"
    NO_RUNNER = "no_runner"
    SCHEDULED = "scheduled"
    RETRY = "retry"
    LIMIT = "limit"
    PAUSED = "paused"
    SLEEP = "sleep"
    EVENT = "event"
    SIGNAL = "signal"
    RUN = "run"
    SEVERAL = "several"


@dataclass(frozen=True, slots=True)
class WaitingFor:
    """The answer. `since` and `until` are µs since 1970; `until` is None where nothing ends it by itself."""

    kind: Why
    sentence: str
    since: int
    until: int | None
    next: str


@dataclass(frozen=True, slots=True)
class Around:
    """What a run's own row doesn't tell.

    `tries` is how many a step gets by the function's definition; `holders` and `limit` belong to the concurrency key that
    blocks the run; `runners` counts live runners that would take it (None: nobody looked). `paused`: its function is.
    """

    tries: int = 5
    holders: tuple[str, ...] = ()
    limit: int = 0
    runners: int | None = None
    paused: PauseRow | None = None


ALONE = Around()


def waiting_for(run: RunRow, now: int, around: Around = ALONE) -> WaitingFor | None:
    """Say why the run isn't moving; None once it has ended."""
    if run.status.is_final:
        return None
    if run.status is RunStatus.RUNNING:
        return _running(run, now)
    return _unleased(run, now, around)


def span(length: int) -> str:
    """A length in µs for people: its two largest units (`2 h 13 m`, `3 d`, `40 s`, `250 ms`)."""
    if length < 1_000_000:
        return f"{max(length, 0) // 1000} ms" if length >= 1000 else "0 s"
    for place, (unit, letter) in enumerate(UNITS):
        if length >= unit:
            whole, rest = divmod(length, unit)
            if place + 1 < len(UNITS):
                smaller, smaller_letter = UNITS[place + 1]
                if rest >= smaller:
                    return f"{whole} {letter} {rest // smaller} {smaller_letter}"
            return f"{whole} {letter}"
    raise AssertionError(length)


def clock_time(when: int, now: int) -> str:
    """An instant for people, in UTC: the time alone on the same day, else the date as well."""
    moment = to_datetime(when)
    if moment.date() == to_datetime(now).date():
        return f"{moment:%H:%M:%S} UTC" if moment.second else f"{moment:%H:%M} UTC"
    return f"{moment:%Y-%m-%d %H:%M} UTC"


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
        return _single(waits[0], now, around)
    return _by_time(run, now, around)


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


def pause_sentence(pause: PauseRow, now: int) -> str:
    """Who paused a function, since when and why."""
    why = f": {_brief(pause.reason)}" if pause.reason else ""
    return f"paused by {_brief(pause.paused_by)} since {clock_time(pause.since, now)}{why}"


def _paused(run: RunRow, pause: PauseRow, now: int) -> WaitingFor:
    by_hand = f"`stepwell resume {run.function_id}`"
    mend = by_hand if pause.source == "api" else "taking the annotation stepwell.dev/paused-by off its DurableFunction"
    since = max(pause.since, run.created)
    return WaitingFor(Why.PAUSED, pause_sentence(pause, now), since, None, f"it goes on when the function is resumed, by {mend}")


def _blocked(run: RunRow, key: str, around: Around) -> WaitingFor:
    used = f"{len(around.holders)}/{around.limit} in use" if around.limit else f"{len(around.holders)} in use"
    return WaitingFor(
        Why.LIMIT,
        f"blocked by {_limit_name(key, run.function_id)}: {used}{_by(around.holders)}",
        _since(run),
        None,
        "it starts when one of them ends, sleeps or waits",
    )


def _limit_name(key: str, function_id: str) -> str:
    if key == function_id:
        return "the function's concurrency limit"
    if not key:
        return "the namespace's concurrency limit"
    place, _, value = key.partition(":")
    return f"concurrency key {_brief(_unquoted(value))}" + ("" if place else " (of the namespace)")


def _by(holders: tuple[str, ...]) -> str:
    if not holders:
        return ""
    named = ", ".join(f"run {holder}" for holder in holders[:SHOWN_HOLDERS])
    more = len(holders) - SHOWN_HOLDERS
    return f" by {named}" + (f" and {more} more" if more > 0 else "")


def _due(run: RunRow, now: int, around: Around) -> WaitingFor:
    since = max(run.due or 0, run.created)
    late = f"due since {clock_time(since, now)} ({span(now - since)})"
    if around.runners == 0:
        return WaitingFor(
            Why.NO_RUNNER,
            f"no runner: none is alive for pool {run.pool!r} and function {run.function_id!r}; {late}",
            since,
            None,
            f"it starts as soon as a runner of pool {run.pool!r} that has this function is up",
        )
    return WaitingFor(Why.DUE, f"{late}, waiting for a free runner slot", since, None, "the next free slot of its pool takes it")


def _open_waits(run: RunRow) -> list[Wait]:
    waits = [wait for wait in run.waits if wait.kind is not StepKind.CANCEL]
    return sorted(waits, key=lambda wait: (wait.due, wait.step_id, wait.occurrence))


def _several(run: RunRow, waits: list[Wait], now: int, around: Around) -> WaitingFor:
    each = [_single(wait, now, around) for wait in waits]
    pairs = list(zip(waits, each, strict=True))[:SHOWN_WAITS]
    shown = "; ".join(one.sentence if one.kind is Why.RETRY else f"{_brief(wait.step_id)} {one.sentence}" for wait, one in pairs)
    more = len(each) - SHOWN_WAITS
    ends = [one.until for one in each if one.until is not None]
    return WaitingFor(
        Why.SEVERAL,
        f"waiting for {len(each)} things at once: {shown}" + (f"; and {more} more" if more > 0 else ""),
        run.since if run.since is not None else min(one.since for one in each),
        min(ends) if ends else None,
        "it goes on when the first of them is there",
    )


def _single(wait: Wait, now: int, around: Around) -> WaitingFor:
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
            kind, thing = Why.EVENT, _event(wait)
    return WaitingFor(kind, f"waiting for {thing}{_timeout(until, now)}", wait.opened, until, _after_wait(kind, until))


def _sleep_sentence(until: int | None, now: int) -> str:
    if until is None:
        return "sleeping"
    return f"sleeping until {clock_time(until, now)} ({span(until - now)})"


def _invoked(wait: Wait) -> str:
    function = _told(wait, "function")
    target = f"run {wait.target_run}" if wait.target_run else "a run"
    return f"{target} of {function}" if function else target


def _event(wait: Wait) -> str:
    name = _told(wait, "event") or "an event"
    condition = _detail(wait).get("if")
    return f"{name} where {_brief(condition)}" if isinstance(condition, str) and condition else name


def _told(wait: Wait, field: str) -> str:
    """The name of what is waited for, as the code said it."""
    told = _detail(wait).get(field)
    return _brief(told if isinstance(told, str) and told else wait.name or "")


def _timeout(until: int | None, now: int) -> str:
    return "" if until is None else f" (timeout in {span(until - now)})"


def _after_wait(kind: Why, until: int | None) -> str:
    late = "" if until is None else "; at the timeout it goes on without"
    match kind:
        case Why.SIGNAL:
            return f"it goes on when the signal is sent{late}"
        case Why.RUN:
            fails = "" if until is None else "; at the timeout the step fails"
            return f"it goes on when that run has ended{fails}"
        case _:
            return f"it goes on with the first such event{late}"


def _by_time(run: RunRow, now: int, around: Around) -> WaitingFor:
    if run.attempt > 0 and run.due is not None:
        between = Wait(StepKind.RUN, "", 0, run.due, _since(run))
        return _retrying(run.attempt, {}, between, now, around)
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


def _retrying(failed: int, detail: dict[str, Any], wait: Wait, now: int, around: Around) -> WaitingFor:
    tries = detail.get("tries", around.tries)
    what = f"step {_brief(wait.step_id)}" if wait.step_id else "the code between steps"
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
    return f": {name}: {_brief(message)}" if isinstance(message, str) and message else f": {name}"


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


def _brief(text: str) -> str:
    """One line, without control characters, not longer than a sentence bears."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    return line if len(line) <= SHOWN_TEXT else f"{line[: SHOWN_TEXT - 1]}…"
