"""What a store answers to a pile, and what it reads when a run is resumed; the conventions are those of `records.py`."""

from dataclasses import dataclass

from stepwell.engine.run import RunStatus
from stepwell.store.records import FOREVER, EventFate, Start, StepRow, TickOutcome, TriggerKind, Wait


@dataclass(frozen=True, slots=True)
class TurnResult:
    """`landed` false: fenced, the lease belongs to somebody else or the run has ended.

    `lost` lists steps that were already resolved otherwise (step_id, occurrence): read the journal for the stored value.
    `refused` lists opens that could not be: a signal somebody else already waits for.
    `signalled` tells whether the turn's signal found a wait; a SEND_SIGNAL step's stored value is that boolean.
    """

    landed: bool
    lost: tuple[tuple[str, int], ...] = ()
    refused: tuple[tuple[str, int], ...] = ()
    signalled: bool = False


@dataclass(frozen=True, slots=True)
class StartResult:
    """`run_id` is the run that stands for this start: its own, or the first one of the same idempotency key.

    `landed`: the run was created and is live. `skipped`: it was recorded as skipped in favour of `run_id`.
    """

    landed: bool
    run_id: str
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """An open wait or cancel listener that an event of the pile may match."""

    run_id: str
    wait: Wait


@dataclass(frozen=True, slots=True)
class Claimed:
    """One run now leased to the asking runner. `fresh`: first claim ever, so its journal is empty.

    `lifted` is when a limit or a pause that held it back let it go, 0 where none did since it was due.
    """

    run_id: str
    function_id: str
    revision: str
    epoch: int
    inbox: int
    attempt: int
    attempt_steps: int
    due: int
    created: int
    trigger: TriggerKind
    input: bytes
    recovered: bool
    lifted: int = 0

    @classmethod
    def with_start(cls, start: Start) -> "Claimed":
        """The run that a start makes, claimed in the very same commit."""
        return cls(
            start.run_id,
            start.function_id,
            start.revision,
            epoch=1,
            inbox=0,
            attempt=0,
            attempt_steps=0,
            due=start.due,
            created=start.created,
            trigger=start.trigger,
            input=start.input,
            recovered=False,
        )

    @property
    def fresh(self) -> bool:
        """True on the first claim of the run's life: there is nothing to replay."""
        return self.epoch == 1

    @property
    def claimable(self) -> int:
        """Since when any free runner could have had it."""
        return max(self.due, self.lifted)


@dataclass(frozen=True, slots=True)
class News:
    """What happened to a watched run. `inbox` -1: it is no longer ours (cancelled, or taken over)."""

    run_id: str
    inbox: int


@dataclass(frozen=True, slots=True)
class Overdue:
    """A live run that the sweep found past a deadline, or poisoned. `reason`: "start", "finish" or "poison"."""

    run_id: str
    function_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Lost:
    """A run that the sweep took from its runner. `cause` is "lease_expired" or "restart", `beaten` the last beat (0: unknown)."""

    run_id: str
    function_id: str
    cause: str
    beaten: int


@dataclass(frozen=True, slots=True)
class PileResult:
    """The answers, in the order of the pile. `now` is the store's clock at the commit.

    `ready`: pools that got something to claim. `touched`: runs held by some runner whose inbox grew or that were cancelled.
    `next_due`: the earliest due time after now among the claim's pools (FOREVER if none).
    `outbox`: run ids that wait for their system events, at most 100, on a sweep.
    """

    now: int
    stale: bool = False
    registry_version: int = 0
    candidates: tuple[Candidate, ...] = ()
    turns: tuple[TurnResult, ...] = ()
    ticks: tuple[TickOutcome | None, ...] = ()
    events: tuple[EventFate, ...] = ()
    starts: tuple[StartResult, ...] = ()
    cancels: tuple[RunStatus | None, ...] = ()
    """For each cancel: the run's status afterwards; None if there is no such run (or its guard didn't land)."""
    claimed: tuple[Claimed, ...] = ()
    news: tuple[News, ...] = ()
    overdue: tuple[Overdue, ...] = ()
    lost: tuple[Lost, ...] = ()
    outbox: tuple[str, ...] = ()
    recovered: int = 0
    fenced: int = 0
    ready: tuple[str, ...] = ()
    touched: tuple[str, ...] = ()
    next_due: int = FOREVER


@dataclass(frozen=True, slots=True)
class Journal:
    """What a run has recorded and what it waits for, read when it is resumed without a warm execution."""

    run_id: str
    inbox: int
    steps: tuple[StepRow, ...]
    waits: tuple[Wait, ...]
