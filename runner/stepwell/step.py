"""`ctx.step`: the verbs of user code, typed; what they do is in `engine.steps`."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, overload

from stepwell import values
from stepwell.clock import from_datetime
from stepwell.engine import steps
from stepwell.engine.attempt import Body
from stepwell.engine.events import NewEvent, parse_event, refuse_ours
from stepwell.engine.passes import Pass
from stepwell.errors import SpecError, StepError, StepMisuse
from stepwell.event import Event, event_of
from stepwell.spec.duration import parse_duration
from stepwell.spec.function import Backoff
from stepwell.store.records import StepRow

if TYPE_CHECKING:
    from stepwell.decorator import Function

P = ParamSpec("P")
R = TypeVar("R")
YEAR = timedelta(days=365)
Duration = timedelta | str | int | float
"""A length of time: timedelta, seconds, or text such as "5m" or "1h30m"."""


class Step:
    """Named units of work whose results are recorded once. Steps may run in parallel (`asyncio.gather`, `TaskGroup`)."""

    __slots__ = ("_pass",)

    def __init__(self, passing: Pass) -> None:
        self._pass = passing

    @property
    def attempt(self) -> int:
        """The try now under way, from 0."""
        return self._pass.attempt

    @overload
    async def run(self, id: str, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def run(self, id: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def run(
        self,
        id: str,
        fn: Callable[..., Awaitable[R]],
        /,
        *args: Any,
        retries: int | None = None,
        backoff: Backoff | None = None,
        timeout: Duration | None = None,
        **kwargs: Any,
    ) -> R: ...
    @overload
    async def run(
        self,
        id: str,
        fn: Callable[..., R],
        /,
        *args: Any,
        retries: int | None = None,
        backoff: Backoff | None = None,
        timeout: Duration | None = None,
        **kwargs: Any,
    ) -> R: ...
    async def run(self, id: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run `fn(*args, **kwargs)` once and record what it returns; give that back here and on every replay.

        `fn` may be async, or an ordinary function, which runs in a thread. Its result is kept as JSON and decoded to the type
        that `fn` is annotated to return. `retries` (0 to 20), `backoff` and `timeout` override the function's for this step.
        Raises StepError once its tries are used up; a NonRetriableError or RetryAfterError inside acts on this step alone.
        """
        retries = kwargs.pop("retries", None)
        backoff = kwargs.pop("backoff", None)
        timeout = kwargs.pop("timeout", None)
        hint = values.hint_of(fn)
        body = Body(
            fn, args, kwargs, hint, _retries(id, retries), backoff, parse_duration(timeout) if timeout is not None else None
        )
        return _result(await steps.run(self._pass, id, body), hint)

    async def sleep(self, id: str, duration: Duration) -> None:
        """Sleep for a length of time (at most 366 days); the run takes no slot meanwhile."""
        length = parse_duration(duration)
        _result(await steps.sleep(self._pass, id, lambda now: now + round(length.total_seconds() * 1_000_000)))

    async def sleep_until(self, id: str, when: datetime | str) -> None:
        """Sleep until an instant: an aware datetime, or RFC 3339 text. One that is past doesn't sleep."""
        due = from_datetime(_instant(when))
        _result(await steps.sleep(self._pass, id, lambda _now: due))

    async def wait_for_event(
        self, id: str, *, event: str, timeout: Duration, if_: str | None = None
    ) -> "Event[dict[str, Any]] | None":
        """Wait for an event that is accepted after this wait is recorded; None when `timeout` comes first.

        `if_` is CEL over `event` (what started the run) and `async` (the one that came):
        `event.data.orderId == async.data.orderId`.
        """
        row = await steps.wait_for_event(self._pass, id, steps.EventWanted(event, if_, parse_duration(timeout)))
        document = cast("dict[str, Any] | None", _result(row))
        return None if document is None else event_of(document, document["data"])

    async def wait_for_signal(self, id: str, *, signal: str, timeout: Duration = YEAR) -> Any:
        """Wait for a signal by name and give back its data; None when `timeout` comes first. One run may wait for a name."""
        return _result(await steps.wait_for_signal(self._pass, id, signal, parse_duration(timeout)))

    async def send_signal(self, id: str, *, signal: str, data: Any = None) -> bool:
        """Give `data` to the run that waits for this signal; False if none does (signals are not kept)."""
        return bool(_result(await steps.send_signal(self._pass, id, signal, data)))

    @overload
    async def send_event(self, id: str, events: "Event[Any]") -> list[str]: ...
    @overload
    async def send_event(self, id: str, events: "Sequence[Event[Any]]") -> list[str]: ...
    async def send_event(self, id: str, events: "Event[Any] | Sequence[Event[Any]]") -> list[str]:
        """Send one event or several in this step's own commit; their ids. Sent again after a crash they are the same events."""
        many: Sequence[Event[Any]] = events if isinstance(events, Sequence) else [events]
        offered = [_offered(one, f"step {id!r}: events[{place}]") for place, one in enumerate(many)]
        refuse_ours(offered)
        return cast("list[str]", _result(await steps.send_event(self._pass, id, offered)))

    @overload
    async def invoke(
        self,
        id: str,
        function: "Function[Any, R]",
        data: Mapping[str, Any] | None = None,
        *,
        timeout: Duration = YEAR,
    ) -> R: ...
    @overload
    async def invoke(self, id: str, function: str, data: Mapping[str, Any] | None = None, *, timeout: Duration = YEAR) -> Any: ...
    async def invoke(
        self,
        id: str,
        function: "Function[Any, Any] | str",
        data: Mapping[str, Any] | None = None,
        *,
        timeout: Duration = YEAR,
    ) -> Any:
        """Run another function (or its id, wherever it runs) and give back what it returns; StepError if it fails."""
        target = function if isinstance(function, str) else function.id
        if not isinstance(cast("object", data or {}), Mapping):
            raise SpecError("the data of an invoked function is a JSON object", f"step {id!r}: data")
        hint = values.UNTYPED if isinstance(function, str) else function.returns
        return _result(await steps.invoke(self._pass, id, target, data or {}, parse_duration(timeout)), hint)


def _offered(event: Event[Any], path: str) -> NewEvent:
    """The event as the engine takes it, held to what the gateway asks of one from outside."""
    if not isinstance(cast("object", event), Event):
        raise SpecError(f"an event is a stepwell.Event, not {type(event).__name__}", path)
    return parse_event({"name": event.name, "data": event.data, "id": event.id, "ts": event.ts, "v": event.v}, path)


def _result(row: StepRow, hint: Any = values.UNTYPED) -> Any:
    if row.ok:
        return values.decode(row.value, hint)
    name, message, cause, attempts = values.decode_error(row.value)
    raise StepError(name, message, row.step_id, attempts, cause)


def _instant(when: datetime | str) -> datetime:
    if isinstance(when, str):
        try:
            when = datetime.fromisoformat(when)
        except ValueError as error:
            raise SpecError(f"{when!r} is no instant; write RFC 3339, such as 2026-11-23T09:00:00Z", "sleep_until") from error
        return when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    if when.tzinfo is None:
        raise SpecError("a datetime needs a time zone, such as datetime.now(UTC)", "sleep_until")
    return when


def _retries(step_id: str, retries: int | None) -> int | None:
    if retries is not None and not 0 <= retries <= 20:
        raise StepMisuse(f"step {step_id!r}: retries is {retries}; it goes from 0 to 20")
    return retries
