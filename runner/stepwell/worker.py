"""A runner's heart: claim what is due, execute it, keep the lease, drain.

    hint, due time or poll ──▶ claim ──▶ fresh: begin ──────────────▶ execution ──▶ released (warm) ──▶ claim …
                                     └─▶ seen before: warm, or read the journal ┘ └▶ over

Wake-ups are hints; the poll is the guarantee. An idle worker asks about once a second, and the same question sweeps.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog

from stepwell.beat import Beat
from stepwell.codes import Codes
from stepwell.decorator import Function
from stepwell.engine.crashpoint import crashpoint
from stepwell.engine.execution import Deps, Execution
from stepwell.engine.pile import Op
from stepwell.engine.run import RunStatus
from stepwell.engine.well import Well
from stepwell.errors import StoreError, StoreUnavailable
from stepwell.invoke import LocalCode
from stepwell.lease import Lease
from stepwell.revision import revision_of
from stepwell.store.records import FOREVER, Claim, End, Park, Parked, Start, Turn
from stepwell.store.results import Claimed, Journal, StartResult
from stepwell.store.views import ProgressRow
from stepwell.threads import Threads
from stepwell.warm import WARM_FOR, Warm

SECOND = 1_000_000
POLL = 1_200_000
PUT_BACK = SECOND
PUT_BACK_BROKEN = 10 * SECOND


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker works. `lease` is how long it may be silent before its runs are taken over; it beats thrice in that time."""

    pool: str = "default"
    owner: str = "default"
    slots: int = 500
    lease: timedelta = timedelta(seconds=30)
    register: bool = True
    """Whether it registers its functions in the well; on a cluster the operator does."""


class Worker:
    """Execute the functions of one pool. Everything of it runs on one event loop, but the beat and synchronous bodies."""

    def __init__(self, well: Well, functions: Sequence[Function[Any, Any]], options: WorkerOptions | None = None) -> None:
        self.well = well
        self.options = options or WorkerOptions()
        self.runner_id = well.ids.ulid(well.clock.now() // 1000)
        self.lease = Lease(well, self.runner_id, self.options.lease)
        self.functions = tuple(functions)
        self.codes = Codes()
        self.missing: Callable[[], None] = lambda: None
        """Called when a run of a revision was claimed whose code isn't here (yet): it is put back for a moment."""
        self.running: dict[str, Execution] = {}
        self.warm = Warm()
        self.asking = False
        self.threads = Threads()
        self._reserved: set[str] = set()
        self._nudged = asyncio.Event()
        self._left = asyncio.Event()
        self._log = structlog.get_logger("stepwell.worker")
        self._next_due = FOREVER
        self._caught_up = 0
        """When it last had all that it could have: what was due before then, and comes now, was held back."""
        self._next_sweep = 0
        self._stopping = False
        self._to_refresh: dict[str, Execution] = {}
        self._loop_task: asyncio.Task[None] | None = None
        self._random = random.Random(well.ids.seed())  # noqa: S311 - jitter, not secrets
        self._beat: Beat | None = None
        self._deps = Deps(
            clock=well.clock,
            ids=well.ids,
            draw=self._random.random,
            put=well.committer.put,
            registry=lambda: well.registry,
            look=well.look,
            listen=well.listen,
            refresh=self._refresh,
            released=self._released,
            over=self._over,
            wake=self._wake,
            lease_holds=self.lease.holds,
            doubt=self.lease.doubt,
            in_thread=self.threads.call,
            timer_fired=well.metrics.timer_fired,
            progress=well.progress,
            tracer=well.tracer,
        )

    # --- life ---

    async def start(self) -> None:
        """Register, take a lease, and begin to claim."""
        if self.options.register or self.functions:
            await self.replace(self.functions)
        await self._enrol()
        self.well.hooks.runner_id = self.runner_id
        self.well.hooks.fuse = self._fuse
        self.well.hooks.fused = self._fused
        self.well.hooks.doubt = self.lease.doubt
        self.well.woke.append(self._woken)
        if self.well.clock.pinned() is None:
            self._beat = Beat(self.well.store, self.runner_id, self.options.lease, self)
            self._beat.start()
        self._loop_task = asyncio.get_running_loop().create_task(self._loop())

    async def replace(self, functions: Sequence[Function[Any, Any]]) -> None:
        """Execute these functions from now on; live runs go on with the new code from their journal."""
        everything = [*functions, *(one.on_failure for one in functions if one.on_failure is not None)]
        by_id = {one.id: one for one in everything}
        self.functions = tuple(by_id.values())
        self.codes = Codes({one.id: LocalCode(one) for one in self.functions})
        self.warm.put_away()
        if self.options.register:
            specs = [(one.spec, revision_of(one)) for one in self.functions]
            await self.well.register(self.options.owner, specs, self.options.pool)
        if self._loop_task is not None:
            await self._enrol()
        self._nudge()

    async def adopt(self, codes: Codes) -> None:
        """Execute this code from now on; what is under way ends with the code it has, warm runs whose code stayed go on warm."""
        before, self.codes = self.codes, codes
        if self._loop_task is not None and (before.functions, before.broken) != (codes.functions, codes.broken):
            await self._enrol()
        self._nudge()

    async def drain(self, grace: timedelta) -> None:
        """Stop claiming, let running bodies finish for `grace`, hand the rest back, end the lease; no try is spent."""
        self._stopping = True
        self._nudge()
        self.well.hooks.fuse = _refuse
        for execution in list(self.running.values()):
            execution.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace.total_seconds()):
                while self.running:
                    self._left.clear()
                    await self._left.wait()
        for execution in self.running.values():
            execution.metrics.recovered("drain")
        await self.stop()
        await self.lease.give_back()

    async def stop(self) -> None:
        """Stop at once, as if killed: nothing is handed back."""
        self._stopping = True
        if self._loop_task is not None:
            self._loop_task.cancel()
        if self._beat is not None:
            self._beat.stop()
        if self._woken in self.well.woke:
            self.well.woke.remove(self._woken)
        self.well.hooks.fuse = _refuse
        for execution in list(self.running.values()):
            execution.put_away()
        self.running.clear()
        self.warm.put_away()
        self.threads.stop()

    @property
    def nudged(self) -> bool:
        """Whether it has been woken and has not asked since."""
        return self._nudged.is_set()

    # --- claiming ---

    async def _loop(self) -> None:
        pause = 0.05
        while not self._stopping:
            try:
                self.asking = True
                self._nudged.clear()
                more = await self._ask()
                pause = 0.05
            except StoreError as error:
                if not isinstance(error, StoreUnavailable):
                    self._log.error("the store refused a claim; it is asked again", error=str(error))
                self.asking = False
                await asyncio.sleep(pause * (0.5 + self._random.random()))
                pause = min(pause * 2, 5.0)
                continue
            if not more:
                self.asking = False
                await self._rest()

    async def _ask(self) -> bool:
        """One question to the store: due runs, news of held ones, and now and then a sweep. True: ask again at once."""
        now = self.well.clock.now()
        room = self._room()
        sweep = now >= self._next_sweep or self.well.clock.pinned() is not None
        if sweep:
            self._next_sweep = now + POLL
            await self.lease.own_up(now, self._knows)
        asked = self._claim(room, sweep=sweep)
        crashpoint("claim-before")
        done = await self.well.committer.submit(Op(claim=asked))
        if done.whole.claimed:
            crashpoint("claim-after")
        result = done.whole
        self._next_due = result.next_due
        epochs = {run_id: epoch for run_id, epoch, _inbox in asked.watch}
        for news in result.news:
            execution = self.running.get(news.run_id)
            if execution is None or execution.epoch != epochs[news.run_id]:
                continue  # it was parked, and perhaps claimed again, since the question was put
            if news.inbox < 0:
                execution.lose()
            elif news.inbox > execution.inbox:
                self._refresh(execution)
        if sweep:
            self.well.look_after(result)
        await self._take_on(result.claimed, done.now)
        if len(result.claimed) < room or room == 0:
            self._caught_up = done.now
        return bool(result.claimed) and self._room() > 0

    def _knows(self, run_id: str) -> bool:
        return run_id in self.running or run_id in self._reserved

    def _claim(self, room: int, *, sweep: bool) -> Claim:
        limits = self.well.registry.limits
        return Claim(
            self.runner_id,
            (self.options.pool,),
            self.codes.functions,
            room,
            tuple(limits[name] for name in self.codes.functions if name in limits),
            tuple((one.run_id, one.epoch, one.inbox) for one in self.running.values()),
            sweep,
        )

    async def _rest(self) -> None:
        if self._nudged.is_set():
            return
        now = self.well.clock.now()
        poll = now + POLL if self.well.clock.pinned() is None else FOREVER
        until = min(self._next_due if self._room() else FOREVER, poll)
        cancel = self.well.clock.call_at(until, self._nudge)
        try:
            await self._nudged.wait()
        finally:
            cancel()

    def _room(self) -> int:
        return 0 if self._stopping else max(0, self.options.slots - len(self.running) - len(self._reserved))

    async def _take_on(self, claimed: Sequence[Claimed], now: int) -> None:
        cold: list[tuple[Claimed, int]] = []
        for one in claimed:
            metrics = self.well.metrics.of(one.function_id)
            metrics.claimed((now - one.claimable) / SECOND, fresh=one.fresh)
            held_until = now if one.due < self._caught_up else 0
            warm = self.warm.take(one.run_id)
            if warm is not None and warm.epoch + 1 == one.epoch and self.codes.of(one.function_id, one.revision) is warm.code:
                self.running[one.run_id] = warm
                warm.resume(one, held_until)
                continue
            if warm is not None:
                warm.put_away()
            if one.fresh:
                self._begin(one, None)
            else:
                cold.append((one, held_until))
        if cold:
            self._reserved.update(one.run_id for one, _held_until in cold)
            self.well.spawn(self._begin_cold(cold))

    async def _begin_cold(self, cold: Sequence[tuple[Claimed, int]]) -> None:
        try:
            journals = await self.well.journals([one.run_id for one, _held_until in cold])
        except StoreError:
            self.lease.doubt()
            raise
        finally:
            self._reserved.difference_update(one.run_id for one, _held_until in cold)
        for one, held_until in cold:
            journal = journals.get(one.run_id)
            if journal is not None and not self._stopping:
                self._begin(one, journal, held_until)

    def _begin(self, claimed: Claimed, journal: Journal | None, held_until: int = 0) -> None:
        code = self.codes.of(claimed.function_id, claimed.revision)
        if code is None:
            self._put_back(claimed)
            return
        execution = Execution(code, claimed, journal, self._deps, self.well.metrics.of(claimed.function_id))
        execution.held_until = held_until
        self.running[claimed.run_id] = execution
        if self._stopping:
            execution.drain()
        execution.begin()

    def _put_back(self, claimed: Claimed) -> None:
        """Give up a run whose code isn't here; it is asked for again a moment later, and no try is spent."""
        broken = (claimed.function_id, claimed.revision) in self.codes.broken
        then = Park(
            self.well.clock.now() + (PUT_BACK_BROKEN if broken else PUT_BACK),
            Parked.QUEUED,
            claimed.attempt,
            claimed.attempt_steps,
        )
        self.well.committer.put(Op(turn=Turn(claimed.run_id, claimed.epoch, inbox=claimed.inbox, then=then), patient=True))
        if then.due < self._next_due:
            self._next_due = then.due
            self._nudge()
        self.missing()

    # --- what executions tell ---

    def _released(self, execution: Execution, park: Park) -> None:
        now = self.well.clock.now()
        self._frees_slot(now)
        self.running.pop(execution.run_id, None)
        self._left.set()
        soon = park.due - now <= WARM_FOR or park.state is Parked.WAITING
        if execution.draining and park.due == 0:
            execution.metrics.recovered("drain")
        if self._stopping or not soon or execution.spoiled:
            execution.put_away()
        else:
            self.warm.keep(execution, now)
        if park.due < self._next_due or self._wants_room():
            self._nudge()

    def _over(self, execution: Execution, end: End | None) -> None:
        known = self.running.get(execution.run_id)
        if known is execution:
            self._frees_slot(self.well.clock.now())
            del self.running[execution.run_id]
            self._left.set()
        if end is not None:
            if end.status is RunStatus.FAILED:
                self._log.warning("run failed", run_id=execution.run_id, function=execution.claimed.function_id)
            execution.metrics.finished(end.status, (self.well.clock.now() - execution.claimed.created) / SECOND)
        if self._wants_room():
            self._nudge()

    def _frees_slot(self, now: int) -> None:
        """A slot is about to be free: where it is the only one, nothing could be had until now."""
        if not self._room():
            self._caught_up = now

    def _wants_room(self) -> bool:
        """Whether slots were short, so that a freed one is worth a question at once."""
        return self._next_due <= self.well.clock.now() or len(self.running) + 1 >= self.options.slots

    def _refresh(self, execution: Execution) -> None:
        if not self._to_refresh:
            self.well.spawn(self._read_news())
        self._to_refresh[execution.run_id] = execution

    async def _read_news(self) -> None:
        await asyncio.sleep(0)
        executions, self._to_refresh = self._to_refresh, {}
        journals = await self.well.journals(list(executions))
        for run_id, execution in executions.items():
            journal = journals.get(run_id)
            if execution.is_over:
                continue
            if journal is None:
                execution.lose()
            else:
                execution.absorb(journal)

    def _wake(self, execution: Execution) -> None:
        """Code of a warm run goes on by itself (it awaited something that is no step): ask for its lease now."""
        self.well.committer.put(Op(wakes=(execution.run_id,), patient=True))

    # --- fused starts ---

    def _fuse(self, start: Start) -> bool:
        here = start.pool == self.options.pool and self.codes.of(start.function_id, start.revision) is not None
        if not here or not self._room() or start.function_id in self.well.registry.pauses:
            return False
        self._reserved.add(start.run_id)
        return True

    def _fused(self, start: Start, result: StartResult | None, now: int) -> None:
        self._reserved.discard(start.run_id)
        if result is None or not result.landed or result.run_id != start.run_id:
            return
        self.well.metrics.of(start.function_id).claimed((now - start.due) / SECOND, fresh=True)
        self._begin(Claimed.with_start(start), None)

    # --- lease and wake-ups ---

    async def _enrol(self) -> None:
        await self.lease.enrol(self.options.pool, self.codes, self.options.slots)
        self._caught_up = 0  # without this lease, or for other functions, it could have had nothing
        self.well.metrics.executes(self.codes.functions)

    def lease_renewed(self) -> None:
        """The beat got through."""
        self.lease.renewed()

    async def lease_gone(self) -> None:
        """The store no longer knows this runner: what it held is somebody else's; go on under a new lease."""
        for execution in list(self.running.values()):
            execution.metrics.lease_lost()
            execution.lose(fenced=True)
        self.lease.doubt()  # what no sweep has freed is this runner's again once it enrols
        await self._enrol()
        self._nudge()

    def in_flight(self) -> tuple[str, ...]:
        """The functions whose step bodies run now."""
        return tuple({one.claimed.function_id for one in list(self.running.values()) if one.branches.in_flight})

    def told(self) -> Sequence[ProgressRow]:
        """What the steps under way tell of how far they are."""
        return self.well.progress.newest()

    def blocked(self, seconds: float, functions: tuple[str, ...]) -> None:
        """User code, of one of these functions, held the event loop."""
        for function_id in functions:
            self.well.metrics.of(function_id).loop_blocked.inc(seconds)

    def _woken(self, pools: Sequence[str], runs: Sequence[str]) -> None:
        if self.options.pool in pools or any(run_id in self.running for run_id in runs):
            self._nudge()

    def _nudge(self) -> None:
        self._nudged.set()


def _refuse(_start: Start) -> bool:
    return False
