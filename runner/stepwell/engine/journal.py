"""A run's journal as its execution knows it: what is recorded, what waits, and what of both is not yet written. Pure.

Code has a step's result before its commit, so this runs ahead of the store by what is in `unwritten`. Two things stay open until
the commit has been answered: a time-out, since an event may have come first (`confirming`), and whether a signal met a wait.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from stepwell import values
from stepwell.engine.events import Fact
from stepwell.errors import StepMisuse, TooLarge
from stepwell.store.records import FOREVER, AttemptRow, Parked, Signal, Start, StepKind, StepRow, Wait
from stepwell.store.results import Claimed, Journal

Key = tuple[str, int]
"""A step's id, and how often the code used it before."""
WAITED_FOR = frozenset({StepKind.EVENT, StepKind.SIGNAL, StepKind.INVOKE})


@dataclass(slots=True)
class Unwritten:
    """What the next turn will carry."""

    steps: list[StepRow] = field(default_factory=list[StepRow])
    closes: list[tuple[str, int, StepKind]] = field(default_factory=list[tuple[str, int, StepKind]])
    opens: list[Wait] = field(default_factory=list[Wait])
    attempts: list[AttemptRow] = field(default_factory=list[AttemptRow])
    facts: list[Fact] = field(default_factory=list[Fact])
    starts: list[Start] = field(default_factory=list[Start])
    signal: Signal | None = None
    tried: list[tuple[str, str, float | None]] = field(default_factory=list[tuple[str, str, float | None]])
    """(step id, outcome, seconds) of attempts, counted once they are durable; code between steps has no id and no time."""
    retried: list[tuple[str, str, float, float]] = field(default_factory=list[tuple[str, str, float, float]])
    """(step id, reason, seconds until the next attempt, seconds lost)."""
    size: int = 200

    def __bool__(self) -> bool:
        return bool(self.steps or self.opens or self.attempts or self.closes)

    def fail(self, tried: AttemptRow, error: BaseException) -> None:
        """Note a failed try, of a step or of the code between steps."""
        seconds = (tried.ended - tried.started) / 1e6 if tried.step_id else None
        self.attempts.append(tried)
        self.tried.append((tried.step_id, "timeout" if isinstance(error, TimeoutError) else "error", seconds))
        if tried.retry_at is not None:
            pause = (tried.retry_at - tried.ended) / 1e6
            self.retried.append((tried.step_id, type(error).__name__, pause, seconds or 0.0))

    def forget_opens(self, wait: Wait) -> bool:
        """Drop what was not yet written of a wait that is over; whether some of it was, and has to be closed."""
        if not self.opens:
            return True
        key = (wait.step_id, wait.occurrence)
        kept = [one for one in self.opens if (one.step_id, one.occurrence) != key]
        unwritten = len(self.opens) - len(kept)
        self.opens = kept
        return unwritten < max(1, wait.attempt)


class KnownJournal:
    """One run's journal in memory. `size` is that of the run's input and results, as JSON."""

    __slots__ = ("confirming", "memo", "run_id", "size", "unwritten", "waits")

    def __init__(self, claimed: Claimed) -> None:
        self.run_id = claimed.run_id
        self.size = len(claimed.input)
        self.memo: dict[Key, StepRow] = {}
        self.waits: dict[Key, Wait] = {}
        self.confirming: set[Key] = set()
        """Waits whose time-out is written, and not yet certain."""
        self.unwritten = Unwritten()

    def load(self, stored: Journal) -> None:
        """Take in all that the store has of a run that comes from elsewhere."""
        for row in stored.steps:
            self.memo[(row.step_id, row.occurrence)] = row
            self.size += len(row.value)
        for wait in stored.waits:
            if wait.kind is not StepKind.CANCEL:
                self.waits[(wait.step_id, wait.occurrence)] = wait

    # --- what this execution records ---

    def remember(self, row: StepRow) -> None:
        """Take a step's result into memory and into the next turn. TooLarge where the run's state is larger than one may be."""
        self.size += len(row.value)
        values.check_size(f"state of run {self.run_id}", self.size, values.MAX_RUN_STATE)
        key = (row.step_id, row.occurrence)
        self.memo[key] = row
        wait = self.waits.pop(key, None)
        if wait is not None and self.unwritten.forget_opens(wait):
            self.unwritten.closes.append((row.step_id, row.occurrence, row.kind))
        self.unwritten.steps.append(row)
        self.unwritten.size += len(row.value) + 100

    def open_wait(self, wait: Wait) -> None:
        """Write an open wait with the next turn."""
        self.waits[(wait.step_id, wait.occurrence)] = wait
        self.unwritten.opens.append(wait)

    def time_out(self, key: Key, row: StepRow) -> None:
        """Write what a wait comes to when its time is over; it is known only once no event turns out to have come first."""
        self.confirming.add(key)
        self.unwritten.steps.append(row)
        self.unwritten.closes.append((*key, row.kind))

    def room_for_step(self) -> None:
        """Raise TooLarge where the run has as many steps as one may have."""
        if len(self.memo) + len(self.waits) >= values.MAX_STEPS:
            raise TooLarge(
                f"run {self.run_id} has {values.MAX_STEPS} steps, the most a run may have; invoke other functions for more"
            )

    # --- what the store answers ---

    def learn(self, row: StepRow) -> None:
        """Take in a result that is in the store already."""
        key = (row.step_id, row.occurrence)
        self.memo[key] = row
        self.size += len(row.value)
        self.waits.pop(key, None)

    def take_back(self, refused: Sequence[StepRow]) -> None:
        """Forget results that the store refused, and those that came after them."""
        for row in (*refused, *self.unwritten.steps):
            self.memo.pop((row.step_id, row.occurrence), None)
        self.unwritten = Unwritten()

    # --- what the suspended branches wait for ---

    def earliest(self, suspended: Iterable[Key]) -> int:
        """When the first of these waits is over by itself."""
        return min(
            (self.waits[key].due for key in suspended if key in self.waits and key not in self.confirming), default=FOREVER
        )

    def over(self, suspended: Iterable[Key], now: int) -> list[Key]:
        """Which of these waits are over by now."""
        return [key for key in suspended if key in self.waits and self.waits[key].due <= now and key not in self.confirming]

    def parked_as(self, suspended: Collection[Key]) -> Parked:
        """What a run is while nothing happens but that these waits go on."""
        kinds = {self.waits[key].kind for key in suspended if key in self.waits}
        if kinds & WAITED_FOR:
            return Parked.WAITING
        return Parked.SLEEPING if StepKind.SLEEP in kinds else Parked.QUEUED


def recorded_as(row: StepRow | Wait, kind: StepKind, run_id: str) -> None:
    """Raise StepMisuse where the journal holds another kind of step under this key."""
    if row.kind is not kind:
        raise StepMisuse(
            f"step {row.step_id!r} (use {row.occurrence + 1}) of run {run_id} was recorded as {row.kind.name} "
            f"and is now called as {kind.name}; give the changed step a new id"
        )
