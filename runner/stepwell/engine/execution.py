"""One run's execution in this process: passes over its code, what is not yet written, and how it is put away.

    begin ──▶ pass ──▶ (steps) ──▶ every branch blocked ──park──▶ warm ──claim──▶ go on where it stood
                ▲                                                  │
                └────────── retry due, or no longer warm ──────────┘        … ──▶ end

A *pass* is one go through the function's code from the top. Step results that this process recorded stay in memory, so only a
run that comes from elsewhere reads its journal. A step's result is handed to the code at once and written with whatever the
code does next: the next step's body never begins before the results before it are durable (unless checkpointing buffers them),
and the last result shares the commit of the run's end.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

import orjson

from stepwell import values
from stepwell.clock import Clock
from stepwell.engine.branches import Branches
from stepwell.engine.journal import WAITED_FOR, Key, KnownJournal, Unwritten
from stepwell.engine.outcome import signal_taken, signalled, time_over
from stepwell.engine.passes import PUT_AWAY, Code, Lost, Pass
from stepwell.engine.pile import Done, Op
from stepwell.engine.progress import Board
from stepwell.engine.registry import KnownRegistry
from stepwell.engine.retry import consists_of, next_try
from stepwell.engine.run import RunStatus
from stepwell.engine.trace import Tracer, execution_span
from stepwell.errors import NonRetriableError, StepError, StoreError
from stepwell.ids import Ids
from stepwell.metrics import FunctionMetrics
from stepwell.spec.duration import microseconds
from stepwell.store.records import FOREVER, AttemptRow, End, EventFate, Park, Parked, StepKind, StepRow, Turn, Wait
from stepwell.store.results import Claimed, Journal


@dataclass(frozen=True, slots=True)
class Deps:
    """What an execution needs of its worker."""

    clock: Clock
    ids: Ids
    draw: Callable[[], float]
    put: Callable[[Op], None]
    registry: Callable[[], KnownRegistry]
    look: Callable[[], Awaitable[KnownRegistry]]
    """The registry as it is in the store now, however long that takes."""
    listen: Callable[[str, str], Awaitable[None]]
    refresh: Callable[["Execution"], None]
    released: Callable[["Execution", Park], None]
    over: Callable[["Execution", End | None], None]
    wake: Callable[["Execution"], None]
    lease_holds: Callable[[], bool]
    doubt: Callable[[], None]
    """Told where a run is dropped that the store may still hold leased to this runner."""
    in_thread: Callable[[Callable[[], object]], Awaitable[object]]
    timer_fired: Callable[[float], None]
    progress: Board
    tracer: Tracer | None = None


class Execution:
    """One leased (or warm) run: `journal` is what it knows of its steps, `branches` where its code stands."""

    def __init__(self, code: Code, claimed: Claimed, stored: Journal | None, deps: Deps, metrics: FunctionMetrics) -> None:
        self.code = code
        self.run_id = claimed.run_id
        self.claimed = claimed
        self.epoch = claimed.epoch
        self.inbox = stored.inbox if stored is not None else claimed.inbox
        self.deps = deps
        self.metrics = metrics
        self.journal = KnownJournal(claimed)
        self.branches = Branches(deps.clock, self._when_still)
        self.leased = True
        self.draining = False
        self.is_over = False
        self.spoiled = False
        """Whether memory holds what the store refused, so that only the journal tells the truth."""
        self.cut_off_as = "cancelled"
        """What becomes of attempts whose bodies still run when the execution ends."""
        self.passing: Pass | None = None
        self.began = deps.clock.now()
        self.wrote_at = self.began
        self.parked_at = self.began
        self.leased_at = self.began
        self.held_until = 0
        """Until when a limit, a pause or a lack of slots held the run back although it was due; 0: nothing did."""
        self._writing = False
        self._then: Park | End | None = None
        self._in_write: Unwritten | None = None
        self._error: str | None = None
        self._waiters: list[asyncio.Future[None]] = []
        if stored is not None:
            self._load(stored)

    # --- passes ---

    def begin(self) -> None:
        """Enter the code from the top."""
        now = self.deps.clock.now()
        retried = [wait.attempt for wait in self.journal.waits.values() if wait.kind is StepKind.RUN and wait.due <= now]
        stretch = self.claimed.attempt if self.claimed.attempt_steps == len(self.journal.memo) else 0
        passing = self.passing = Pass(self, max([*retried, stretch]))
        passing.task = asyncio.get_running_loop().create_task(self._main(passing))

    async def _main(self, passing: Pass) -> None:
        outcome: bytes | BaseException
        try:
            outcome = await self.code(passing)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever user code raises is an outcome
            outcome = error
        if passing.closing or self.is_over:
            return
        passing.ended = True
        for branch in passing.branches:
            branch.cancel(PUT_AWAY)
        await self._conclude(outcome)

    async def _conclude(self, outcome: bytes | BaseException) -> None:
        """Write what became of the code, under the lease: it may have gone on by itself after the run was parked."""
        while self._writing or not self.leased:
            if not self.leased:
                self.deps.wake(self)
            await self.next_write()
            if self.is_over:
                return
        self.branches.suspended.clear()
        if isinstance(outcome, bytes):
            self._write(End(RunStatus.COMPLETED, outcome))
            return
        then = self._failed(outcome)
        if isinstance(then, Park) and self.passing is not None:
            self.passing.closing = True
        self._write(then)

    def _failed(self, error: BaseException) -> Park | End:
        """What becomes of a run whose code raised between steps: another try later, or its end."""
        now = self.deps.clock.now()
        self._error = type(error).__name__
        fresh = self.claimed.attempt_steps == len(self.journal.memo)
        attempt = self.claimed.attempt if fresh else 0
        spec = self.code.spec
        told = consists_of(error, StepError)  # each is in the journal already
        final = consists_of(error, StepError, NonRetriableError)
        due = None if final else next_try(error, spec.backoff, attempt, spec.retries, self.deps.draw(), now)
        encoded = values.encode_error(error, error.attempts if isinstance(error, StepError) else attempt + 1)
        if not told:
            self.journal.unwritten.fail(AttemptRow("", 0, attempt, self.began, now, encoded, due), error)
        if due is None:
            return End(RunStatus.FAILED, encoded)
        return Park(due, Parked.QUEUED, attempt + 1, len(self.journal.memo))

    def restart(self) -> None:
        """Drop this pass and enter the code again from the top."""
        self._close_pass()
        self.begin()

    def _close_pass(self) -> None:
        if self.passing is not None:
            self.passing.close()
        self.branches.cancel()

    def put_away(self) -> None:
        """Forget the warm execution; the journal has all that it knows."""
        self.is_over = True
        self._close_pass()
        self._wake_waiters()

    def lose(self, *, fenced: bool = False) -> None:
        """The run is over, or (`fenced`) somebody else's: stop at once, write nothing more."""
        if not self.is_over:
            self.cut_off_as = "fenced" if fenced else "cancelled"
            self._trace("lost")
            self.put_away()
            self.deps.over(self, None)

    # --- what step verbs use ---

    def remember(self, row: StepRow) -> None:
        """Take a step's result into memory and into the next turn, checking the run's limits."""
        self.journal.remember(row)
        self.branches.touch()

    def open_wait(self, wait: Wait) -> None:
        """Write an open wait with the next turn."""
        self.journal.open_wait(wait)
        self.branches.touch()

    def first_event(self) -> dict[str, Any]:
        """The event that started the run, as expressions see it."""
        return cast("list[dict[str, Any]]", orjson.loads(self.claimed.input))[0]

    async def flush(self) -> None:
        """Wait until everything recorded so far is durable."""
        while (self._writing or self.journal.unwritten) and not self.is_over:
            if not self._writing:
                self._write(None)
            await self.next_write()

    async def next_write(self) -> None:
        """Wait for the write under way."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(future)
        await future

    def may_buffer(self) -> bool:
        """Whether checkpointing lets results wait for their commit while the next body runs."""
        rule, unwritten = self.code.spec.checkpointing, self.journal.unwritten
        if rule.buffered_steps <= 1 or len(unwritten.steps) >= rule.buffered_steps or unwritten.opens:
            return False
        now = self.deps.clock.now()
        if rule.max_interval is not None and now - self.wrote_at >= microseconds(rule.max_interval):
            return False
        return rule.max_runtime is None or now - self.began < microseconds(rule.max_runtime)

    def only_sleeps(self) -> bool:
        """Whether nothing is unwritten but that sleeps are over: it follows from their due times, so no body waits for it."""
        return not self._writing and all(row.kind is StepKind.SLEEP for row in self.journal.unwritten.steps)

    async def hold_lease(self) -> None:
        """Come back once this execution may start a body: leased, and not being drained."""
        while not self.leased or self.draining or self._then is not None:
            if not self.leased:
                self.deps.wake(self)
            await self.next_write()
        if not self.deps.lease_holds():
            # The lease may be renewed yet, with the run on it: unless it is handed back, nobody would ever take it.
            self.deps.doubt()
            self.lose(fenced=True)
            raise Lost(PUT_AWAY)

    # --- when every branch stands still ---

    def _when_still(self) -> None:
        """Let go on what is due; else write what there is, and park where nothing but time or news brings the code on."""
        if not self.leased or self._writing or self.passing is None or self.passing.shut:
            return
        branches, journal = self.branches, self.journal
        now = self.deps.clock.now()
        due = journal.earliest(branches.suspended)
        if due <= now and not self.draining:
            self._fire(now)
        elif branches.in_flight:
            if journal.unwritten and not self.may_buffer():
                self._write(None)
            branches.touch_at(min(due, self._buffer_until()))
        elif journal.confirming:
            self._write(None)
        elif self.draining:
            self._write(Park(0, Parked.QUEUED, *self._stretch()))
        elif branches.suspended:
            self._write(Park(due, journal.parked_as(branches.suspended), *self._stretch()))
        elif journal.unwritten:
            self._write(None)

    def _buffer_until(self) -> int:
        interval = self.code.spec.checkpointing.max_interval
        return self.wrote_at + microseconds(interval) if self.journal.unwritten and interval is not None else FOREVER

    def _stretch(self) -> tuple[int, int]:
        return (self.claimed.attempt, self.claimed.attempt_steps)

    def _fire(self, now: int) -> None:
        """Resolve what is due. A retry enters the code again from the top, unless a sibling's body is running."""
        due = self.journal.over(self.branches.suspended, now)
        retries = [key for key in due if self.journal.waits[key].kind is StepKind.RUN]
        for key in due:
            wait = self.journal.waits[key]
            if wait.kind is StepKind.SLEEP:
                row = time_over(wait, now)
                if wait.due > self.held_until:
                    self.deps.timer_fired((now - wait.due) / 1e6)
                self.remember(row)
                self.branches.hand_over(key, row)
            elif wait.kind is not StepKind.RUN:
                self.journal.time_out(key, time_over(wait, now))
        if retries and not self.branches.in_flight and not self.journal.confirming:
            self.restart()
        else:
            for key in retries:
                self.branches.hand_over(key, None)
        self.branches.touch()

    # --- writing ---

    def _write(self, then: Park | End | None) -> None:
        self.branches.disarm()
        todo, self.journal.unwritten = self.journal.unwritten, Unwritten()
        turn = Turn(
            self.run_id,
            self.epoch,
            tuple(todo.steps),
            tuple(todo.closes),
            tuple(todo.opens),
            tuple(todo.attempts),
            todo.signal,
            self.inbox,
            then,
        )
        self._writing, self._then, self._in_write = True, then, todo
        self.deps.put(
            Op(
                turn=turn,
                facts=tuple(todo.facts),
                starts=tuple(todo.starts),
                patient=True,
                ends=type(then) is End,
                size=todo.size,
                tell=self._landed,
            )
        )

    def _landed(self, done: Done | Exception) -> None:
        self._writing = False
        then, self._then = self._then, None
        todo, self._in_write = self._in_write, None
        if isinstance(done, Exception) or done.turn is None or todo is None:
            self._refused(done, todo)
            return
        if not done.turn.landed:
            self.metrics.fenced.value += 1
            _count_fenced(todo, self.metrics)
            self.lose(fenced=True)
            return
        self.wrote_at = done.now
        _count(todo, self.metrics)
        if self.is_over:
            return
        self._settle_steps(todo, done)
        if isinstance(then, End):
            self._trace(then.status.value)
            self.is_over = True
            self.deps.over(self, then)
        elif then is not None:
            self._trace(then.state.name.lower())
            self.leased = False
            self.parked_at = done.now
            self.deps.released(self, then)
        self._wake_waiters()
        if self.leased and not self.is_over:
            self.branches.touch()

    def cut_off(self, step_id: str, seconds: float) -> None:
        """A body was cut off: its run was ended, or its lease is gone and somebody else tries again."""
        self.metrics.step_done(seconds, self.cut_off_as, step_id)
        if self.cut_off_as == "fenced":
            self.metrics.retried("lost", 0.0, seconds, step_id)

    def _settle_steps(self, todo: Unwritten, done: Done) -> None:
        if done.turn is None:
            return
        if EventFate.CONFLICT in done.events:
            taken = [fact.row.id for fact, fate in zip(todo.facts, done.events, strict=True) if fate is EventFate.CONFLICT]
            self.metrics.log_conflict(self.run_id, taken)
        lost = set(done.turn.lost)
        for row in todo.steps:
            key = (row.step_id, row.occurrence)
            if row.kind is StepKind.SEND_SIGNAL:
                row = signalled(row, met=done.turn.signalled)  # noqa: PLW2901
                self.journal.memo[key] = row
            if key in self.journal.confirming:
                self.journal.confirming.discard(key)
                if key not in lost:
                    self.metrics.wait_resolved("timeout")
                    self._resolve(key, row)
        for key in done.turn.refused:
            self.journal.waits.pop(key, None)
            row = signal_taken(key, done.now)
            self.remember(row)
            self.branches.hand_over(key, row)
        if lost:
            self.deps.refresh(self)

    def _refused(self, done: Done | Exception, todo: Unwritten | None) -> None:
        """The store will not take this turn: what led to it is a failed try. If it refuses even that, the run is handed back."""
        error = done if isinstance(done, Exception) else StoreError("the store gave no answer for a turn")
        self.metrics.log_refused(self.run_id, error)
        if self.is_over:
            return
        if self.spoiled:
            self._trace("refused")
            self.put_away()
            self.deps.doubt()
            self.deps.over(self, None)
            return
        self.spoiled = True
        self._close_pass()
        self.journal.take_back(todo.steps if todo is not None else ())
        self._write(self._failed(error))

    def _trace(self, outcome: str) -> None:
        """Tell of the execution that is over; one without its lease was told of when it gave that back."""
        error, self._error = self._error, None
        if self.deps.tracer is not None and self.leased:
            self.deps.tracer.emit(execution_span(self.claimed, self.leased_at, self.deps.clock.now(), outcome, error))

    def _wake_waiters(self) -> None:
        waiters, self._waiters = self._waiters, []
        for future in waiters:
            if not future.done():
                future.set_result(None)

    # --- news ---

    def resume(self, claimed: Claimed, held_until: int = 0) -> None:
        """The warm execution got its lease again."""
        self.held_until = held_until
        self.claimed = claimed
        self.epoch = claimed.epoch
        self.leased = True
        self.leased_at = self.deps.clock.now()
        self._wake_waiters()
        if claimed.inbox != self.inbox:
            self.deps.refresh(self)
        elif self.passing is None or self.passing.closing:
            self.begin()
        elif self.journal.earliest(self.branches.suspended) <= (now := self.deps.clock.now()) and not self.passing.ended:
            self._fire(now)
        else:
            self.branches.touch()

    def absorb(self, stored: Journal) -> None:
        """Take in what others recorded for this run: events, signals, ended children."""
        self.inbox = stored.inbox
        for row in stored.steps:
            key = (row.step_id, row.occurrence)
            if key not in self.journal.memo:
                if row.kind in WAITED_FOR:
                    self.metrics.wait_resolved("event")
                self._resolve(key, row)
        if self.leased and (self.passing is None or self.passing.closing):
            self.begin()
        self.branches.touch()

    def _resolve(self, key: Key, row: StepRow) -> None:
        """A recorded step's result reaches the branch that waits for it."""
        self.journal.learn(row)
        self.branches.hand_over(key, row)

    def drain(self) -> None:
        """Start nothing more; hand the run back as soon as its bodies are done."""
        self.draining = True
        self.branches.touch()

    def _load(self, stored: Journal) -> None:
        self.journal.load(stored)
        for row in stored.steps:
            # What ended a wait made the run due at that very instant, unless it was due before.
            if row.kind in WAITED_FOR and row.ended >= self.claimed.due:
                self.metrics.wait_resolved("event")


def _count(landed: Unwritten, metrics: FunctionMetrics) -> None:
    for step_id, outcome, seconds in landed.tried:
        metrics.step_done(seconds, outcome, step_id)
    for step_id, reason, pause, lost in landed.retried:
        metrics.retried(reason, pause, lost, step_id)


def _count_fenced(refused: Unwritten, metrics: FunctionMetrics) -> None:
    """Their outcome was refused: whoever has the run now tries again."""
    for step_id, _outcome, seconds in refused.tried:
        metrics.step_done(seconds, "fenced", step_id)
        metrics.retried("lost", 0.0, seconds or 0.0, step_id)
