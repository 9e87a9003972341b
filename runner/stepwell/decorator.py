"""`@stepwell.function`: an ordinary async function and its configuration become a durable function."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter

from stepwell import values
from stepwell.context import Context
from stepwell.spec.duration import DurationLike
from stepwell.spec.function import (
    Backoff,
    CancelOn,
    Checkpointing,
    Concurrency,
    CronTrigger,
    EventTrigger,
    FunctionSpec,
    Timeouts,
    failure_spec,
    validate,
)

DataT = TypeVar("DataT")
R = TypeVar("R")
Handler = Callable[[Context[DataT]], Awaitable[R]]


@dataclass(frozen=True, slots=True)
class OnEvent(Generic[DataT]):
    """An event trigger, with the model that its data is read as."""

    trigger: EventTrigger
    model: type[DataT] | None = None


@dataclass(frozen=True, slots=True)
class OnCron:
    """A cron trigger."""

    trigger: CronTrigger


def on_event(name: str, model: type[Any] | None = None, *, if_: str | None = None) -> OnEvent[Any]:
    """Start for every event of this name (`app/*`: of every name under it) for which `if_`, CEL over `event`, is true.

    With a model (pydantic, dataclass, TypedDict) `ctx.event.data` is one; data that doesn't fit fails the run with the reason.
    """
    return OnEvent(EventTrigger.model_validate({"event": name, "if": if_} if if_ is not None else {"event": name}), model)


def on_cron(
    expression: str,
    *,
    jitter: DurationLike | None = None,
    missed: str = "Latest",
    window: DurationLike = "1h",
    overlap: str = "Allow",
) -> OnCron:
    """Start at every instant of a cron expression: five fields or `@hourly` to `@yearly`, with `TZ=Zone ` before it or in UTC.

    `missed` says what becomes of instants that nobody was there for, back to `window`; `overlap` what happens while the run
    before is still going; `jitter` delays each start by a fixed draw below it.
    """
    given: dict[str, Any] = {"cron": expression, "missed": missed, "window": window, "overlap": overlap}
    if jitter is not None:
        given["jitter"] = jitter
    return OnCron(CronTrigger.model_validate(given))


@dataclass(frozen=True)
class Function(Generic[DataT, R]):
    """A durable function: its spec and its handler. `on_failure` is the function that runs when a run of it has failed."""

    spec: FunctionSpec
    handler: Handler[DataT, R]
    models: tuple[tuple[str, Any], ...] = ()
    on_failure: "Function[Any, Any] | None" = None

    @property
    def id(self) -> str:
        """The function's id."""
        return self.spec.id

    @cached_property
    def returns(self) -> Any:
        """The type that the handler is annotated to return."""
        return values.hint_of(self.handler)

    @cached_property
    def adapters(self) -> dict[str, TypeAdapter[Any]]:
        """What reads an event's data, by event name."""
        return {name: TypeAdapter(model) for name, model in self.models}

    async def __call__(self, ctx: Context[DataT]) -> R:
        """Call the handler as it is, in a test of its own; durable execution goes through a runner."""
        return await self.handler(ctx)


def function(  # noqa: PLR0913 - the options are the public face
    *,
    id: str,
    triggers: Sequence[OnEvent[Any] | OnCron] = (),
    retries: int = 4,
    backoff: Backoff | None = None,
    concurrency: int | Concurrency | Sequence[Concurrency] = (),
    idempotency: str | None = None,
    cancel_on: Sequence[CancelOn] = (),
    timeouts: Timeouts | None = None,
    checkpointing: Checkpointing | None = None,
    on_failure: Callable[[Context[Any]], Awaitable[Any]] | None = None,
) -> Callable[[Callable[[Context[DataT]], Awaitable[R]]], Function[DataT, R]]:
    """Make an async function durable. Raises SpecError naming every option that is wrong, where, and how to mend it.

    `id` is unique in its namespace and never changes: runs are keyed by it. `retries` are per step and per stretch between
    steps (4: five tries). `on_failure(ctx)` runs as a function of its own, `<id>-failure`, when a run has failed.
    """
    given: dict[str, Any] = {
        "id": id,
        "triggers": [one.trigger.model_dump(by_alias=True, exclude_none=True) for one in triggers],
        "retries": retries,
        "concurrency": _limits(concurrency),
        "idempotency": idempotency,
        "cancelOn": [one.model_dump(by_alias=True, exclude_none=True) for one in cancel_on],
    }
    if on_failure is not None:
        given["onFailure"] = f"{on_failure.__module__}:{on_failure.__qualname__}"
    for name, option in (("backoff", backoff), ("timeouts", timeouts), ("checkpointing", checkpointing)):
        if option is not None:
            given[name] = option.model_dump(by_alias=True, exclude_none=True)
    spec = validate(given)

    def make(handler: Callable[[Context[DataT]], Awaitable[R]]) -> Function[DataT, R]:
        models = tuple((one.trigger.event, one.model) for one in triggers if isinstance(one, OnEvent) and one.model is not None)
        cleanup = None if on_failure is None else _cleanup(spec, on_failure)
        return Function(spec, handler, models, cleanup)

    return make


def _limits(concurrency: int | Concurrency | Sequence[Concurrency]) -> list[dict[str, Any]]:
    if isinstance(concurrency, int):
        return [{"limit": concurrency}]
    many = [concurrency] if isinstance(concurrency, Concurrency) else concurrency
    return [one.model_dump(by_alias=True, exclude_none=True) for one in many]


def _cleanup(spec: FunctionSpec, handler: Callable[[Context[Any]], Awaitable[Any]]) -> Function[Any, Any] | None:
    cleanup = failure_spec(spec)
    return None if cleanup is None else Function(cleanup, handler)
