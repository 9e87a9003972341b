"""The step verbs, as they act on an execution: replay what is recorded, else do it and record it.

Every verb answers with the recorded row; decoding it for user code is the SDK's part. A row with `ok` false is the step's last
error. None of them returns to code whose pass has been closed.
"""

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from stepwell import ids as identity
from stepwell import log, values
from stepwell.engine import dispatch, trace
from stepwell.engine.crashpoint import NAME, crashpoint
from stepwell.engine.events import INVOKED, NewEvent, check_name, make_fact
from stepwell.engine.execution import PUT_AWAY, Execution, Key, Lost, Pass, recorded_as
from stepwell.engine.progress import Attempt, Place
from stepwell.engine.registry import KnownRegistry
from stepwell.engine.retry import next_try
from stepwell.engine.trigger import native_name
from stepwell.errors import SpecError, StepMisuse
from stepwell.spec.expression import compile_filter
from stepwell.spec.function import Backoff
from stepwell.store.records import AttemptRow, Signal, StepKind, StepRow, TriggerKind, Wait

LONGEST = 366 * 86_400_000_000
CLOSED_CALLS = 100
"""Steps that a closed pass may still ask for (in `finally:` blocks); code that goes on then is left hanging."""
SIGNAL_NAME = "stepwell/signal"
MAX_SIGNAL = 255


@dataclass(frozen=True, slots=True)
class StepInfo:
    """The step that is running: what `stepwell.current_step()` gives."""

    id: str
    occurrence: int
    attempt: int
    run_id: str
    function_id: str
    logger: log.RunLogger
    _told: Attempt = field(repr=False, compare=False)

    def progress(self, ratio: float, note: str = "") -> None:
        """Tell people how far this attempt is: a ratio from 0 to 1 and a note of one line, such as "120/300".

        Cheap, from any thread, as often as you like. It is shown for as long as the attempt runs, by other processes as of the
        last beat, and is no part of the journal; once that is over it does nothing. StepMisuse for a ratio outside of 0 to 1 or a
        note of more than 200 characters.
        """
        self._told.tell(ratio, note)

    @property
    def idempotency_key(self) -> str:
        """Stable over retries and crashes: hand it to services that take an idempotency key."""
        return f"{self.run_id}:{self.id}:{self.occurrence}"


current: ContextVar[StepInfo | None] = ContextVar("stepwell_step", default=None)


@dataclass(frozen=True, slots=True)
class Body:
    """What a `step.run` calls, and how often. `hint` is the type that its result is kept as."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    hint: Any
    retries: int | None = None
    backoff: Backoff | None = None
    timeout: timedelta | None = None


@dataclass(frozen=True, slots=True)
class EventWanted:
    """What a `wait_for_event` waits for."""

    name: str
    if_: str | None
    timeout: timedelta


async def run(passing: Pass, step_id: str, body: Body) -> StepRow:
    """Run the body until it succeeds or its tries are used up; its recorded result from then on."""
    execution, key = await _enter(passing, step_id)
    row = execution.memo.get(key)
    if row is not None:
        return _replay(passing, row, StepKind.RUN)
    wait = execution.waits.get(key)
    attempt = 0
    if wait is not None:
        recorded_as(wait, StepKind.RUN, execution.run_id)
        _pass_by(passing)
        attempt = wait.attempt
        if wait.due > execution.deps.clock.now():
            await execution.suspend(key)
    else:
        execution.room_for_step()
    while True:
        row = await _try(passing, key, body, attempt)
        if row is not None:
            return row
        await execution.suspend(key)
        attempt += 1


async def sleep(passing: Pass, step_id: str, until: Callable[[int], int]) -> StepRow:
    """Sleep until the instant that `until` makes of now, decided once; at most 366 days on."""
    execution, key = await _enter(passing, step_id)
    row = execution.memo.get(key)
    if row is not None:
        return _replay(passing, row, StepKind.SLEEP)
    wait = execution.waits.get(key)
    if wait is None:
        now = execution.deps.clock.now()
        due = until(now)
        _check_length(step_id, due - now)
        execution.room_for_step()
        if due <= now:
            row = StepRow(*key, StepKind.SLEEP, ok=True, value=b"null", attempts=1, started=now, ended=now)
            execution.remember(row)
            return row
        execution.open_wait(Wait(StepKind.SLEEP, *key, due, now))
    else:
        recorded_as(wait, StepKind.SLEEP, execution.run_id)
        _pass_by(passing)
    return await _parked(execution, key)


async def wait_for_event(passing: Pass, step_id: str, wanted: EventWanted) -> StepRow:
    """Wait for the first matching event accepted after the wait is recorded; `null` where the time-out comes first."""
    execution, key = await _enter(passing, step_id)
    row = execution.memo.get(key)
    if row is not None:
        return _replay(passing, row, StepKind.EVENT)
    wait = execution.waits.get(key)
    if wait is None:
        execution.room_for_step()
        _check_wanted(step_id, wanted)
        name = native_name(wanted.name)
        trigger_event = passing.execution.first_event()
        path, match, residual = dispatch.open_wait_key(wanted.if_, name, trigger_event)
        execution.in_flight += 1  # or a sibling's wait would park the run without this one
        try:
            await execution.deps.listen(name, path)
        finally:
            execution.in_flight -= 1
        _still_open(passing)
        now = execution.deps.clock.now()
        length = _microseconds(wanted.timeout)
        _check_length(step_id, length)
        detail = values.canonical({"event": wanted.name, "if": wanted.if_})
        context = values.canonical(trigger_event) if residual is not None else None
        due = now + max(length, 0)
        execution.open_wait(
            Wait(
                StepKind.EVENT,
                *key,
                due,
                now,
                name=name,
                match_key=match,
                residual=residual,
                context=context,
                detail=detail,
            )
        )
    else:
        recorded_as(wait, StepKind.EVENT, execution.run_id)
        _pass_by(passing)
    return await _parked(execution, key)


async def wait_for_signal(passing: Pass, step_id: str, signal: str, timeout: timedelta) -> StepRow:
    """Wait for a signal by name; one wait at a time may have a name. `null` where the time-out comes first."""
    execution, key = await _enter(passing, step_id)
    row = execution.memo.get(key)
    if row is not None:
        return _replay(passing, row, StepKind.SIGNAL)
    wait = execution.waits.get(key)
    if wait is None:
        execution.room_for_step()
        _check_signal(step_id, signal)
        now = execution.deps.clock.now()
        length = _microseconds(timeout)
        _check_length(step_id, length)
        match = dispatch.match_key(SIGNAL_NAME, "", signal)
        detail = values.canonical({"signal": signal})
        execution.open_wait(Wait(StepKind.SIGNAL, *key, now + max(length, 0), now, match_key=match, detail=detail))
        await execution.flush()
        _still_open(passing)
        if key in execution.memo:
            return execution.memo[key]
    else:
        recorded_as(wait, StepKind.SIGNAL, execution.run_id)
        _pass_by(passing)
    return await _parked(execution, key)


async def send_signal(passing: Pass, step_id: str, signal: str, data: Any) -> StepRow:
    """Give `data` to the run that waits for this signal; the row says whether there was one."""
    execution, key = await _enter(passing, step_id)
    row = execution.memo.get(key)
    if row is not None:
        return _replay(passing, row, StepKind.SEND_SIGNAL)
    execution.room_for_step()
    _check_signal(step_id, signal)
    value = values.encode(data, f"step {step_id!r}: data")
    await execution.flush()
    _still_open(passing)
    now = execution.deps.clock.now()
    execution.unwritten.signal = Signal(dispatch.match_key(SIGNAL_NAME, "", signal), value)
    execution.remember(StepRow(*key, StepKind.SEND_SIGNAL, ok=True, value=b"false", attempts=1, started=now, ended=now))
    await execution.flush()
    _still_open(passing)
    return execution.memo[key]


async def send_event(passing: Pass, step_id: str, events: Sequence[NewEvent]) -> StepRow:
    """Send events in this step's own commit, with ids made from run and step, so that a resent one is the same event."""
    execution, key = await _enter(passing, step_id)
    row = execution.memo.get(key)
    if row is not None:
        return _replay(passing, row, StepKind.SEND_EVENT)
    execution.room_for_step()
    now = execution.deps.clock.now()
    facts = [
        make_fact(
            replace(event, id=event.id or _event_id(execution, key, place), traceparent=_sender(execution)),
            now,
            execution.deps.ids,
        )
        for place, event in enumerate(events)
    ]
    execution.unwritten.facts.extend(facts)
    execution.unwritten.size += sum(len(fact.row.data) for fact in facts)
    sent = values.canonical([fact.row.id for fact in facts])
    row = StepRow(*key, StepKind.SEND_EVENT, ok=True, value=sent, attempts=1, started=now, ended=now)
    execution.remember(row)
    return row


async def invoke(passing: Pass, step_id: str, target: str, data: Mapping[str, Any], timeout: timedelta) -> StepRow:
    """Run another function and wait for its result; an idempotent one that ran already gives its first result."""
    execution, key = await _enter(passing, step_id)
    row = execution.memo.get(key)
    if row is not None:
        return _replay(passing, row, StepKind.INVOKE)
    wait = execution.waits.get(key)
    if wait is not None:
        recorded_as(wait, StepKind.INVOKE, execution.run_id)
        _pass_by(passing)
        return await _parked(execution, key)
    execution.room_for_step()
    now = execution.deps.clock.now()
    registry = execution.deps.registry()
    if target not in registry.functions:
        execution.in_flight += 1  # or a sibling's wait would park the run without this one
        try:
            registry = await execution.deps.look()
        finally:
            execution.in_flight -= 1
        _still_open(passing)
        now = execution.deps.clock.now()
    known = registry.functions.get(target)
    if known is None:
        error = {"name": "FunctionNotFound", "message": _not_there(target, registry), "attempts": 1}
        row = StepRow(*key, StepKind.INVOKE, ok=False, value=values.canonical(error), attempts=1, started=now, ended=now)
        execution.remember(row)
        return row
    length = _microseconds(timeout)
    _check_length(step_id, length)
    event_id = _event_id(execution, key, 0)
    fact = make_fact(NewEvent(INVOKED, data, event_id, traceparent=_sender(execution)), now, execution.deps.ids)
    run_id = identity.run_id(target, event_id, now // 1000)
    made = dispatch.Plan()
    execution.unwritten.starts.append(
        dispatch.start(known, (fact,), run_id, dispatch.Occasion(TriggerKind.INVOKE, now, now), made)
    )
    detail = values.canonical({"function": target})
    execution.open_wait(Wait(StepKind.INVOKE, *key, now + length, now, target_run=run_id, detail=detail))
    return await _parked(execution, key)


def _not_there(target: str, registry: KnownRegistry) -> str:
    if target in registry.resting:
        return f"function {target!r} is suspended or was deleted: it starts no run"
    return f"no function {target!r} is registered; there are: {', '.join(sorted(registry.functions)[:8]) or 'none'}"


# --- one try of a body ---


async def _try(passing: Pass, key: Key, body: Body, attempt: int) -> StepRow | None:
    """Call the body once; its row, or None where another try is due later."""
    execution = passing.execution
    if not (execution.may_buffer() or execution.only_sleeps()):
        await execution.flush()
    await execution.hold_lease()
    _still_open(passing)
    started = execution.deps.clock.now()
    if NAME:
        crashpoint("body-before")
    execution.in_flight += 1
    try:
        outcome = await _outcome(passing, key, body, attempt)
    finally:
        execution.in_flight -= 1
        if passing.shut:
            execution.cut_off(key[0], (execution.deps.clock.now() - started) / 1e6)
    if NAME:
        crashpoint("body-after")
    _still_open(passing)
    ended = execution.deps.clock.now()
    if execution.deps.tracer is not None:
        error = None if isinstance(outcome, bytes) else type(outcome).__name__
        execution.deps.tracer.emit(trace.attempt_span(execution.claimed, key, attempt, (started, ended), error))
    if isinstance(outcome, bytes):
        execution.unwritten.tried.append((key[0], "ok", (ended - started) / 1e6))
        row = StepRow(*key, StepKind.RUN, ok=True, value=outcome, attempts=attempt + 1, started=started, ended=ended)
        execution.remember(row)
        passing.attempt = 0
        return row
    return _failed(passing, key, body, AttemptRow(*key, attempt, started, ended, b"", None), outcome)


async def _outcome(passing: Pass, key: Key, body: Body, attempt: int) -> bytes | Exception:
    """The body's result as JSON, or the error that is recorded; only being put away is raised."""
    try:
        return await _call(passing, key, body, attempt)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if passing.shut or (task is not None and task.cancelling()):
            raise
        return RuntimeError(f"the step's own code raised CancelledError: {error}")
    except Exception as error:  # noqa: BLE001 - the step's error is recorded
        return error
    except SystemExit as error:
        return RuntimeError(f"the step's code called sys.exit({error.code})")


async def _call(passing: Pass, key: Key, body: Body, attempt: int) -> bytes:
    execution = passing.execution
    tracer = execution.deps.tracer
    place = trace.attempt_place(execution.run_id, execution.epoch, key, attempt) if tracer is not None else None
    in_hex = place.in_hex if place is not None else None
    scope = log.Scope(execution.run_id, execution.claimed.function_id, key[0], attempt, _never, execution.epoch, in_hex)
    scoped = log.current.set(scope)
    logger = log.RunLogger(scope)
    whose = Place(execution.run_id, execution.claimed.function_id, *key, attempt)
    telling = Attempt(execution.deps.progress, whose, execution.deps.clock, logger)
    entered = current.set(StepInfo(*key, attempt, execution.run_id, execution.claimed.function_id, logger, telling))
    passing.attempt = attempt
    try:
        if tracer is None or place is None:
            value = await _timed(execution, body)
        else:
            with tracer.inside(place):
                value = await _timed(execution, body)
    finally:
        telling.end()
        current.reset(entered)
        log.current.reset(scoped)
    data = values.encode(value, f"step {key[0]!r}: result", body.hint)
    values.check_size(f"result of step {key[0]!r}", len(data), values.MAX_STEP_RESULT)
    return data


async def _timed(execution: Execution, body: Body) -> Any:
    if body.timeout is None:
        return await _value(execution, body)
    async with asyncio.timeout(body.timeout.total_seconds()):
        return await _value(execution, body)


async def _value(execution: Execution, body: Body) -> Any:
    if _is_async(body.fn):
        return await body.fn(*body.args, **body.kwargs)
    value = await execution.deps.in_thread(lambda: _called(body))
    return await value if inspect.isawaitable(value) else value


def _called(body: Body) -> Any:
    try:
        return body.fn(*body.args, **body.kwargs)
    except StopIteration as error:
        # A future refuses to hold one, and whoever awaits it would wait for ever; coroutines do the same (PEP 479).
        raise RuntimeError("the step's code raised StopIteration") from error


def _is_async(fn: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine; `inspect` unwraps partials and the like, at ten times the cost."""
    code = getattr(fn, "__code__", None)
    return bool(code.co_flags & inspect.CO_COROUTINE) if code is not None else inspect.iscoroutinefunction(fn)


def _failed(passing: Pass, key: Key, body: Body, tried: AttemptRow, error: Exception) -> StepRow | None:
    execution = passing.execution
    spec = execution.code.spec
    retries = spec.retries if body.retries is None else body.retries
    backoff = body.backoff or spec.backoff
    due = next_try(error, backoff, tried.attempt, retries, execution.deps.draw(), tried.ended)
    encoded = values.encode_error(error, tried.attempt + 1)
    seconds = (tried.ended - tried.started) / 1e6
    execution.unwritten.tried.append((key[0], "timeout" if isinstance(error, TimeoutError) else "error", seconds))
    execution.unwritten.attempts.append(AttemptRow(*key, tried.attempt, tried.started, tried.ended, encoded, due))
    if due is None:
        row = StepRow(
            *key, StepKind.RUN, ok=False, value=encoded, attempts=tried.attempt + 1, started=tried.started, ended=tried.ended
        )
        execution.remember(row)
        passing.attempt = 0
        return row
    execution.unwritten.retried.append((key[0], type(error).__name__, (due - tried.ended) / 1e6, seconds))
    detail = values.canonical({**values.decode(encoded), "tries": retries + 1})
    execution.open_wait(Wait(StepKind.RUN, *key, due, tried.ended, attempt=tried.attempt + 1, detail=detail))
    return None


# --- replay ---


async def _enter(passing: Pass, step_id: str) -> tuple[Execution, Key]:
    inside = current.get()
    if inside is not None:
        raise StepMisuse(f"step {step_id!r} is called inside step {inside.id!r}; steps don't nest: call it beside the other one")
    if type(step_id) is not str or not 0 < len(step_id) <= 128 or not step_id.isprintable():
        raise _odd_id(step_id)
    if passing.shut:
        await _closed(passing)
    return passing.execution, passing.next_key(step_id)


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


def _still_open(passing: Pass) -> None:
    if passing.shut:
        raise Lost(PUT_AWAY)


def _replay(passing: Pass, row: StepRow, kind: StepKind) -> StepRow:
    recorded_as(row, kind, passing.execution.run_id)
    passing.execution.metrics.memoized.value += 1
    _pass_by(passing)
    return row


def _pass_by(passing: Pass) -> None:
    if passing.replay_left:
        passing.replay_left -= 1


async def _parked(execution: Execution, key: Key) -> StepRow:
    row = await execution.suspend(key)
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


def _never() -> bool:
    return False
