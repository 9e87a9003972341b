"""The step verbs, as they act on an execution: replay what is recorded, else do it and record it.

Every verb answers with the recorded row; decoding it for user code is the SDK's part. A row with `ok` false is the step's last
error. None of them returns to code whose pass has been closed.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from stepwell import ids as identity
from stepwell import values
from stepwell.engine import dispatch, trace
from stepwell.engine.attempt import Body, current, try_body
from stepwell.engine.events import INVOKED, NewEvent, check_name, make_fact
from stepwell.engine.execution import Execution
from stepwell.engine.journal import Key, recorded_as
from stepwell.engine.outcome import no_sleep, not_found
from stepwell.engine.passes import PUT_AWAY, Lost, Pass
from stepwell.engine.registry import KnownRegistry
from stepwell.engine.trigger import native_name
from stepwell.errors import SpecError, StepMisuse
from stepwell.spec.expression import compile_filter
from stepwell.store.records import Signal, StepKind, StepRow, TriggerKind, Wait

LONGEST = 366 * 86_400_000_000
CLOSED_CALLS = 100
"""Steps that a closed pass may still ask for (in `finally:` blocks); code that goes on then is left hanging."""
SIGNAL_NAME = "stepwell/signal"
MAX_SIGNAL = 255


@dataclass(frozen=True, slots=True)
class EventWanted:
    """What a `wait_for_event` waits for."""

    name: str
    if_: str | None
    timeout: timedelta


async def run(passing: Pass, step_id: str, body: Body) -> StepRow:
    """Run the body until it succeeds or its tries are used up; its recorded result from then on."""
    execution, key, row = await _enter(passing, step_id, StepKind.RUN)
    if row is not None:
        return row
    wait = execution.journal.waits.get(key)
    attempt = 0
    if wait is not None:
        attempt = wait.attempt
        if wait.due > execution.deps.clock.now():
            await execution.branches.suspend(key)
    else:
        execution.journal.room_for_step()
    while True:
        row = await try_body(passing, key, body, attempt)
        if row is not None:
            return row
        await execution.branches.suspend(key)
        attempt += 1


async def sleep(passing: Pass, step_id: str, until: Callable[[int], int]) -> StepRow:
    """Sleep until the instant that `until` makes of now, decided once; at most 366 days on."""
    execution, key, row = await _enter(passing, step_id, StepKind.SLEEP)
    if row is not None:
        return row
    if key not in execution.journal.waits:
        now = execution.deps.clock.now()
        due = until(now)
        _check_length(step_id, due - now)
        execution.journal.room_for_step()
        if due <= now:
            row = no_sleep(key, now)
            execution.remember(row)
            return row
        execution.open_wait(Wait(StepKind.SLEEP, *key, due, now))
    return await _parked(execution, key)


async def wait_for_event(passing: Pass, step_id: str, wanted: EventWanted) -> StepRow:
    """Wait for the first matching event accepted after the wait is recorded; `null` where the time-out comes first."""
    execution, key, row = await _enter(passing, step_id, StepKind.EVENT)
    if row is not None:
        return row
    if key not in execution.journal.waits:
        execution.journal.room_for_step()
        _check_wanted(step_id, wanted)
        name = native_name(wanted.name)
        trigger_event = execution.first_event()
        path, match, residual = dispatch.open_wait_key(wanted.if_, name, trigger_event)
        with execution.branches.busy():
            await execution.deps.listen(name, path)
        passing.check_open()
        now = execution.deps.clock.now()
        length = _microseconds(wanted.timeout)
        _check_length(step_id, length)
        execution.open_wait(
            Wait(
                StepKind.EVENT,
                *key,
                now + max(length, 0),
                now,
                name=name,
                match_key=match,
                residual=residual,
                context=values.canonical(trigger_event) if residual is not None else None,
                detail=values.canonical({"event": wanted.name, "if": wanted.if_}),
            )
        )
    return await _parked(execution, key)


async def wait_for_signal(passing: Pass, step_id: str, signal: str, timeout: timedelta) -> StepRow:
    """Wait for a signal by name; one wait at a time may have a name. `null` where the time-out comes first."""
    execution, key, row = await _enter(passing, step_id, StepKind.SIGNAL)
    if row is not None:
        return row
    if key not in execution.journal.waits:
        execution.journal.room_for_step()
        _check_signal(step_id, signal)
        now = execution.deps.clock.now()
        length = _microseconds(timeout)
        _check_length(step_id, length)
        match = dispatch.match_key(SIGNAL_NAME, "", signal)
        detail = values.canonical({"signal": signal})
        execution.open_wait(Wait(StepKind.SIGNAL, *key, now + max(length, 0), now, match_key=match, detail=detail))
        await execution.flush()
        passing.check_open()
        if key in execution.journal.memo:
            return execution.journal.memo[key]
    return await _parked(execution, key)


async def send_signal(passing: Pass, step_id: str, signal: str, data: Any) -> StepRow:
    """Give `data` to the run that waits for this signal; the row says whether there was one."""
    execution, key, row = await _enter(passing, step_id, StepKind.SEND_SIGNAL)
    if row is not None:
        return row
    execution.journal.room_for_step()
    _check_signal(step_id, signal)
    value = values.encode(data, f"step {step_id!r}: data")
    await execution.flush()
    passing.check_open()
    now = execution.deps.clock.now()
    execution.journal.unwritten.signal = Signal(dispatch.match_key(SIGNAL_NAME, "", signal), value)
    execution.remember(StepRow(*key, StepKind.SEND_SIGNAL, ok=True, value=b"false", attempts=1, started=now, ended=now))
    await execution.flush()
    passing.check_open()
    return execution.journal.memo[key]


async def send_event(passing: Pass, step_id: str, events: Sequence[NewEvent]) -> StepRow:
    """Send events in this step's own commit, with ids made from run and step, so that a resent one is the same event."""
    execution, key, row = await _enter(passing, step_id, StepKind.SEND_EVENT)
    if row is not None:
        return row
    execution.journal.room_for_step()
    now = execution.deps.clock.now()
    facts = [
        make_fact(
            replace(event, id=event.id or _event_id(execution, key, place), traceparent=_sender(execution)),
            now,
            execution.deps.ids,
        )
        for place, event in enumerate(events)
    ]
    execution.journal.unwritten.facts.extend(facts)
    execution.journal.unwritten.size += sum(len(fact.row.data) for fact in facts)
    sent = values.canonical([fact.row.id for fact in facts])
    row = StepRow(*key, StepKind.SEND_EVENT, ok=True, value=sent, attempts=1, started=now, ended=now)
    execution.remember(row)
    return row


async def invoke(passing: Pass, step_id: str, target: str, data: Mapping[str, Any], timeout: timedelta) -> StepRow:
    """Run another function and wait for its result; an idempotent one that ran already gives its first result."""
    execution, key, row = await _enter(passing, step_id, StepKind.INVOKE)
    if row is not None:
        return row
    if key in execution.journal.waits:
        return await _parked(execution, key)
    execution.journal.room_for_step()
    now = execution.deps.clock.now()
    registry = execution.deps.registry()
    if target not in registry.functions:
        with execution.branches.busy():
            registry = await execution.deps.look()
        passing.check_open()
        now = execution.deps.clock.now()
    known = registry.functions.get(target)
    if known is None:
        row = not_found(key, _not_there(target, registry), now)
        execution.remember(row)
        return row
    length = _microseconds(timeout)
    _check_length(step_id, length)
    event_id = _event_id(execution, key, 0)
    fact = make_fact(NewEvent(INVOKED, data, event_id, traceparent=_sender(execution)), now, execution.deps.ids)
    run_id = identity.run_id(target, event_id, now // 1000)
    made = dispatch.Plan()
    execution.journal.unwritten.starts.append(
        dispatch.start(known, (fact,), run_id, dispatch.Occasion(TriggerKind.INVOKE, now, now), made)
    )
    detail = values.canonical({"function": target})
    execution.open_wait(Wait(StepKind.INVOKE, *key, now + length, now, target_run=run_id, detail=detail))
    return await _parked(execution, key)


def _not_there(target: str, registry: KnownRegistry) -> str:
    if target in registry.resting:
        return f"function {target!r} is suspended or was deleted: it starts no run"
    return f"no function {target!r} is registered; there are: {', '.join(sorted(registry.functions)[:8]) or 'none'}"


# --- replay ---


async def _enter(passing: Pass, step_id: str, kind: StepKind) -> tuple[Execution, Key, StepRow | None]:
    """Where a verb begins: the key of this use of the step, and its row if the journal has it already.

    StepMisuse where that row, or the wait that an earlier pass opened under this key, is of another kind.
    """
    inside = current.get()
    if inside is not None:
        raise StepMisuse(f"step {step_id!r} is called inside step {inside.id!r}; steps don't nest: call it beside the other one")
    if type(step_id) is not str or not 0 < len(step_id) <= 128 or not step_id.isprintable():
        raise _odd_id(step_id)
    if passing.shut:
        await _closed(passing)
    execution = passing.execution
    key = passing.next_key(step_id)
    row = execution.journal.memo.get(key)
    known = row if row is not None else execution.journal.waits.get(key)
    if known is not None:
        recorded_as(known, kind, execution.run_id)
        passing.pass_by()
    if row is not None:
        execution.metrics.memoized.value += 1
    return execution, key, row


def _odd_id(step_id: object) -> StepMisuse:
    if not isinstance(step_id, str):
        return StepMisuse(f"a step id is text, not {type(step_id).__name__}: {step_id!r:.40}")
    if 0 < len(step_id) <= 128:
        return StepMisuse(f"a step id has printable characters only, and {step_id!r:.60} has others")
    return StepMisuse(f"a step id has 1 to 128 characters; {step_id[:20]!r}… has {len(step_id)}")


async def _closed(passing: Pass) -> None:
    """A step in a `finally:` of code that is put away does nothing; code that won't stop is left hanging."""
    calls = passing.counts.get("", 0) + 1
    passing.counts[""] = calls
    if calls > CLOSED_CALLS:
        await asyncio.get_running_loop().create_future()
    raise Lost(PUT_AWAY)


async def _parked(execution: Execution, key: Key) -> StepRow:
    row = await execution.branches.suspend(key)
    if row is None:
        raise Lost(PUT_AWAY)
    return row


def _check_length(step_id: str, length: int) -> None:
    if length > LONGEST:
        raise StepMisuse(f"step {step_id!r} would last {length // 86_400_000_000} days; the most is 366 days")


def _check_wanted(step_id: str, wanted: EventWanted) -> None:
    if "*" in wanted.name:
        raise StepMisuse(f"step {step_id!r} waits for {wanted.name!r}; wildcards are for triggers, a wait names its event")
    check_name(wanted.name, f"step {step_id!r}: event")
    if wanted.if_ is not None:
        try:
            compile_filter(wanted.if_, ("event", "async"))
        except SpecError as error:
            raise SpecError(error.message, f"step {step_id!r}: if_", error.column) from None


def _check_signal(step_id: str, signal: object) -> None:
    if not isinstance(signal, str) or not 0 < len(signal) <= MAX_SIGNAL or not signal.isprintable():
        raise StepMisuse(
            f"step {step_id!r}: a signal's name is text of 1 to {MAX_SIGNAL} printable characters, not {signal!r:.60}"
        )


def _microseconds(length: timedelta) -> int:
    return round(length.total_seconds() * 1_000_000)


def _event_id(execution: Execution, key: Key, place: int) -> str:
    return f"{execution.run_id}.{values.digest(key[0].encode())[:12]}.{key[1]}.{place}"


def _sender(execution: Execution) -> str | None:
    """The execution that sends, as an event carries it; None while there are no traces."""
    if execution.deps.tracer is None:
        return None
    return trace.execution_place(execution.run_id, execution.epoch).traceparent
