"""What of a well is shown to people and to Prometheus; the conventions are those of `records.py`."""

from dataclasses import dataclass, field

from stepwell.engine.run import RunStatus
from stepwell.store.records import AttemptRow, StepRow, TriggerKind, Wait


@dataclass(frozen=True, slots=True)
class ProgressRow:
    """How far a step's attempt is, in its own last words; `told` is when it said so."""

    run_id: str
    step_id: str
    occurrence: int
    attempt: int
    ratio: float
    note: str
    told: int


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as people look at it. `waits` and what follows are empty once it has ended."""

    run_id: str
    function_id: str
    revision: str
    trigger: TriggerKind
    status: RunStatus
    created: int
    started: int | None
    ended: int | None
    event_ids: tuple[str, ...]
    input: bytes
    value: bytes | None
    rerun_of: str | None = None
    due: int | None = None
    since: int | None = None
    pool: str = ""
    runner_id: str | None = None
    blocked_on: str | None = None
    attempt: int = 0
    waits: tuple[Wait, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordedStep:
    """A journal entry with its failed tries, for people."""

    step: StepRow
    attempts: tuple[AttemptRow, ...]


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An accepted event, for people. `data` is the JSON of the whole event."""

    id: str
    name: str
    data: bytes
    ts: int
    received: int
    registry_version: int


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to list, newest first. `before` is the cursor: only run ids smaller than it."""

    function_id: str | None = None
    status: RunStatus | None = None
    event_id: str | None = None
    before: str | None = None
    limit: int = 20
    created_after: int | None = None
    created_before: int | None = None


@dataclass(frozen=True, slots=True)
class LimitStats:
    """What counts under one of a function's concurrency rules; `place` is the rule's, 1 or 2. The age in µs.

    `in_use` are the unexpired leases, of any function, under the fullest of the keys that the function's live runs have.
    """

    place: int
    in_use: int
    blocked: int
    oldest_blocked_age: int


@dataclass(frozen=True, slots=True)
class FunctionStats:
    """The live figures of one function; ages in µs. `queued`, `running`, `sleeping` and `waiting` are all that live."""

    function_id: str
    queued: int = 0
    running: int = 0
    sleeping: int = 0
    waiting: int = 0
    oldest_due_age: int = 0
    limits: tuple[LimitStats, ...] = ()
    """For each rule under whose keys live runs are."""
    revision_due: tuple[tuple[str, int, int], ...] = ()
    """(revision, due, later) for each revision with queue items."""
    queued_due: int = 0
    """Queued runs that anybody may claim now."""
    queued_later: int = 0
    paused: int = 0
    """Runs whose time has come and that a pause holds; they aren't due while it lasts."""

    @property
    def blocked(self) -> int:
        """Due runs that a limit holds back; a run waits for one key at a time."""
        return sum(one.blocked for one in self.limits)

    @property
    def oldest_blocked_age(self) -> int:
        """Of the run that a limit has held back for longest."""
        return max((one.oldest_blocked_age for one in self.limits), default=0)


@dataclass(frozen=True, slots=True)
class RunnerRow:
    """One runner's lease. `broken` is what it was to execute and can't load: (function, revision, why)."""

    runner_id: str
    pools: tuple[str, ...]
    functions: tuple[str, ...]
    slots: int
    expires: int
    draining: bool
    broken: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class OverdueTimers:
    """So many runs whose sleep or wait is over for more than a second, and that nobody has claimed or blocked.

    `in_use` are the unexpired leases, of any function, under their first and their second concurrency key: alike for all of them.
    """

    function_id: str
    in_use: tuple[int, int]
    runs: int


@dataclass(frozen=True, slots=True)
class EndedBy:
    """What an event did to a live run: it ended this wait, or cancelled the run (no step)."""

    function_id: str
    run_id: str
    step_id: str | None


@dataclass(frozen=True, slots=True)
class Horizon:
    """The oldest transaction id that vacuum has to keep rows for, while younger ones are over already.

    `began` is when who holds it began (µs), or None: Postgres tells it of other roles' sessions to some roles only, and of a
    replication slot to nobody.
    """

    xid: int
    began: int | None = None


@dataclass(frozen=True, slots=True)
class Stats:
    """What the store knows for `/metrics`, in one look. `next_ticks` are (function, next due instant) of what has a schedule."""

    now: int
    functions: tuple[FunctionStats, ...]
    runners: tuple[RunnerRow, ...]
    overdue: tuple[OverdueTimers, ...]
    next_ticks: tuple[tuple[str, int], ...] = ()
    horizon: Horizon | None = None
    """What holds back vacuum; None where nothing does."""
    dead_tuples: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken invariant: its number ("I9"), what it says, and up to ten offending ids."""

    invariant: str
    statement: str
    offenders: tuple[str, ...] = field(default=())
