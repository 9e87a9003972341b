"""What starts a function: events and cron ticks."""

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import AfterValidator, WithJsonSchema, field_validator

from stepwell.errors import SpecError
from stepwell.spec.cron import MAX_LENGTH as MAX_CRON
from stepwell.spec.cron import parse_cron
from stepwell.spec.duration import Duration, DurationLike, format_duration
from stepwell.spec.expression import compile_filter
from stepwell.spec.fault import refusal, refusal_of
from stepwell.spec.names import check_event_name, native_name
from stepwell.spec.option import Option, option
from stepwell.spec.options import EventName, ExpressionText, Length

Missed = Literal["Skip", "Latest", "All"]
Overlap = Literal["Allow", "Skip", "Replace"]

CronText = Annotated[str, WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_CRON})]
LEAST_JITTER, MOST_JITTER = timedelta(seconds=1), timedelta(minutes=5)


def _jitter(value: timedelta) -> timedelta:
    if not LEAST_JITTER <= value <= MOST_JITTER:
        raise refusal(f"must be from 1s to 5m, not {format_duration(value)}; leave it out for none")
    return value


@option
class EventTrigger(Option):
    """Start for events of this name (or under `app/*`) for which `if_`, CEL over `event`, is true."""

    event: EventName
    """The name of the events that start a run; `app/*` and `app/user.*` stand for all that begin so."""
    if_: ExpressionText | None = None
    """CEL over `event`, such as event.data.total > 100; without it every such event starts a run."""

    @field_validator("event")
    @classmethod
    def _check_event(cls, value: str) -> str:
        check_event_name(value, wildcard=True)
        return value

    @field_validator("if_")
    @classmethod
    def _check_if(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                compile_filter(value, ("event",))
            except SpecError as error:
                raise refusal_of(error) from None
        return value


@option
class CronTrigger(Option):
    """Start at each instant of a cron expression.

    `missed`: what becomes of instants that passed while nobody was there to fire them, back to `window`: `Skip` them,
    fire the `Latest`, or fire `All` (a hundred at most). `overlap`: what happens while the run before still goes on.
    `jitter` delays each instant by a fixed part of it.
    """

    cron: CronText
    """Five fields (minute, hour, day of month, month, day of week) or a macro such as @daily; `TZ=Europe/Paris ` before it
    names the time zone, UTC without."""
    jitter: Annotated[Duration, AfterValidator(_jitter)] | None = None
    """Delays each instant by a fixed part of it; 1s to 5m."""
    missed: Missed = "Latest"
    """What becomes of instants that nobody was there to fire: Skip them, fire the Latest (the default), or All."""
    window: Length = timedelta(hours=1)
    """How far back missed instants count; 1h if left out."""
    overlap: Overlap = "Allow"
    """What happens while the run before still goes on: Allow both (the default), Skip the new one, Replace the old one."""

    if TYPE_CHECKING:

        def __init__(
            self,
            cron: str,
            jitter: DurationLike | None = None,
            missed: Missed = "Latest",
            window: DurationLike = "1h",
            overlap: Overlap = "Allow",
        ) -> None: ...

    @field_validator("cron")
    @classmethod
    def _check_cron(cls, value: str) -> str:
        try:
            parse_cron(value)
        except SpecError as error:
            raise refusal_of(error) from None
        return value


Trigger = EventTrigger | CronTrigger


def kind_of(value: object) -> str | None:
    """Which kind of trigger is meant; None if that can't be told."""
    if isinstance(value, EventTrigger | CronTrigger):
        return "<event>" if isinstance(value, EventTrigger) else "<cron>"
    if not isinstance(value, Mapping):
        return None
    kinds = [kind for kind in ("event", "cron") if kind in cast("Mapping[str, Any]", value)]
    return f"<{kinds[0]}>" if len(kinds) == 1 else None


def same_start(one: Trigger, other: Trigger) -> bool:
    """Tell whether the two start at the same things: the same event and `if`, or the same instants (whatever else they say)."""
    match one, other:
        case EventTrigger(), EventTrigger():
            return (native_name(one.event), one.if_) == (native_name(other.event), other.if_)
        case CronTrigger(), CronTrigger():
            return parse_cron(one.cron) == parse_cron(other.cron)
        case _:
            return False
