"""The options of a function beside its triggers: back-off, concurrency, cancellation, timeouts, checkpointing."""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, AliasChoices, Field, WithJsonSchema, field_validator, model_validator

from stepwell.errors import SpecError
from stepwell.spec.duration import Duration, DurationLike, format_duration
from stepwell.spec.expression import MAX_LENGTH as MAX_EXPRESSION
from stepwell.spec.expression import compile_filter, compile_key
from stepwell.spec.fault import refusal, refusal_of
from stepwell.spec.names import MAX_NAME, check_event_name
from stepwell.spec.option import Option, option

LIMIT = timedelta(days=366)
MAX_TABLE = 50
Strategy = Literal["exponential", "fixed", "linear", "table"]


def _within_limit(value: timedelta) -> timedelta:
    if value > LIMIT:
        raise refusal(f"{format_duration(value)} is too long; at most 366d")
    return value


def _some(value: timedelta) -> timedelta:
    if not value:
        raise refusal("must be longer than 0; leave it out for no limit")
    return value


Length = Annotated[Duration, AfterValidator(_within_limit)]
Bound = Annotated[Duration, AfterValidator(_within_limit), AfterValidator(_some)]
EventName = Annotated[str, WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_NAME})]
ExpressionText = Annotated[str, WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_EXPRESSION})]

TABLE = tuple(timedelta(seconds=seconds) for seconds in (15, 30, 60, 120, 300, 600, 1200, 2400, 3600, 7200))
"""How long to wait after the first, second, … failed try; the last one also after all that follow."""


@option
class Backoff(Option):
    """How long to wait before the next try.

    `table`: the n-th length after the n-th failed try. `fixed`: `base` each time. `linear`: `base`, 2 x `base`, …
    `exponential`: `base`, `base` x `factor`, … Never more than `max`, and up to `jitter` on top, drawn evenly.
    Left out: `base` 15 s, `factor` 2, `max` 2 h (for a table: none), `jitter` 30 s for a table and none for the others.
    """

    strategy: Strategy = "table"
    """How the waits grow; `table` if left out."""
    base: Length | None = None
    """The first wait; 15s if left out. Not for a table."""
    max: Length | None = None
    """The longest wait; 2h if left out, for a table none."""
    factor: Annotated[float, Field(strict=True, ge=1, le=100, allow_inf_nan=False)] | None = None
    """By how much each wait is longer than the one before; 2 if left out. For `exponential` alone."""
    jitter: Length | None = None
    """Up to how much is added to each wait, drawn evenly; for a table 30s if left out, else none."""
    table: Annotated[tuple[Length, ...], Field(max_length=MAX_TABLE)] = TABLE
    """The waits after the first, second, … failed try; the last one also after all that follow."""

    if TYPE_CHECKING:

        def __init__(
            self,
            strategy: Strategy = "table",
            base: DurationLike | None = None,
            max: DurationLike | None = None,
            factor: float | None = None,
            jitter: DurationLike | None = None,
            table: Sequence[DurationLike] = TABLE,
        ) -> None: ...

    @property
    def first(self) -> timedelta:
        """`base`, or 15 s."""
        return TABLE[0] if self.base is None else self.base

    @property
    def growth(self) -> float:
        """`factor`, or 2."""
        return 2.0 if self.factor is None else self.factor

    @property
    def ceiling(self) -> timedelta:
        """`max`, or 2 h; a table without `max` has none."""
        if self.max is not None:
            return self.max
        return LIMIT if self.strategy == "table" else TABLE[-1]

    @property
    def spread(self) -> timedelta:
        """`jitter`; for a table 30 s unless it is given, else none."""
        if self.jitter is not None:
            return self.jitter
        return timedelta(seconds=30 if self.strategy == "table" else 0)

    @field_validator("table")
    @classmethod
    def _check_table(cls, value: tuple[timedelta, ...]) -> tuple[timedelta, ...]:
        if not value:
            raise refusal("a table needs at least one length, such as [15s, 30s, 1m]")
        return value

    @model_validator(mode="after")
    def _check_fit(self) -> "Backoff":
        if self.strategy == "table" and (self.base is not None or self.factor is not None):
            unused = "base" if self.base is not None else "factor"
            raise refusal("has no meaning for a table; set strategy to fixed, linear or exponential", unused)
        if self.strategy != "table" and self.table != TABLE:
            raise refusal(f"has no meaning for strategy {self.strategy!r}; leave strategy out, or set it to table", "table")
        if self.strategy != "exponential" and self.factor is not None:
            raise refusal(f"has no meaning for strategy {self.strategy!r}; only exponential multiplies", "factor")
        return self


@option
class Concurrency(Option):
    """At most `limit` executions at once: of the function, or for each value of `key` (CEL over `event`).

    With scope `namespace` all functions that have the same key and scope count together; each tests its own limit.
    Runs that sleep or wait don't count.
    """

    limit: Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
    """How many may execute at once."""
    key: ExpressionText | None = None
    """CEL over `event`, such as event.data.customer: each of its values has the limit to itself."""
    scope: Literal["function", "namespace"] = "function"
    """Who counts: this function alone, or all functions of the namespace with the same key and scope."""

    @field_validator("key")
    @classmethod
    def _check_key(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                compile_key(value)
            except SpecError as error:
                raise refusal_of(error) from None
        return value

    @model_validator(mode="after")
    def _check_scope(self) -> "Concurrency":
        if self.scope == "namespace" and self.key is None:
            raise refusal(
                "scope namespace needs a key, which the functions that count together share: key=\"'mail-server'\"", "key"
            )
        return self


@option
class CancelOn(Option):
    """Cancel a run when this event comes and `if_`, CEL over `event` (the trigger) and `async` (the one that came), is true.

    Listens for `timeout` from the run's creation, 365 days unless given. Events from before the run never cancel it.
    """

    event: EventName
    """The name of the event that cancels."""
    if_: ExpressionText | None = None
    """CEL over `event` (which started the run) and `async` (which came now); without it every such event cancels."""
    timeout: Bound | None = None
    """For how long after a run's creation it can be cancelled so; 365d if left out."""

    if TYPE_CHECKING:

        def __init__(self, event: str, if_: str | None = None, timeout: DurationLike | None = None) -> None: ...

    @field_validator("event")
    @classmethod
    def _check_event(cls, value: str) -> str:
        check_event_name(value, wildcard=False)
        return value

    @field_validator("if_")
    @classmethod
    def _check_if(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                compile_filter(value)
            except SpecError as error:
                raise refusal_of(error) from None
        return value


@option
class Timeouts(Option):
    """Cancel a run that has not begun within `start` of being queued, or not ended within `finish` of its beginning.

    A manifest may write `run` for `finish`.
    """

    start: Bound | None = None
    """A run that has waited so long to begin is cancelled."""
    finish: Bound | None = Field(default=None, validation_alias=AliasChoices("finish", "run"))
    """A run that has gone on so long is cancelled."""

    if TYPE_CHECKING:

        def __init__(self, start: DurationLike | None = None, finish: DurationLike | None = None) -> None: ...

    @model_validator(mode="before")
    @classmethod
    def _check_run(cls, given: object) -> object:
        if isinstance(given, dict) and "run" in given and "finish" in given:
            raise refusal("`run` is another name for `finish`; give one of them", "run")
        return given  # pyright: ignore[reportUnknownVariableType]


@option
class Checkpointing(Option):
    """When finished steps are written down: by default each one before the next begins.

    Up to `buffered_steps` may wait to be written together, none longer than `max_interval`; a crash repeats those. An
    execution that has lasted `max_runtime` buffers no more.
    """

    max_runtime: Bound | None = None
    """An execution that has lasted so long writes down each step at once."""
    buffered_steps: Annotated[int, Field(strict=True, ge=1, le=1000)] = 1
    """How many finished steps may wait to be written down together."""
    max_interval: Bound | None = None
    """How long a finished step may wait to be written down."""

    if TYPE_CHECKING:

        def __init__(
            self, max_runtime: DurationLike | None = None, buffered_steps: int = 1, max_interval: DurationLike | None = None
        ) -> None: ...
