"""One attempt at a step's body: called where a body may begin, under the step's own context; its result or error noted.

A result is remembered and rides with the next turn; an error opens the wait for the next attempt, or is the step's last.
"""

import asyncio
import inspect
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from stepwell import log, values
from stepwell.engine import trace
from stepwell.engine.crashpoint import NAME, crashpoint
from stepwell.engine.execution import Execution
from stepwell.engine.journal import Key
from stepwell.engine.passes import Pass
from stepwell.engine.progress import Attempt, Place
from stepwell.engine.retry import next_try
from stepwell.spec.function import Backoff
from stepwell.store.records import AttemptRow, StepKind, StepRow, Wait


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


async def try_body(passing: Pass, key: Key, body: Body, attempt: int) -> StepRow | None:
    """Call the body once, as soon as it may begin; the step's row, or None where another attempt is due later."""
    execution = passing.execution
    if not (execution.may_buffer() or execution.only_sleeps()):
        await execution.flush()
    await execution.hold_lease()
    passing.check_open()
    started = execution.deps.clock.now()
    if NAME:
        crashpoint("body-before")
    execution.branches.in_flight += 1
    try:
        outcome = await _outcome(passing, key, body, attempt)
    finally:
        execution.branches.in_flight -= 1
        if passing.shut:
            execution.cut_off(key[0], (execution.deps.clock.now() - started) / 1e6)
    if NAME:
        crashpoint("body-after")
    passing.check_open()
    ended = execution.deps.clock.now()
    if execution.deps.tracer is not None:
        error = None if isinstance(outcome, bytes) else type(outcome).__name__
        execution.deps.tracer.emit(trace.attempt_span(execution.claimed, key, attempt, (started, ended), error))
    if isinstance(outcome, bytes):
        execution.journal.unwritten.tried.append((key[0], "ok", (ended - started) / 1e6))
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
    returned = _value(execution, body) if body.timeout is None else _value_in_time(execution, body, body.timeout)
    try:
        if tracer is None or place is None:
            value = await returned
        else:
            with tracer.inside(place):
                value = await returned
    finally:
        telling.end()
        current.reset(entered)
        log.current.reset(scoped)
    data = values.encode(value, f"step {key[0]!r}: result", body.hint)
    values.check_size(f"result of step {key[0]!r}", len(data), values.MAX_STEP_RESULT)
    return data


async def _value_in_time(execution: Execution, body: Body, timeout: timedelta) -> Any:
    async with asyncio.timeout(timeout.total_seconds()):
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
    execution.journal.unwritten.fail(AttemptRow(*key, tried.attempt, tried.started, tried.ended, encoded, due), error)
    if due is None:
        row = StepRow(
            *key, StepKind.RUN, ok=False, value=encoded, attempts=tried.attempt + 1, started=tried.started, ended=tried.ended
        )
        execution.remember(row)
        passing.attempt = 0
        return row
    detail = values.canonical({**values.decode(encoded), "tries": retries + 1})
    execution.open_wait(Wait(StepKind.RUN, *key, due, tried.ended, attempt=tried.attempt + 1, detail=detail))
    return None


def _never() -> bool:
    return False
