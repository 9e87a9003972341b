"""One group committer a process and well: operations pile up, and a pile is one statement in one transaction.

    submit ──▶ waiting ──▶ pile ──▶ store.commit ──▶ whoever waits is told
                  ▲                      │
                  └── grows meanwhile ◀──┘

There is no timer: an idle committer writes at once, a busy one batches by itself. Nobody is told before the
commit. A pile that is refused because the registry moved, or because open waits share a key with its events, is planned again
and sent again. A pile that the store refuses as a whole is halved until the one bad operation stands alone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import structlog

from stepwell.clock import Clock, stopwatch
from stepwell.engine import dispatch
from stepwell.engine.crashpoint import NAME, crashpoint_of
from stepwell.engine.events import Fact
from stepwell.engine.registry import KnownRegistry
from stepwell.errors import StepwellError, StoreError, StoreUnavailable, Unknown
from stepwell.store.protocol import Store
from stepwell.store.records import Cancel, Claim, EventFate, EventRow, Pile, RunStatus, Start, Tick, TickOutcome, Turn
from stepwell.store.results import PileResult, StartResult, TurnResult

MOST_OPS = 500
MOST_BYTES = 1 << 20
MOST_WAITING = 20_000
OVERLAP_FROM = 64
"""A second flusher joins in once this many operations wait while the first commits."""


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one operation."""

    now: int
    turn: TurnResult | None
    events: tuple[EventFate, ...]
    starts: tuple[StartResult, ...]
    cancels: tuple[RunStatus | None, ...]
    tick: TickOutcome | None
    whole: PileResult


@dataclass(slots=True, eq=False)
class Op:
    """One operation on its way. `patient` ones outlast an absence of the store; others fail with StoreUnavailable.

    `ticks_for` names the function of a tick's event. `starts` are guarded by this operation's own turn.
    """

    turn: Turn | None = None
    facts: tuple[Fact, ...] = ()
    starts: tuple[Start, ...] = ()
    cancels: tuple[Cancel, ...] = ()
    tick: Tick | None = None
    tick_for: str | None = None
    outbox_done: tuple[str, ...] = ()
    wakes: tuple[str, ...] = ()
    claim: Claim | None = None
    patient: bool = False
    ends: bool = False
    size: int = 200
    tell: Callable[[Done | Exception], None] = lambda _done: None
    """Called once with the answer, after the commit."""


@dataclass(slots=True)
class Hooks:
    """Whom the committer tells: of every commit, of a start this process may execute at once, and of expression errors."""

    after: Callable[[Pile, PileResult], None]
    fuse: Callable[[Start], bool]
    fused: Callable[[Start, StartResult | None, int], None]
    """Called for each start that `fuse` accepted, with None where the commit failed."""
    erred: Callable[[str, str], None]
    waits_erred: Callable[[Sequence[dispatch.WaitError]], None]
    """Called with (function, kind) of an expression that gave no boolean or no value."""
    tried: Callable[[str, float], None] = lambda _kind, _seconds: None
    """Called with (kind, seconds) of each expression that was asked."""
    runner_id: str = ""
    doubt: Callable[[], None] = lambda: None
    """Called where a commit that was to lease runs to this process broke: it may have landed all the same."""


class Committer:
    """Write what coroutines submit, in piles. `flushers` commits may overlap (one on SQLite, two on Postgres)."""

    def __init__(self, store: Store, clock: Clock, refresh: Callable[[], Awaitable[KnownRegistry]], hooks: Hooks) -> None:
        self.store = store
        self.clock = clock
        self.hooks = hooks
        self.registry = KnownRegistry()
        self.flushers = 1
        self.piles = 0
        self.ops = 0
        self._refresh = refresh
        self._waiting: list[Op] = []
        self._flushing: set[asyncio.Task[None]] = set()
        self._kicked = False
        self._room: asyncio.Future[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is being written."""
        return not self._waiting and not self._flushing

    def put(self, op: Op) -> None:
        """Put an operation on the pile; it is told once it is durable."""
        self._waiting.append(op)
        if not self._kicked:
            self._kicked = True
            asyncio.get_running_loop().call_soon(self._kick)

    async def submit(self, op: Op) -> Done:
        """Put an operation on the pile and come back once it is durable."""
        future: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        op.tell = _teller(future)
        self.put(op)
        return await future

    async def room(self) -> None:
        """Wait while the backlog is over its bound; producers from outside call it first."""
        while len(self._waiting) > MOST_WAITING:
            if self._room is None:
                self._room = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._room)

    async def drain(self) -> None:
        """Wait until all that was submitted is written."""
        while not self.idle:
            if self._flushing:
                await asyncio.wait(self._flushing)
            else:
                await asyncio.sleep(0)

    def abandon(self) -> None:
        """Write nothing more and tell nobody."""
        self._waiting.clear()
        for task in self._flushing:
            task.cancel()

    def _kick(self) -> None:
        self._kicked = False
        busy = len(self._flushing)
        if self._waiting and (busy == 0 or (busy < self.flushers and len(self._waiting) >= OVERLAP_FROM)):
            ops = self._take()
            task = asyncio.get_running_loop().create_task(self._flush(ops))
            self._flushing.add(task)
            task.add_done_callback(self._flushed)

    def _flushed(self, task: "asyncio.Task[None]") -> None:
        self._flushing.discard(task)
        if self._room is not None and len(self._waiting) <= MOST_WAITING // 2:
            self._room.set_result(None)
            self._room = None
        self._kick()

    def _take(self) -> list[Op]:
        size = count = 0
        for op in islice(self._waiting, MOST_OPS):
            size += op.size
            count += 1
            if size > MOST_BYTES:
                break
        ops, self._waiting = self._waiting[:count], self._waiting[count:]
        return ops

    async def _flush(self, ops: list[Op]) -> None:
        try:
            await self._write(ops)
        except StoreUnavailable as error:
            _fail([op for op in ops if not op.patient], error)
            patient = [op for op in ops if op.patient]
            if patient:
                await self._retry(patient)
        except Exception as error:  # noqa: BLE001 - whatever it is, the one operation behind it fails alone
            if len(ops) == 1:
                _fail(ops, error if isinstance(error, StepwellError) else StoreError(f"the commit broke: {error!r}"))
                return
            await self._flush(ops[: len(ops) // 2])
            await self._flush(ops[len(ops) // 2 :])

    async def _retry(self, ops: list[Op]) -> None:
        pause = 0.05
        while True:
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)
            try:
                await self._write(ops)
            except StoreUnavailable:
                continue
            except Exception:  # noqa: BLE001 - the flush halves them until the bad one stands alone
                await self._flush(ops)
            return

    async def _write(self, ops: Sequence[Op]) -> None:
        """Plan, commit, and plan again while the store says that the plan is out of date."""
        decided = False
        while True:
            ops = _startable(ops, self.registry)
            if not ops:
                return
            made = _Made(ops, self.registry, self.clock.now(), self.hooks)
            try:
                pile = made.pile(self.clock.pinned(), decided=False)
                if NAME:
                    crashpoint_of(pile, "before")
                result = await self.store.commit(pile)
                if NAME:
                    crashpoint_of(pile, "after")
                if result.candidates and not decided:
                    made.decide(result)
                    result = await self.store.commit(made.pile(self.clock.pinned(), decided=True))
            except BaseException:
                if made.claim is not None or made.fused:
                    self.hooks.doubt()
                made.unfuse()
                raise
            self.clock.observe(result.now)
            if not result.stale:
                break
            made.unfuse()
            self.registry = await self._refresh()
        self.piles += 1
        self.ops += len(ops)
        made.resolve(result)


class _Made:
    """One pile being made from operations, and the way back from its results to them."""

    def __init__(self, ops: Sequence[Op], registry: KnownRegistry, now: int, hooks: Hooks) -> None:
        self.ops = ops
        self.registry = registry
        self.hooks = hooks
        self.turns: list[Turn] = []
        self.ticks: list[Tick] = []
        self.facts: list[Fact] = []
        self.rows: list[EventRow] = []
        self.starts: list[Start] = []
        self.cancels: list[Cancel] = []
        self.outbox: list[str] = []
        self.wakes: list[str] = []
        self.claim: Claim | None = None
        self.consumes: tuple[dispatch.Consume, ...] = ()
        self.more_cancels: tuple[Cancel, ...] = ()
        self.wait_errors: Sequence[dispatch.WaitError] = ()
        self.waits_tried: Sequence[tuple[str, float]] = ()
        self.ends = False
        ticks: dict[int, str] = {}
        for op in ops:
            self._add(op, ticks)
        self.plan = dispatch.plan(self.facts, registry, now, ticks, stopwatch) if self.facts else dispatch.Plan()
        self.fused: set[int] = set()
        self.own_starts = len(self.starts)
        self.starts.extend(self.plan.starts)
        if self.starts:
            self._fuse(now)

    def _add(self, op: Op, ticks: dict[int, str]) -> None:
        turn = -1
        if op.turn is not None:
            turn = len(self.turns)
            self.turns.append(op.turn)
            self.ends = self.ends or op.ends
        tick = -1
        if op.tick is not None:
            tick = len(self.ticks)
            self.ticks.append(op.tick if op.tick_for is None or op.tick_for in self.registry.functions else _missed(op.tick))
        for fact in op.facts:
            if op.tick_for is not None:
                ticks[len(self.facts)] = op.tick_for
            self.facts.append(fact)
            self.rows.append(fact.row if turn == tick == -1 else replace(fact.row, turn=turn, tick=tick))
        for start in op.starts:
            current = dispatch.as_registered(start, self.registry)
            self.starts.append(current if turn == -1 else replace(current, turn=turn))
        if op.cancels:
            self.cancels.extend(op.cancels)
            self.ends = True
        if op.outbox_done:
            self.outbox.extend(op.outbox_done)
        if op.wakes:
            self.wakes.extend(op.wakes)
        if op.claim is not None:
            self.claim = op.claim

    def _fuse(self, now: int) -> None:
        for place, start in enumerate(self.starts):
            if not start.concurrency and start.idempotency_key is None and start.due <= now and self.hooks.fuse(start):
                self.starts[place] = replace(start, lease_to=self.hooks.runner_id)
                self.fused.add(place)

    def pile(self, now: int | None, *, decided: bool) -> Pile:
        keys = () if decided or not self.facts else tuple(key for found in self.plan.keys for key in found)
        version = self.registry.version if self.facts or self.starts or self.ends else -1
        return Pile(
            registry_version=version,
            now=now,
            system_events=self.registry.hears_system_events if self.ends or self.ticks or self.facts else False,
            match_keys=keys,
            turns=tuple(self.turns),
            ticks=tuple(self.ticks),
            events=tuple(self.rows),
            starts=tuple(self.starts),
            decisions=tuple(self.plan.decisions),
            consumes=self.consumes,
            cancels=(*self.cancels, *self.more_cancels),
            wakes=tuple(self.wakes),
            outbox_done=tuple(self.outbox),
            claim=self.claim,
        )

    def decide(self, result: PileResult) -> None:
        decided = dispatch.decide(self.facts, self.plan.keys, result.candidates, result.now, stopwatch)
        self.consumes, self.more_cancels, self.wait_errors = tuple(decided.consumes), tuple(decided.cancels), decided.errors
        self.waits_tried = decided.tried
        self.ends = self.ends or bool(decided.cancels)

    def unfuse(self) -> None:
        for place in self.fused:
            self.hooks.fused(self.starts[place], None, 0)
        self.fused.clear()

    def resolve(self, result: PileResult) -> None:
        """Hand each operation its part of the answer, then tell the hooks."""
        turns, ticks, events, starts, cancels = (
            iter(result.turns),
            iter(result.ticks),
            iter(result.events),
            iter(result.starts),
            iter(result.cancels),
        )
        for op in self.ops:
            done = Done(
                now=result.now,
                turn=next(turns) if op.turn is not None else None,
                tick=next(ticks) if op.tick is not None else None,
                events=tuple(islice(events, len(op.facts))) if op.facts else (),
                starts=tuple(islice(starts, len(op.starts))) if op.starts else (),
                cancels=tuple(islice(cancels, len(op.cancels))) if op.cancels else (),
                whole=result,
            )
            try:
                op.tell(done)
            except Exception:  # noqa: BLE001 - whatever a listener raises
                # It is written: a listener's fault must neither write it again nor keep the others from being told.
                structlog.get_logger("stepwell.engine").exception("whom a commit was told to broke")
        for place in self.fused:
            self.hooks.fused(self.starts[place], result.starts[place], result.now)
        for function_id, kind in self.plan.errors:
            self.hooks.erred(function_id, kind)
        if self.wait_errors:
            self.hooks.waits_erred(self.wait_errors)
        for kind, seconds in (*self.plan.tried, *self.waits_tried):
            self.hooks.tried(kind, seconds)
        self.hooks.after(self.seen(), result)

    def seen(self) -> Pile:
        """The pile as the hooks see it: what was started and ended."""
        return Pile(
            system_events=self.ends and self.registry.hears_system_events,
            starts=tuple(self.starts),
            turns=tuple(self.turns),
            cancels=(*self.cancels, *self.more_cancels),
        )


def _startable(ops: Sequence[Op], registry: KnownRegistry) -> Sequence[Op]:
    """These operations without those that ask for a run of a function which, meanwhile, starts none. They are told.

    A run that invokes is another matter: its turn is written, and the function's last revision takes the run.
    """
    gone = [
        op for op in ops if op.starts and op.turn is None and any(one.function_id not in registry.functions for one in op.starts)
    ]
    if not gone:
        return ops
    for op in gone:
        op.tell(Unknown(f"function {op.starts[0].function_id!r} was suspended or removed: it starts no run"))
    return [op for op in ops if op not in gone]


def _missed(tick: Tick) -> Tick:
    """The same instant of a function that starts nothing any more."""
    return replace(tick, outcome=TickOutcome.SKIPPED, reason="the function was suspended or removed", run_id=None)


def _fail(ops: Sequence[Op], error: Exception) -> None:
    for op in ops:
        op.tell(error)


def _teller(future: "asyncio.Future[Done]") -> Callable[[Done | Exception], None]:
    def tell(done: Done | Exception) -> None:
        if future.done():
            return
        if isinstance(done, Exception):
            future.set_exception(done)
        else:
            future.set_result(done)

    return tell
