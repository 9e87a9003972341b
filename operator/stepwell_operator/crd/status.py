"""The status of the two kinds: written by the operator alone, bounded like everything else. Nothing is read back from it."""

from typing import Annotated, Literal

from pydantic import Field, WithJsonSchema

from stepwell.spec.option import Option, option
from stepwell.spec.options import MAX_NAME
from stepwell.spec.text import Text

MAX_CONDITIONS = 16
MAX_LISTED_REVISIONS = 64
MAX_SCHEDULES = 10
MAX_MESSAGE = 32_768
MAX_SUMMARY = 1024

ConditionType = Annotated[str, Text(64, "a condition's name", "^[A-Z][A-Za-z]*$")]
Reason = Annotated[str, Text(128, "a reason in CamelCase", "^[A-Z][A-Za-z0-9]*$")]
Message = Annotated[str, Text(MAX_MESSAGE, "text", None, 0)]
Summary = Annotated[str, Text(MAX_SUMMARY, "text", None, 0)]
Name = Annotated[str, Text(253, "a name", None, 0)]
Instant = Annotated[str, WithJsonSchema({"type": "string", "maxLength": 64})]
CronText = Annotated[str, Text(MAX_NAME, "a cron expression")]
Count = Annotated[int, Field(ge=0)]


@option
class Condition(Option):
    """One thing that is true of the object, or not, or not known."""

    type: ConditionType
    """What the condition is about: Ready sums up all others."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Reason
    """Why, in one word of a fixed list."""
    message: Message
    """Why, in a sentence."""
    last_transition_time: Annotated[str, WithJsonSchema({"type": "string", "format": "date-time", "maxLength": 64})]
    """Since when `status` is what it is."""
    observed_generation: Count | None = None
    """The generation of the spec that this was said of."""


@option
class Revision(Option):
    """One revision of the code that is current or still has runs."""

    id: Annotated[str, Text(64, "a revision's id")]
    """The revision's id: a hash of its code, its handler and its pods."""
    phase: Literal["Current", "Coming", "Draining"]
    """Current: new runs begin on it. Coming: its pods are not ready yet. Draining: it stands until its last run has ended."""
    pool: Name | None = None
    """The Deployment that runs it."""
    active_runs: Count | None = None
    """How many runs on it have not ended; rounded."""
    due_runs: Count | None = None
    """How many of them are due now; rounded."""


@option
class Runs(Option):
    """How many runs of the function there are. Rounded, and refreshed now and then."""

    active: Count | None = None
    """Runs that have not ended."""
    queued: Count | None = None
    """Runs that wait for a runner, a slot of a limit, their time or another try; no longer asleep, waiting for nothing else."""
    due: Count | None = None
    """Runs that wait for a runner now."""


@option
class Schedule(Option):
    """One cron trigger."""

    cron: CronText
    """The cron expression."""
    last_schedule_time: Instant | None = None
    """When it last fired."""
    next_schedule_time: Instant | None = None
    """When it fires next."""


@option
class FunctionStatus(Option):
    """What the operator last saw of the function. It can be worked out anew at any time."""

    observed_generation: Count | None = None
    """The generation of the spec that this status is about."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=MAX_CONDITIONS)] = ()
    """Ready, SpecAccepted, StoreReady, RunnersAvailable, Progressing, SchedulesReady, Draining, Suspended and Paused."""
    current_revision: Name | None = None
    """The revision on which new runs begin."""
    target_revision: Name | None = None
    """The revision that the spec asks for."""
    revisions: Annotated[tuple[Revision, ...], Field(max_length=MAX_LISTED_REVISIONS)] = ()
    """The current revision and those whose runs have not ended."""
    replicas: Count | None = None
    """How many runners the current revision's pool has."""
    ready_replicas: Count | None = None
    """How many of them are ready."""
    selector: Summary | None = None
    """The label selector of these pods, for autoscalers."""
    runs: Runs | None = None
    """How many runs there are. Rounded, and refreshed now and then."""
    schedules: Annotated[tuple[Schedule, ...], Field(max_length=MAX_SCHEDULES)] = ()
    """The cron triggers, with when they fired last and fire next."""
    triggers_summary: Summary | None = None
    """What starts a run, on one line."""
    next_schedule_time: Instant | None = None
    """When the next cron trigger fires."""
    store: Name | None = None
    """Where the function's runs are kept."""
    draining: Count | None = None
    """How many old revisions still have runs."""


@option
class StoreStatus(Option):
    """What the operator last saw of the store. It can be worked out anew at any time."""

    observed_generation: Count | None = None
    """The generation of the spec that this status is about."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=MAX_CONDITIONS)] = ()
    """Ready: the store can be reached and its schema is up to date."""
    schema: Name | None = None
    """The schema that is the well."""
