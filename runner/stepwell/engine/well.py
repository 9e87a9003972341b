"""A process's hold on one well: its store, its committer, the registry it knows, and what follows from every commit."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import structlog

from stepwell import values
from stepwell.clock import Clock
from stepwell.engine import dispatch
from stepwell.engine.audit import tell_change
from stepwell.engine.committer import Committer
from stepwell.engine.endings import ending_facts
from stepwell.engine.events import INVOKED, NewEvent, make_fact
from stepwell.engine.pile import Done, Hooks, Op
from stepwell.engine.progress import Board
from stepwell.engine.registration import registration
from stepwell.engine.registry import Known, KnownRegistry, parse
from stepwell.engine.run import RunStatus
from stepwell.engine.trace import Tracer
from stepwell.errors import StoreError, StoreUnavailable, Unknown
from stepwell.ids import Ids
from stepwell.metrics import Metrics
from stepwell.spec.function import FunctionSpec
from stepwell.store.protocol import Store
from stepwell.store.records import Cancel, Claim, EventFate, Pile, Start, TriggerKind
from stepwell.store.registry import FunctionRow, PauseRow
from stepwell.store.results import Journal, Overdue, PileResult, StartResult

SWEEPER = "sweeper"
GOODBYE = 3.0
"""Seconds that the last writes may take when a process ends."""
WAIT_ERRORS_TOLD = 20
"""Expressions of open waits that erred on one pile of events and are looked up, logged and counted; they may be thousands."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one event that was sent."""

    id: str
    fate: EventFate


class Well:
    """One well as this process sees it. Nothing else talks to its store's write path."""

    def __init__(self, store: Store, clock: Clock, metrics: Metrics, component: str = "gateway", ids: Ids | None = None) -> None:
        self.store = store
        self.clock = clock
        self.metrics = metrics
        self.component = component
        self.ids = ids or Ids()
        self.hooks = Hooks(
            after=self._after,
            fuse=_never,
            fused=_nothing,
            erred=self._erred,
            waits_erred=self._waits_erred,
            tried=metrics.expression_tried,
        )
        self.committer = Committer(store, clock, self.refresh, self.hooks)
        self.tracer: Tracer | None = None
        """Takes the spans of this process's executions; None while there are no traces."""
        self.progress = Board()
        """What the steps that this process executes tell of how far they are."""
        metrics.ratios = self.progress.least
        self.woke: list[Callable[[Sequence[str], Sequence[str]], None]] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def registry(self) -> KnownRegistry:
        """The version of the registry that this process matches with."""
        return self.committer.registry

    async def open(self) -> None:
        """Connect and read the registry."""
        await self.store.open()
        self.committer.flushers = 2 if await self.store.on_hint(self._heard) else self.committer.flushers
        await self.refresh()

    async def close(self) -> None:
        """Write what was submitted, unless the store is away; then let go of it. What isn't written is done again elsewhere."""
        try:
            async with asyncio.timeout(GOODBYE):
                await self.committer.drain()
        except TimeoutError:
            self.committer.abandon()
        for task in self._tasks:
            task.cancel()
        await self.store.close()

    def abandon(self) -> None:
        """Stop as a killed process does: what is not durable is lost, the store stays open."""
        self.committer.abandon()
        for task in self._tasks:
            task.cancel()

    # --- what people and user code ask for ---

    async def send(self, events: Sequence[NewEvent]) -> list[Receipt]:
        """Accept events; on return each accepted one is durable, with every run that it started."""
        now = self.clock.now()
        facts = tuple(make_fact(event, now, self.ids) for event in events)
        await self.committer.room()
        done = await self.committer.submit(Op(facts=facts, size=sum(len(fact.row.data) for fact in facts)))
        return [Receipt(fact.row.id, fate) for fact, fate in zip(facts, done.events, strict=True)]

    async def invoke(self, function_id: str, data: Mapping[str, Any]) -> str:
        """Start a function by its id, triggers aside; the id of its run, or of the first one with its idempotency key."""
        now = self.clock.now()
        fact = make_fact(NewEvent(INVOKED, data, id=self.ids.ulid(now // 1000)), now, self.ids)
        run_id = self.ids.ulid(now // 1000)
        occasion = dispatch.Occasion(TriggerKind.INVOKE, now, now)
        start = dispatch.start(self._known(function_id), (fact,), run_id, occasion, dispatch.Plan())
        done = await self.committer.submit(Op(starts=(start,)))
        return done.starts[0].run_id

    async def cancel(self, run_id: str, by: str) -> RunStatus:
        """Cancel a run; its status afterwards (an ended run keeps its own). Nothing more is recorded for it."""
        error = {"name": "Cancelled", "message": f"cancelled by {by}"}
        done = await self.committer.submit(Op(cancels=(Cancel(run_id, values.canonical(error)),)))
        status = done.cancels[0]
        if status is None:
            raise Unknown(f"there is no run {run_id!r}")
        return status

    async def rerun(self, run_id: str) -> str:
        """Start a new run from an old one's events, linked to it; the new run's id."""
        row = await self.store.run(run_id)
        if row is None:
            raise Unknown(f"there is no run {run_id!r}")
        known = self._known(row.function_id)
        now = self.clock.now()
        facts = tuple(
            make_fact(
                NewEvent(one["name"], one["data"], one["id"], one.get("ts"), one.get("v"), one.get("traceparent")), now, self.ids
            )
            for one in values.decode(row.input)
        )
        occasion = dispatch.Occasion(TriggerKind.RERUN, now, now)
        start = dispatch.start(known, facts, self.ids.ulid(now // 1000), occasion, dispatch.Plan())
        start = dispatch.as_rerun(start, run_id)
        done = await self.committer.submit(Op(starts=(start,)))
        return done.starts[0].run_id

    # --- registry ---

    async def refresh(self) -> KnownRegistry:
        """Read the registry's present version."""
        registry = parse(await self.store.registry(), self.registry)
        self.committer.registry = registry
        self.metrics.keep(known.spec for known in registry.all)
        return registry

    async def look(self) -> KnownRegistry:
        """Read the registry's present version, however long the store is away."""
        return await _patiently(self.refresh)

    async def journals(self, run_ids: Sequence[str]) -> Mapping[str, Journal]:
        """What these runs have recorded and wait for, however long the store is away."""
        return await _patiently(lambda: self.store.journals(run_ids))

    async def register(self, owner: str, functions: Sequence[tuple[FunctionSpec, str]], pool: str) -> None:
        """Make these (spec, revision) pairs the owner's functions, with their schedules and what their listeners listen on."""
        asked = registration(owner, functions, pool, self.clock.now())
        if asked.listens:
            await self.store.listen(asked.listens)
        before = await self.refresh()
        await self.store.register(owner, asked.functions, asked.schedules)
        await self.refresh()
        for row, was in changed_functions(owner, before, self.registry):
            tell_change(owner, row, was)

    async def listen(self, name: str, path: str) -> None:
        """Make sure that events of this name are looked up by this path from now on, however long the store is away."""
        if path not in self.registry.paths.get(name, ()):
            await _patiently(lambda: self.store.listen([(name, path)]))
            await _patiently(self.refresh)

    async def pause(self, pause: PauseRow) -> PauseRow:
        """Have a function's runs wait; the pause that holds, which may be an earlier one. Unknown if there is no function."""
        if (await self.refresh()).known(pause.function_id) is None:
            raise Unknown(f"there is no function {pause.function_id!r}")
        await self.store.pause(pause, self.clock.pinned())
        return (await self.refresh()).pauses.get(pause.function_id, pause)

    async def resume(self, function_id: str) -> bool:
        """Let a paused function's runs go on; False if it was not paused."""
        done = await self.store.resume(function_id, self.clock.pinned())
        known = (await self.refresh()).known(function_id)
        if done and known is not None:
            for wake in self.woke:
                wake((known.row.pool,), ())
            self.spawn(self.store.hint(known.row.pool))
        return done

    # --- upkeep ---

    async def sweep(self) -> PileResult:
        """Look for expired leases, freed slots, deadlines and untold ends, as a process that executes nothing."""
        done = await self.committer.submit(Op(claim=Claim(SWEEPER, (), (), 0, sweep=True)))
        self.look_after(done.whole)
        return done.whole

    def look_after(self, result: PileResult) -> None:
        """Act on what a sweep found."""
        if result.registry_version and result.registry_version != self.registry.version:
            self.spawn(self.refresh())
        for one in result.lost:
            self.metrics.of(one.function_id).recovered(one.cause)
            if one.beaten:
                self.metrics.recovered_after(one.cause, (result.now - one.beaten) / 1e6)
        if result.overdue:
            self.spawn(self._cancel_overdue(result.overdue))
        if result.outbox:
            self.spawn(self.tell_ends(result.outbox))

    async def tell_ends(self, run_ids: Sequence[str]) -> None:
        """Send the system events of ended runs; told twice they are the same events."""
        now = self.clock.now()
        ops: list[Op] = []
        for run_id in run_ids:
            row = await self.store.run(run_id)
            facts = () if row is None else ending_facts(row, now, self.ids)
            ops.append(Op(facts=facts, outbox_done=(run_id,), patient=True))
        await asyncio.gather(*(self.committer.submit(op) for op in ops))

    def spawn(self, work: Any) -> None:
        """Run a coroutine beside; a store that is away is met again at the next sweep."""
        task = asyncio.get_running_loop().create_task(_quietly(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def idle(self) -> bool:
        """Whether nothing is being written and nothing runs beside."""
        return self.committer.idle and not self._tasks

    async def _cancel_overdue(self, overdue: Sequence[Overdue]) -> None:
        ops: list[Op] = []
        for one in overdue:
            error, status = overdue_error(one)
            ops.append(Op(cancels=(Cancel(one.run_id, error, status, only_unclaimed=one.reason == "start"),), patient=True))
        await asyncio.gather(*(self.committer.submit(op) for op in ops))

    def _after(self, pile: Pile, result: PileResult) -> None:
        """What follows from every commit: counters, wake-ups here and in other processes, ends to tell."""
        for start, outcome in zip(pile.starts, result.starts, strict=True):
            self.metrics.of(start.function_id).created(start.trigger, landed=outcome.landed, skipped=outcome.skipped)
        cancelled = [one.run_id for one, status in zip(pile.cancels, result.cancels, strict=True) if status is one.status]
        if cancelled:
            self.spawn(self._count_cancelled(tuple(dict.fromkeys(cancelled)), result.now))
        if result.ready or result.touched:
            for wake in self.woke:
                wake(result.ready, result.touched)
            self.spawn(self.store.hint(",".join(result.ready)))
        if pile.system_events:
            ended = [turn.run_id for turn, done in zip(pile.turns, result.turns, strict=True) if done.landed and turn.ends]
            if ended or cancelled:
                self.spawn(self.tell_ends([*ended, *cancelled]))

    async def _count_cancelled(self, run_ids: Sequence[str], ended: int) -> None:
        """Count the runs that this commit ended; one that had ended before is not counted again."""
        for run_id in run_ids:
            row = await self.store.run(run_id)
            if row is not None and row.ended == ended:
                counted = self.metrics.of(row.function_id)
                counted.finished(row.status, (ended - row.created) / 1e6)
                # Of all that isn't an execution, only a sweep that finds a run poisoned ends it so.
                if row.status is RunStatus.FAILED:
                    counted.parked.value += 1

    def _heard(self, payload: str) -> None:
        pools = tuple(payload.split(",")) if payload else ()
        for wake in self.woke:
            wake(pools, ())

    def _erred(self, function_id: str, kind: str) -> None:
        self.metrics.of(function_id).expression_error(kind)

    def _waits_erred(self, errors: Sequence[dispatch.WaitError]) -> None:
        self.spawn(self._tell_wait_errors(errors[:WAIT_ERRORS_TOLD]))

    async def _tell_wait_errors(self, errors: Sequence[dispatch.WaitError]) -> None:
        """Log and count expressions of open waits that erred; whose they are stands with their runs."""
        for one in errors:
            row = await self.store.run(one.run_id)
            if row is not None:
                self.metrics.of(row.function_id).expression_error(one.kind)
                log = structlog.get_logger("stepwell.well")
                log.warning(
                    "an expression erred: no match", run_id=one.run_id, function=row.function_id, where=one.kind, error=one.reason
                )

    def _known(self, function_id: str) -> Known:
        known = self.registry.functions.get(function_id)
        if function_id in self.registry.resting:
            raise Unknown(f"function {function_id!r} is suspended or was deleted: it starts no run")
        if known is None:
            there = ", ".join(sorted(self.registry.functions)[:8]) or "none"
            raise Unknown(f"there is no function {function_id!r}; there are: {there}")
        return known


def changed_functions(owner: str, before: KnownRegistry, after: KnownRegistry) -> list[tuple[FunctionRow, FunctionRow | None]]:
    """What an owner's registration changed, with what was there before: what is new or other, or starts nothing now."""
    was = {known.row.function_id: known.row for known in before.all}
    now = {known.row.function_id: known.row for known in after.all}
    gone = [(replace(row, active=False), row) for name, row in was.items() if _starts(row, owner) and name not in now]
    return [(row, was.get(name)) for name, row in now.items() if row.owner == owner and row != was.get(name)] + gone


def _starts(row: FunctionRow, owner: str) -> bool:
    return row.owner == owner and row.active


def overdue_error(one: Overdue) -> tuple[bytes, RunStatus]:
    """The last word on a run that the sweep found overdue or poisoned."""
    if one.reason == "poison":
        message = "its runner died five times without a step recorded in between; mend the code, then rerun it"
        return values.canonical({"name": "RunnerKilled", "message": message}), RunStatus.FAILED
    name = "StartTimeout" if one.reason == "start" else "FinishTimeout"
    message = f"timeouts.{one.reason} of {one.function_id!r} passed"
    return values.canonical({"name": name, "message": message}), RunStatus.CANCELLED


async def _quietly(work: Awaitable[Any]) -> None:
    try:
        await work
    except StoreUnavailable:
        return
    except StoreError as error:
        structlog.get_logger("stepwell.well").error("the store refused what runs beside", error=str(error))


async def _patiently(act: Callable[[], Awaitable[T]]) -> T:
    """Ask until the store is there: code that waits for it spends no try."""
    pause = 0.05
    while True:
        try:
            return await act()
        except StoreUnavailable:
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)


def _never(_start: Start) -> bool:
    return False


def _nothing(_start: Start, _result: StartResult | None, _now: int) -> None:
    return


__all__ = ["Done", "Receipt", "Well"]
