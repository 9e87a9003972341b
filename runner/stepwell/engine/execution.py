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
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import orjson

from stepwell import values
from stepwell.clock import Clock
from stepwell.engine.committer import Done, Op
from stepwell.engine.events import Fact
from stepwell.engine.progress import Board
from stepwell.engine.registry import KnownRegistry
from stepwell.engine.retry import consists_of, next_try
from stepwell.engine.run import RunStatus
from stepwell.engine.trace import Tracer, execution_span
from stepwell.errors import NonRetriableError, StepError, StepMisuse, StoreError, TooLarge
from stepwell.ids import Ids
from stepwell.metrics import FunctionMetrics
from stepwell.spec.duration import microseconds
from stepwell.spec.function import FunctionSpec
from stepwell.store.records import FOREVER, AttemptRow, End, EventFate, Park, Parked, Signal, Start, StepKind, StepRow, Turn, Wait
from stepwell.store.results import Claimed, Journal

Key = tuple[str, int]
SETTLE_HOPS = 3
"""Loop turns without a step call before the code counts as blocked; gather and TaskGroup need two to pass a result on."""
WAITED_FOR = frozenset({StepKind.EVENT, StepKind.SIGNAL, StepKind.INVOKE})
PUT_AWAY = "stepwell puts this execution away; it goes on later from its journal. Let CancelledError pass, don't catch it."


class Lost(asyncio.CancelledError):
    """The run is no longer this execution's: cancelled, taken over, or put away. It derives from BaseException on purpose."""


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


class Code(Protocol):
    """User code behind the one seam: called with a pass, answers with the output's JSON."""

    @property
    def spec(self) -> FunctionSpec:
        """What the function is configured as."""
        ...

    async def __call__(self, passing: "Pass") -> bytes:
        """Run the code once from the top."""
        ...


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


class Pass:
    """One go through the code from the top: counts step ids and knows whether it is still replaying."""

    __slots__ = ("attempt", "branches", "closing", "counts", "ended", "execution", "replay_left", "task")

    def __init__(self, execution: "Execution", attempt: int) -> None:
        self.execution = execution
        self.attempt = attempt
        self.closing = False
        self.ended = False
        self.counts: dict[str, int] = {}
        self.branches: set[asyncio.Task[object]] = set()
        self.replay_left = len(execution.memo) + len(execution.waits)
        self.task: asyncio.Task[None] | None = None

    def next_key(self, step_id: str) -> Key:
        """The key of the next use of this id: the id and how often it was used before."""
        occurrence = self.counts.get(step_id, 0)
        self.counts[step_id] = occurrence + 1
        task = asyncio.current_task()
        if task is not None and task is not self.task:
            self.branches.add(task)
        return (step_id, occurrence)

    @property
    def shut(self) -> bool:
        """Whether steps do nothing any more: the pass was dropped, or its code has returned or raised."""
        return self.closing or self.ended or self.execution.is_over

    def replaying(self) -> bool:
        """Whether the code is still where it has been before."""
        return self.replay_left > 0

    def close(self) -> None:
        """Drop the pass: cancel its code wherever it stands."""
        self.closing = True
        for task in (self.task, *self.branches):
            if task is not None and not task.done() and task is not asyncio.current_task():
                task.cancel(PUT_AWAY)


class Execution:
    """One leased (or warm) run. `memo` and `waits` are its journal in memory; `unwritten` what is not durable yet."""

    def __init__(self, code: Code, claimed: Claimed, journal: Journal | None, deps: Deps, metrics: FunctionMetrics) -> None:
        self.code = code
        self.run_id = claimed.run_id
        self.claimed = claimed
        self.epoch = claimed.epoch
        self.inbox = journal.inbox if journal is not None else claimed.inbox
        self.deps = deps
        self.metrics = metrics
        self.memo: dict[Key, StepRow] = {}
        self.waits: dict[Key, Wait] = {}
        self.suspended: dict[Key, asyncio.Future[StepRow | None]] = {}
        self.confirming: set[Key] = set()
        self.in_flight = 0
        self.state_size = len(claimed.input)
        self.leased = True
        self.draining = False
        self.is_over = False
        self.spoiled = False
        """Whether memory holds what the store refused, so that only the journal tells the truth."""
        self.cut_off_as = "cancelled"
        """What becomes of attempts whose bodies still run when the execution ends."""
        self.passing: Pass | None = None
        self.unwritten = Unwritten()
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
        self._activity = 0
        self._checking = False
        self._due_timer: Callable[[], None] | None = None
        if journal is not None:
            self._load(journal)

    # --- passes ---

    def begin(self) -> None:
        """Enter the code from the top."""
        now = self.deps.clock.now()
        retried = [wait.attempt for wait in self.waits.values() if wait.kind is StepKind.RUN and wait.due <= now]
        stretch = self.claimed.attempt if self.claimed.attempt_steps == len(self.memo) else 0
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
        self.suspended.clear()
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
        fresh = self.claimed.attempt_steps == len(self.memo)
        attempt = self.claimed.attempt if fresh else 0
        spec = self.code.spec
        told = consists_of(error, StepError)  # each is in the journal already
        final = consists_of(error, StepError, NonRetriableError)
        due = None if final else next_try(error, spec.backoff, attempt, spec.retries, self.deps.draw(), now)
        encoded = values.encode_error(error, error.attempts if isinstance(error, StepError) else attempt + 1)
        if not told:
            self.unwritten.attempts.append(AttemptRow("", 0, attempt, self.began, now, encoded, due))
            self.unwritten.tried.append(("", "timeout" if isinstance(error, TimeoutError) else "error", None))
        if due is None:
            return End(RunStatus.FAILED, encoded)
        self.unwritten.retried.append(("", type(error).__name__, (due - now) / 1e6, 0.0))
        return Park(due, Parked.QUEUED, attempt + 1, len(self.memo))

    def restart(self) -> None:
        """Drop this pass and enter the code again from the top."""
        self._close_pass()
        self.begin()

    def _close_pass(self) -> None:
        if self.passing is not None:
            self.passing.close()
        for future in self.suspended.values():
            future.cancel(PUT_AWAY)
        self.suspended.clear()

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
        self.state_size += len(row.value)
        values.check_size(f"state of run {self.run_id}", self.state_size, values.MAX_RUN_STATE)
        key = (row.step_id, row.occurrence)
        self.memo[key] = row
        wait = self.waits.pop(key, None)
        if wait is not None and self._forget_opens(wait):
            self.unwritten.closes.append((row.step_id, row.occurrence, row.kind))
        self.unwritten.steps.append(row)
        self.unwritten.size += len(row.value) + 100
        self.touch()

    def _forget_opens(self, wait: Wait) -> bool:
        """Drop what was not yet written of a wait that is over; whether some of it was, and has to be closed."""
        if not self.unwritten.opens:
            return True
        key = (wait.step_id, wait.occurrence)
        kept = [one for one in self.unwritten.opens if (one.step_id, one.occurrence) != key]
        unwritten = len(self.unwritten.opens) - len(kept)
        self.unwritten.opens = kept
        return unwritten < max(1, wait.attempt)

    def room_for_step(self) -> None:
        """Raise TooLarge where the run has as many steps as one may have."""
        if len(self.memo) + len(self.waits) >= values.MAX_STEPS:
            raise TooLarge(
                f"run {self.run_id} has {values.MAX_STEPS} steps, the most a run may have; invoke other functions for more"
            )

    def first_event(self) -> dict[str, Any]:
        """The event that started the run, as expressions see it."""
        return cast("list[dict[str, Any]]", orjson.loads(self.claimed.input))[0]

    def open_wait(self, wait: Wait) -> None:
        """Write an open wait with the next turn."""
        self.waits[(wait.step_id, wait.occurrence)] = wait
        self.unwritten.opens.append(wait)
        self.touch()

    async def suspend(self, key: Key) -> StepRow | None:
        """Wait until the open wait under this key is resolved; None: try the step again here."""
        future: asyncio.Future[StepRow | None] = asyncio.get_running_loop().create_future()
        self.suspended[key] = future
        self.touch()
        try:
            return await future
        finally:
            if self.suspended.get(key) is future:
                del self.suspended[key]

    async def flush(self) -> None:
        """Wait until everything recorded so far is durable."""
        while (self._writing or self.unwritten) and not self.is_over:
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
        rule = self.code.spec.checkpointing
        if rule.buffered_steps <= 1 or len(self.unwritten.steps) >= rule.buffered_steps or self.unwritten.opens:
            return False
        now = self.deps.clock.now()
        if rule.max_interval is not None and now - self.wrote_at >= microseconds(rule.max_interval):
            return False
        return rule.max_runtime is None or now - self.began < microseconds(rule.max_runtime)

    def only_sleeps(self) -> bool:
        """Whether nothing is unwritten but that sleeps are over: it follows from their due times, so no body waits for it."""
        return not self._writing and all(row.kind is StepKind.SLEEP for row in self.unwritten.steps)

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

    def touch(self) -> None:
        """Something moved: look again, once the loop has settled, whether every branch is blocked."""
        self._activity += 1
        if not self._checking:
            self._checking = True
            asyncio.get_running_loop().call_soon(self._settle, self._activity, SETTLE_HOPS)

    # --- settling ---

    def _settle(self, seen: int, hops: int) -> None:
        if seen != self._activity:
            seen, hops = self._activity, SETTLE_HOPS
        if hops:
            asyncio.get_running_loop().call_soon(self._settle, seen, hops - 1)
            return
        self._checking = False
        if self.leased and not self._writing and self.passing is not None and not self.passing.shut:
            self._look()

    def _look(self) -> None:
        now = self.deps.clock.now()
        due = self._earliest()
        if due <= now and not self.draining:
            self._fire(now)
        elif self.in_flight:
            if self.unwritten and not self.may_buffer():
                self._write(None)
            self._arm(min(due, self._buffer_until()))
        elif self.confirming:
            self._write(None)
        elif self.draining:
            self._write(Park(0, Parked.QUEUED, *self._stretch()))
        elif self.suspended:
            self._write(Park(due, self._parked_as(), *self._stretch()))
        elif self.unwritten:
            self._write(None)

    def _buffer_until(self) -> int:
        interval = self.code.spec.checkpointing.max_interval
        return self.wrote_at + microseconds(interval) if self.unwritten and interval is not None else FOREVER

    def _stretch(self) -> tuple[int, int]:
        return (self.claimed.attempt, self.claimed.attempt_steps)

    def _earliest(self) -> int:
        return min(
            (self.waits[key].due for key in self.suspended if key in self.waits and key not in self.confirming), default=FOREVER
        )

    def _parked_as(self) -> Parked:
        kinds = {self.waits[key].kind for key in self.suspended if key in self.waits}
        if kinds & {StepKind.EVENT, StepKind.SIGNAL, StepKind.INVOKE}:
            return Parked.WAITING
        return Parked.SLEEPING if StepKind.SLEEP in kinds else Parked.QUEUED

    def _arm(self, due: int) -> None:
        self._disarm()
        if due < FOREVER:
            self._due_timer = self.deps.clock.call_at(due, self.touch)

    def _disarm(self) -> None:
        if self._due_timer is not None:
            self._due_timer()
            self._due_timer = None

    def _fire(self, now: int) -> None:
        """Resolve what is due. A retry enters the code again from the top, unless a sibling's body is running."""
        due = [key for key in self.suspended if key in self.waits and self.waits[key].due <= now and key not in self.confirming]
        retries = [key for key in due if self.waits[key].kind is StepKind.RUN]
        for key in due:
            wait = self.waits[key]
            if wait.kind is StepKind.SLEEP:
                row = StepRow(*key, StepKind.SLEEP, ok=True, value=b"null", attempts=1, started=wait.opened, ended=now)
                if wait.due > self.held_until:
                    self.deps.timer_fired((now - wait.due) / 1e6)
                self.remember(row)
                self.suspended.pop(key).set_result(row)
            elif wait.kind is not StepKind.RUN:
                self._time_out(key, wait, now)
        if retries and not self.in_flight and not self.confirming:
            self.restart()
        else:
            for key in retries:
                self.suspended.pop(key).set_result(None)
        self.touch()

    def _time_out(self, key: Key, wait: Wait, now: int) -> None:
        """Record the time-out; the code learns of it only once it is certain that no event came first."""
        if wait.kind is StepKind.INVOKE:
            error = {"name": "InvokeTimeout", "message": f"run {wait.target_run} did not end in time", "attempts": 1}
            row = StepRow(*key, wait.kind, ok=False, value=values.canonical(error), attempts=1, started=wait.opened, ended=now)
        else:
            row = StepRow(*key, wait.kind, ok=True, value=b"null", attempts=1, started=wait.opened, ended=now)
        self.confirming.add(key)
        self.unwritten.steps.append(row)
        self.unwritten.closes.append((*key, wait.kind))
        self.touch()

    # --- writing ---

    def _write(self, then: Park | End | None) -> None:
        self._disarm()
        todo, self.unwritten = self.unwritten, Unwritten()
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
            self._count_fenced(todo)
            self.lose(fenced=True)
            return
        self.wrote_at = done.now
        for step_id, outcome, seconds in todo.tried:
            self.metrics.step_done(seconds, outcome, step_id)
        for step_id, reason, wait, lost in todo.retried:
            self.metrics.retried(reason, wait, lost, step_id)
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
            self.touch()

    def _count_fenced(self, todo: Unwritten) -> None:
        """Attempts whose outcome was refused: whoever has the run now tries again."""
        for step_id, _outcome, seconds in todo.tried:
            self.metrics.step_done(seconds, "fenced", step_id)
            self.metrics.retried("lost", 0.0, seconds or 0.0, step_id)

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
                row = StepRow(*key, row.kind, True, b"true" if done.turn.signalled else b"false", 1, row.started, row.ended)  # noqa: PLW2901
                self.memo[key] = row
            if key in self.confirming:
                self.confirming.discard(key)
                if key not in lost:
                    self.metrics.wait_resolved("timeout")
                    self.resolve(key, row)
        for key in done.turn.refused:
            self.waits.pop(key, None)
            error = {"name": "SignalTaken", "message": "another run already waits for this signal", "attempts": 1}
            row = StepRow(
                *key, StepKind.SIGNAL, ok=False, value=values.canonical(error), attempts=1, started=done.now, ended=done.now
            )
            self.remember(row)
            self._hand_over(key, row)
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
        for row in (*(todo.steps if todo is not None else ()), *self.unwritten.steps):
            self.memo.pop((row.step_id, row.occurrence), None)
        self.unwritten = Unwritten()
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
        elif self._earliest() <= (now := self.deps.clock.now()) and not self.passing.ended:
            self._fire(now)
        else:
            self.touch()

    def absorb(self, journal: Journal) -> None:
        """Take in what others recorded for this run: events, signals, ended children."""
        self.inbox = journal.inbox
        for row in journal.steps:
            key = (row.step_id, row.occurrence)
            if key not in self.memo:
                if row.kind in WAITED_FOR:
                    self.metrics.wait_resolved("event")
                self.resolve(key, row)
        if self.leased and (self.passing is None or self.passing.closing):
            self.begin()
        self.touch()

    def resolve(self, key: Key, row: StepRow) -> None:
        """A recorded step's result reaches the branch that waits for it."""
        self.memo[key] = row
        self.state_size += len(row.value)
        self.waits.pop(key, None)
        self._hand_over(key, row)

    def _hand_over(self, key: Key, row: StepRow) -> None:
        future = self.suspended.pop(key, None)
        if future is not None and not future.done():
            future.set_result(row)
        self.touch()

    def drain(self) -> None:
        """Start nothing more; hand the run back as soon as its bodies are done."""
        self.draining = True
        self.touch()

    def _load(self, journal: Journal) -> None:
        for row in journal.steps:
            self.memo[(row.step_id, row.occurrence)] = row
            self.state_size += len(row.value)
            # What ended a wait made the run due at that very instant, unless it was due before.
            if row.kind in WAITED_FOR and row.ended >= self.claimed.due:
                self.metrics.wait_resolved("event")
        for wait in journal.waits:
            if wait.kind is not StepKind.CANCEL:
                self.waits[(wait.step_id, wait.occurrence)] = wait


def recorded_as(row: StepRow | Wait, kind: StepKind, run_id: str) -> None:
    """Raise StepMisuse where the journal holds another kind of step under this key."""
    if row.kind is not kind:
        raise StepMisuse(
            f"step {row.step_id!r} (use {row.occurrence + 1}) of run {run_id} was recorded as {row.kind.name} "
            f"and is now called as {kind.name}; give the changed step a new id"
        )
