"""The rows of a well, as the engine hands them to a store and gets them back.

Conventions: every instant is an integer, µs since 1970 UTC, on the store's clock; every payload is JSON as bytes, already
checked; ids are text. Nothing here is mutable and nothing here decides.
"""

from dataclasses import dataclass
from enum import IntEnum

from stepwell.engine.run import RunStatus

FOREVER = 2**62
"""The due time of what only something else can wake (about 146,000 years on)."""


class StepKind(IntEnum):
    """What a journal entry or an open wait stands for; the numbers are stored and never change."""

    RUN = 1
    SLEEP = 2
    EVENT = 3
    INVOKE = 4
    SEND_EVENT = 5
    SIGNAL = 6
    SEND_SIGNAL = 7
    CANCEL = 9
    """A listener that cancels its run (`cancel_on`); never a step, `occurrence` is its place in the list."""


class TriggerKind(IntEnum):
    """Why a run was created; the numbers are stored and never change."""

    EVENT = 1
    CRON = 2
    INVOKE = 3
    MANUAL = 4
    RERUN = 5


class Parked(IntEnum):
    """What a run without a lease is doing; the numbers are stored and never change."""

    QUEUED = 0
    SLEEPING = 1
    WAITING = 2

    @property
    def status(self) -> RunStatus:
        """The run's status while nobody holds its lease."""
        return {0: RunStatus.QUEUED, 1: RunStatus.SLEEPING, 2: RunStatus.WAITING}[self]


class EventFate(IntEnum):
    """What became of an offered event."""

    ACCEPTED = 1
    DUPLICATE = 2
    """The same id with the same body was accepted before (within the 7 days that ids are kept)."""
    CONFLICT = 3
    """The same id was accepted before with another body; the first wins."""
    REFUSED = 4
    """Its guard didn't land: the turn was fenced or the tick was already accounted for."""


class TickOutcome(IntEnum):
    """What the cron ledger says of a due instant; the numbers are stored and never change."""

    FIRED = 1
    COALESCED = 2
    """A later missed tick stands for it (`missed="Latest"`, or beyond the hundred that `All` catches up)."""
    SKIPPED = 3
    """Missed under `missed="Skip"`."""
    WINDOW_SKIPPED = 4
    """Missed for longer than the window."""
    OVERLAP_SKIPPED = 5
    """The run before was still going (`overlap="Skip"`)."""


# --- what goes in -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EventRow:
    """One accepted fact. `data` is the JSON of the whole event as user code sees it: `{"id","name","data","ts"[,"v"]}`.

    `body_hash` is the SHA-256 of what the sender said (name, data, and ts and v where given). `turn` and `tick` are
    guards: places in the pile of the turn that sends it or the tick that fires it, -1 for neither; the event is accepted
    only if its guard lands.
    """

    id: str
    name: str
    data: bytes
    body_hash: bytes
    ts: int
    turn: int = -1
    tick: int = -1


@dataclass(frozen=True, slots=True)
class Wait:
    """One open wait of a run: a sleep, an event, a signal, an invoked run, a step's retry, or a cancel listener.

    `due` is when it ends by itself (a sleep's end, a timeout, a retry's time), FOREVER if never. `attempt` counts the
    failed tries of a RUN step. `match_key` finds it when an event or signal comes (an opaque digest of name, path and
    value); `residual` is the CEL text still to be checked, with `context` (JSON of the triggering event) as `event`.
    `detail` is JSON for people: what is waited for, or the error that is retried.
    """

    kind: StepKind
    step_id: str
    occurrence: int
    due: int
    opened: int
    attempt: int = 0
    name: str | None = None
    match_key: str | None = None
    residual: str | None = None
    context: bytes | None = None
    target_run: str | None = None
    detail: bytes | None = None


@dataclass(frozen=True, slots=True)
class StepRow:
    """One journal entry: written once, never changed. `value` is the result's JSON, or the error's where `ok` is false."""

    step_id: str
    occurrence: int
    kind: StepKind
    ok: bool
    value: bytes
    attempts: int
    started: int
    ended: int


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One failed try of a step, or of the code between steps (`step_id` empty). `error` is JSON."""

    step_id: str
    occurrence: int
    attempt: int
    started: int
    ended: int
    error: bytes
    retry_at: int | None


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal sent by a turn's step; `value` is the JSON handed to the wait that takes it."""

    match_key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Park:
    """Give the lease back and execute again from `due` on.

    `attempt` counts failed tries of the stretch that begins after `attempt_steps` recorded steps. A drain parks with `due` 0.
    """

    due: int
    state: Parked
    attempt: int = 0
    attempt_steps: int = 0


@dataclass(frozen=True, slots=True)
class End:
    """The run's last word: COMPLETED with its output, or FAILED with its error, as JSON."""

    status: RunStatus
    value: bytes


@dataclass(frozen=True, slots=True)
class Turn:
    """All that one execution commits for its run at once. Lands whole, or not at all when the epoch is no longer its own.

    `closes` names open waits (step_id, occurrence, kind) that entries of `steps` resolve (a sleep that is over, a wait
    that timed out, a retried step that is done): where the wait has already been taken by somebody else, that step is
    *not* recorded and comes back in `TurnResult.lost`. A step that is already recorded stays as it is and comes back in
    `lost` too, unless it was recorded with the same bytes under the same epoch (a resent write).
    `opens` are upserted (a retry moves on).
    `inbox` is the run's inbox as the execution has seen it: a park is due at once where the queue row's is larger.
    `then` is None while the execution goes on.
    """

    run_id: str
    epoch: int
    steps: tuple[StepRow, ...] = ()
    closes: tuple[tuple[str, int, StepKind], ...] = ()
    opens: tuple[Wait, ...] = ()
    attempts: tuple[AttemptRow, ...] = ()
    signal: Signal | None = None
    inbox: int = 0
    then: Park | End | None = None

    @property
    def ends(self) -> bool:
        """Whether the run ends with this turn."""
        return isinstance(self.then, End)


@dataclass(frozen=True, slots=True)
class Start:
    """One run to create. `event` and `turn` are guards as in `EventRow`; `input` is the JSON list of its events.

    `idempotency_key` set: at most one run per (function, key) until `idempotency_until`; a second one is recorded as
    skipped with the first run's id, or, when invoked (`turn` >= 0 or trigger INVOKE), the first run stands in for it.
    `concurrency` holds up to two keys that count leases. `lease_to` names the runner that executes it at once (fused start
    and claim, epoch 1); only for runs that are due and have no concurrency key.
    `start_by` cancels the run if nobody claimed it by then; `finish_within` µs from its first claim cancels it too.
    """

    run_id: str
    function_id: str
    revision: str
    pool: str
    trigger: TriggerKind
    input: bytes
    event_ids: tuple[str, ...]
    created: int
    due: int
    event: int = -1
    turn: int = -1
    priority: int = 0
    concurrency: tuple[str, ...] = ()
    idempotency_key: str | None = None
    idempotency_until: int = 0
    start_by: int | None = None
    finish_within: int | None = None
    cancel_on: tuple[Wait, ...] = ()
    rerun_of: str | None = None
    lease_to: str | None = None


ENDED_WAIT, CANCELLED_RUN = "ended wait", "cancelled run"


@dataclass(frozen=True, slots=True)
class Decision:
    """What an accepted event did beside starting runs.

    Why it did not start a function though its name matched: a rule's refusal or an expression's error. Or what it is to do to a
    live run: ENDED_WAIT ("RUN STEP" in `detail`) or CANCELLED_RUN ("RUN"), without a function. Such a row says what was decided;
    whether the event was the one that did it, the run's own rows say (`Store.ended_by` asks both).
    """

    event: int
    function_id: str
    decision: str
    detail: str


@dataclass(frozen=True, slots=True)
class Consume:
    """Give an event to a wait: the wait goes, the step is recorded with `value`, the run wakes. `event` is the guard."""

    event: int
    run_id: str
    kind: StepKind
    step_id: str
    occurrence: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Cancel:
    """End a live run as CANCELLED (or FAILED, for a poisoned one). `event` is a guard as in `EventRow`.

    `value` is the error's JSON. `only_unclaimed`: only if the run has never been claimed (its start timeout).
    """

    run_id: str
    value: bytes
    status: RunStatus = RunStatus.CANCELLED
    event: int = -1
    only_unclaimed: bool = False


@dataclass(frozen=True, slots=True)
class Tick:
    """One due instant for the ledger. Lands once per (schedule, due). FIRED ticks have an event and a start behind them.

    `overlap` (0 Allow, 1 Skip, 2 Replace) is applied by the store against the schedule's last run: Skip turns FIRED into
    OVERLAP_SKIPPED while that run lives, Replace cancels it. `next_due` moves the schedule on (never back).
    """

    schedule_id: str
    due: int
    outcome: TickOutcome
    reason: str
    next_due: int
    overlap: int = 0
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """One function's concurrency limits, in the order of its keys; at most two, 0 for none."""

    function_id: str
    first: int = 0
    second: int = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """Ask for up to `room` due runs of these pools and functions, and for news of runs already held.

    `watch` pairs a held run with (epoch, inbox) as last seen. `sweep` also frees expired leases, lifts concurrency blocks
    that nothing holds any more, and reports overdue and poisoned runs.
    """

    runner_id: str
    pools: tuple[str, ...]
    functions: tuple[str, ...]
    room: int
    limits: tuple[Limit, ...] = ()
    watch: tuple[tuple[str, int, int], ...] = ()
    sweep: bool = False


@dataclass(frozen=True, slots=True)
class Pile:
    """What one process commits in one transaction by one statement, in this order: checks, turns, ticks, events, rest.

    `registry_version` must be current, else nothing lands and `PileResult.stale` is true (-1: don't care).
    `match_keys` are those of all events: if an open wait or cancel listener has one of them, nothing lands and
    `PileResult.candidates` holds them, so that the caller can decide and come back with empty `match_keys`.
    `system_events`: ends are noted in the outbox, for somebody listens to `stepwell/function.*`.
    `now`: the instant to use for the store's clock, in tests; None for the store's own.
    """

    registry_version: int = -1
    now: int | None = None
    system_events: bool = False
    match_keys: tuple[str, ...] = ()
    turns: tuple[Turn, ...] = ()
    ticks: tuple[Tick, ...] = ()
    events: tuple[EventRow, ...] = ()
    starts: tuple[Start, ...] = ()
    decisions: tuple[Decision, ...] = ()
    consumes: tuple[Consume, ...] = ()
    cancels: tuple[Cancel, ...] = ()
    wakes: tuple[str, ...] = ()
    """Runs that are to be due now, where nobody holds their lease: their warm execution goes on by itself."""
    outbox_done: tuple[str, ...] = ()
    """Run ids whose outbox entry is done with by this pile's events."""
    claim: Claim | None = None
