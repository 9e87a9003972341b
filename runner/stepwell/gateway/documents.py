"""What answers look like: documents for OpenAPI. The answers are made as plain rows (`views`), and held to these by a test."""

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")
Instant = str
RunState = Literal["QUEUED", "RUNNING", "SLEEPING", "WAITING", "COMPLETED", "FAILED", "CANCELLED", "SKIPPED"]


class Document(BaseModel):
    """Exactly these fields."""

    model_config = ConfigDict(extra="forbid")


class Metadata(Document):
    """When the data was true; on lists also where the next page begins."""

    fetched_at: Instant
    cursor: str | None = None


class Answer(Document, Generic[T]):
    """What every route but `POST /e/{key}` answers with."""

    data: T
    metadata: Metadata


class Problem(BaseModel):
    """An RFC 9457 problem document."""

    type: str
    title: str
    status: int
    detail: str


class EventResult(Document):
    """The fate of one event. Accepted and duplicate ones are stored."""

    id: str | None
    status: Literal["accepted", "duplicate", "conflict", "invalid", "forbidden"]
    error: str | None = None


class Ingested(Document):
    """All events of the request are stored; `ids` are theirs, in the order sent."""

    ids: list[str]
    status: Literal[200]
    results: list[EventResult]


class IngestProblem(Problem):
    """Some event was not taken; those in `ids` are stored."""

    ids: list[str] = []
    results: list[EventResult] = []


class Cancellation(Document):
    """How many runs were meant, and how many were cancelled: none of them in a dry run."""

    matched: int
    cancelled: int


class Reruns(Document):
    """How many runs were meant, and the new ones: none in a dry run."""

    matched: int
    run_ids: list[str]


class RunRef(Document):
    """A run that was just made."""

    run_id: str
    function_id: str
    status: RunState


class CancelledRun(Document):
    """A run that was cancelled."""

    run_id: str
    status: RunState


class WaitingForDocument(Document):
    """Why a live run isn't moving, since when, until when, and what happens next."""

    kind: Literal[
        "running", "due", "no_runner", "scheduled", "retry", "limit", "sleep", "event", "signal", "run", "several", "paused"
    ]
    sentence: str
    since: Instant
    until: Instant | None
    next: str


class RunInList(Document):
    """A run among others."""

    run_id: str
    function_id: str
    revision: str
    status: RunState
    trigger: Literal["EVENT", "CRON", "INVOKE", "MANUAL", "RERUN"]
    output: Any
    output_bytes: int | None
    error: Any
    created_at: Instant
    run_started_at: Instant | None
    ended_at: Instant | None
    event_ids: list[str]
    rerun_of: str | None


class ProgressDocument(Document):
    """How far a step's attempt is, in its own words."""

    step_id: str
    occurrence: int
    attempt: int
    ratio: float = Field(ge=0, le=1)
    note: str = Field(max_length=200)
    told_at: Instant


class RunDocument(RunInList):
    """A run. `progress` is what its steps under way tell: as of its runner's last beat, or of now in `dev`."""

    waiting_for: WaitingForDocument | None
    progress: list[ProgressDocument]


class FailedAttempt(Document):
    """One failed try."""

    attempt: int
    started_at: Instant
    ended_at: Instant
    retry_at: Instant | None
    error: Any


class StepDocument(Document):
    """A step: recorded, or open (`QUEUED` once its time has come and its run has not gone on yet).

    `CODE` with an empty id stands for the code between steps, and its failed tries.
    """

    id: str
    occurrence: int
    kind: Literal["RUN", "SLEEP", "EVENT", "INVOKE", "SEND_EVENT", "SIGNAL", "SEND_SIGNAL", "CODE"]
    status: Literal["COMPLETED", "FAILED", "RETRIED", "QUEUED", "RETRYING", "SLEEPING", "WAITING"]
    output: Any
    error: Any
    attempts: int
    started_at: Instant
    ended_at: Instant | None
    until: Instant | None
    failed_attempts: list[FailedAttempt]


class EventDocument(Document):
    """An accepted event."""

    id: str
    name: str
    data: dict[str, Any]
    ts: int
    v: str | None = None
    traceparent: str | None = None
    received_at: Instant
    registry_version: int


class Reaction(Document):
    """What one function did about an event: `started` with its run (and what that waits for), or a decision and its reason.

    Decisions: `started`, `skipped` (a duplicate, by idempotency), `not matched`, `expression error`, `inactive`, and beside a run
    that started `idempotency key has no value` and `concurrency key has no value`. Of runs that lived: `ended wait` (the detail
    is its step) and `cancelled run`. `other name` only where the event did none of that, and no function listens to its name.
    """

    function_id: str
    decision: str
    detail: str | None
    run_id: str | None


class EventWhyDocument(Document):
    """What an event did in one sentence; `until` is when its runs may begin, where that lies ahead."""

    sentence: str
    since: Instant
    until: Instant | None
    next: str


class EventWithFunctions(EventDocument):
    """An event and what it did."""

    why: EventWhyDocument
    functions: list[Reaction]


class Schedule(Document):
    """A cron schedule."""

    id: str
    cron: dict[str, Any]
    last_due: Instant | None
    next_due: Instant | None


class Tick(Document):
    """A line of the cron ledger."""

    due: Instant
    outcome: Literal["FIRED", "COALESCED", "SKIPPED", "WINDOW_SKIPPED", "OVERLAP_SKIPPED"]
    reason: str
    run_id: str | None


class ScheduleWithLedger(Schedule):
    """A cron schedule and its last ticks, newest first."""

    ledger: list[Tick]


class PauseDocument(Document):
    """Who has a function's runs wait, since when and why; `source` tells whether by the API or by its manifest."""

    by: str
    since: Instant
    reason: str
    source: Literal["API", "MANIFEST"]
    sentence: str


class Resumed(Document):
    """A function that is not paused any more; `resumed` tells whether it was."""

    function_id: str
    resumed: bool


class FunctionWhyDocument(Document):
    """What holds a function back, or that nothing does; `since` is null where nothing waits."""

    kind: Literal["ready", "working", "inactive", "paused", "no_runner", "limit", "busy"]
    sentence: str
    since: Instant | None
    until: Instant | None
    next: str


class FunctionDocument(Document):
    """A registered function. One that isn't `active` starts nothing; its runs in flight go on."""

    id: str
    revision: str
    pool: str
    owner: str
    active: bool
    paused: PauseDocument | None
    why: FunctionWhyDocument
    spec: dict[str, Any]
    schedules: list[Schedule]


class FunctionWithLedger(FunctionDocument):
    """A registered function with its schedules' ledgers."""

    schedules: list[ScheduleWithLedger]  # pyright: ignore[reportIncompatibleVariableOverride]


class KeyDocument(Document):
    """A key that was given out; what is secret in it was shown once."""

    key_id: str
    name: str
    kind: Literal["SEND", "WEBHOOK"]
    events: list[str]
    created_at: Instant
    created_by: str
    revoked_at: Instant | None
    revoked_by: str | None


class NewKeyDocument(KeyDocument):
    """A key that was just made: `key` is shown this once."""

    key: str


class RevokedKey(Document):
    """A key that lets nobody in any more."""

    key_id: str
    revoked: Literal[True]


class ActDocument(Document):
    """A privileged act: who did what to which thing, and whether they were let."""

    id: int
    at: Instant
    actor: str
    verb: str
    object: str
    decision: Literal["allowed", "denied"]
    request_id: str | None
    detail: dict[str, Any]


class Health(Document):
    """The process is alive."""

    alive: Literal[True]


class Readiness(Document):
    """The store answers and the registry is known."""

    ready: Literal[True]
    registry_version: int
    functions: int
