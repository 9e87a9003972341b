"""`FunctionSpec`: all that is configured of a function. Decorators fill it, manifests parse into it, stores keep its JSON.

Names are snake_case in Python and camelCase in YAML and JSON (`cancel_on`, `cancelOn`); both are read everywhere.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from stepwell.errors import SpecError
from stepwell.spec.expression import compile_key
from stepwell.spec.fault import refusal, refusal_of, spec_error
from stepwell.spec.option import CONFIG, option_names, yaml_name
from stepwell.spec.options import Backoff, CancelOn, Checkpointing, Concurrency, ExpressionText, Timeouts
from stepwell.spec.text import CLEANUP_FORM
from stepwell.spec.triggers import CronTrigger, EventTrigger, Trigger, kind_of, same_start

__all__ = [
    "Backoff",
    "CancelOn",
    "Checkpointing",
    "Concurrency",
    "CronTrigger",
    "EventTrigger",
    "FunctionSpec",
    "Timeouts",
    "Trigger",
    "failure_spec",
    "validate",
]

MAX_ID = 128
MAX_RETRIES = 20
MAX_TRIGGERS = 10
MAX_CANCELS = 5
MAX_LIMITS = 2
MAX_EXPRESSIONS = 10
FAILURE_SUFFIX = "-failure"

_ID = re.compile(r"[A-Za-z0-9._-]+")
_TRIGGER_FAULT = "a trigger has either `event` (with `if`) or `cron` (with `jitter`, `missed`, `window`, `overlap`)"

AnyTrigger = Annotated[
    Annotated[EventTrigger, Tag("<event>")] | Annotated[CronTrigger, Tag("<cron>")],
    Discriminator(
        kind_of,
        custom_error_type="spec",
        custom_error_message="{text}",
        custom_error_context={"text": _TRIGGER_FAULT, "at": "", "column": ""},
    ),
]


def _listed(value: object) -> object:
    """`10` and `{limit: 10}` stand for a list of one limit."""
    if isinstance(value, int) and not isinstance(value, bool):
        return [{"limit": value}]
    return [value] if isinstance(value, (Concurrency, Mapping)) else value  # pyright: ignore[reportUnknownVariableType]


class FunctionSpec(BaseModel):
    """One function's configuration, checked: every expression in it compiles and every cron expression fires."""

    model_config = {**CONFIG, "frozen": True}

    id: Annotated[str, Field(strict=True)]
    triggers: Annotated[tuple[AnyTrigger, ...], Field(max_length=MAX_TRIGGERS)] = ()
    """What starts a run; without triggers other functions and the API may still invoke it."""
    retries: Annotated[int, Field(strict=True, ge=0, le=MAX_RETRIES)] = 4
    """How often a step, or the code between two steps, is tried again after it failed: 4 are five tries."""
    backoff: Backoff = Backoff()
    """How long to wait before the next try."""
    concurrency: Annotated[tuple[Concurrency, ...], BeforeValidator(_listed), Field(max_length=MAX_LIMITS)] = ()
    """How many runs may execute at once. Runs that sleep or wait don't count."""
    idempotency: ExpressionText | None = None
    """CEL over `event`, such as event.data.orderId: for 24 hours each of its values starts one run."""
    cancel_on: Annotated[tuple[CancelOn, ...], Field(max_length=MAX_CANCELS)] = ()
    """Events that cancel a run."""
    timeouts: Timeouts = Timeouts()
    """When a run is cancelled for taking too long."""
    checkpointing: Checkpointing = Checkpointing()
    """When finished steps are written down; each at once if left out."""
    on_failure: Annotated[str, WithJsonSchema(CLEANUP_FORM.schema())] | None = None
    """The handler of `<id>-failure`, the function that runs when a run of this one has failed."""

    def to_json(self) -> bytes:
        """The spec as JSON, without what is left at its default; equal specs give equal bytes."""
        return self.model_dump_json(by_alias=True, exclude_defaults=True).encode()

    @classmethod
    def from_json(cls, data: bytes | str) -> Self:
        """Read `to_json`'s bytes; raise SpecError if this version can't take them."""
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise spec_error(error, OPTIONS, snake=False) from None

    @field_validator("id")
    @classmethod
    def _check_id(cls, value: str) -> str:
        if not value or len(value) > MAX_ID:
            raise refusal(f"an id has 1 to {MAX_ID} characters, not {len(value)}")
        if value.startswith(("stepwell/", "inngest/")):
            raise refusal(f"{value!r}: names that begin with stepwell/ or inngest/ are the engine's own; choose another")
        if _ID.fullmatch(value) is None:
            raise refusal(f"{value!r}: an id is made of letters, digits, `.`, `_` and `-` (ASCII), such as process-order")
        return value

    @field_validator("triggers")
    @classmethod
    def _check_triggers(cls, value: tuple[Trigger, ...]) -> tuple[Trigger, ...]:
        for place, trigger in enumerate(value):
            for earlier, other in enumerate(value[:place]):
                if same_start(trigger, other):
                    what = "the same cron expression" if isinstance(trigger, CronTrigger) else "the same event and `if`"
                    raise refusal(f"{what} as triggers[{earlier}]; remove one of them", f"[{place}]")
        return value

    @field_validator("concurrency")
    @classmethod
    def _check_concurrency(cls, value: tuple[Concurrency, ...]) -> tuple[Concurrency, ...]:
        if len(value) == MAX_LIMITS and (value[0].key, value[0].scope) == (value[1].key, value[1].scope):
            raise refusal(
                "the same key and scope as concurrency[0]; the smaller limit alone would count, so remove the other", "[1]"
            )
        return value

    @field_validator("idempotency")
    @classmethod
    def _check_idempotency(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                compile_key(value)
            except SpecError as error:
                raise refusal_of(error) from None
        return value

    @model_validator(mode="after")
    def _check_whole(self) -> Self:
        count = sum(1 for text in self.expressions() if text is not None)
        if count > MAX_EXPRESSIONS:
            raise refusal(f"{count} expressions in one function; at most {MAX_EXPRESSIONS} are allowed: join some with `||`")
        if self.on_failure is not None and len(self.id) > MAX_ID - len(FAILURE_SUFFIX):
            raise refusal(
                f"with onFailure an id has at most {MAX_ID - len(FAILURE_SUFFIX)} characters, for `{FAILURE_SUFFIX}` is added",
                "id",
            )
        return self

    def expressions(self) -> Sequence[str | None]:
        """Every expression that it has, None where one is left out."""
        filters = [trigger.if_ for trigger in self.triggers if isinstance(trigger, EventTrigger)]
        return [*filters, *(rule.if_ for rule in self.cancel_on), *(limit.key for limit in self.concurrency), self.idempotency]


OPTIONS: dict[str, tuple[str, ...]] = {
    "": tuple(yaml_name(name) for name in FunctionSpec.model_fields),
    "triggers[]": tuple(dict.fromkeys(option_names(EventTrigger) + option_names(CronTrigger))),
    "backoff": option_names(Backoff),
    "concurrency[]": option_names(Concurrency),
    "cancelOn[]": option_names(CancelOn),
    "timeouts": option_names(Timeouts),
    "checkpointing": option_names(Checkpointing),
}
"""The names of all options, by where they stand."""


def validate(given: Mapping[str, Any], at: str = "") -> FunctionSpec:
    """Read a spec from a mapping in YAML's names or Python's, or raise one SpecError that names every fault.

    Paths are shown the way the mapping spells its names (`cancel_on[0].if` or `cancelOn[0].if`), below `at`.
    """
    snake = any("_" in name for name in given)
    try:
        return FunctionSpec.model_validate(dict(given))
    except ValidationError as error:
        raise spec_error(error, OPTIONS, snake=snake, at=at) from None


def failure_spec(spec: FunctionSpec) -> FunctionSpec | None:
    """The spec of the function that handles failures of this one: `<id>-failure`, retried like it; None if there is none."""
    if spec.on_failure is None:
        return None
    trigger = EventTrigger("stepwell/function.failed", if_=f'event.data.function_id == "{spec.id}"')
    return FunctionSpec(id=spec.id + FAILURE_SUFFIX, triggers=(trigger,), retries=spec.retries, backoff=spec.backoff)
