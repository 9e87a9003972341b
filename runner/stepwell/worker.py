"""A runner's heart: claim what is due, execute it, keep the lease, drain.

    hint, due time or poll ──▶ claim ──▶ fresh: begin ──────────────▶ execution ──▶ released (warm) ──▶ claim …
                                     └─▶ seen before: warm, or read the journal ┘ └▶ over

Wake-ups are hints; the poll is the guarantee. An idle worker asks about once a second, and the same question sweeps.
"""

import asyncio
import contextlib
import contextvars
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any

import structlog

from stepwell.beat import Beat
from stepwell.decorator import Function
from stepwell.engine.committer import Op
from stepwell.engine.crashpoint import crashpoint
from stepwell.engine.execution import Code, Deps, Execution
from stepwell.engine.run import RunStatus
from stepwell.engine.well import Well
from stepwell.errors import StoreError, StoreUnavailable
from stepwell.invoke import LocalCode
from stepwell.revision import revision_of
from stepwell.store.records import FOREVER, Claim, End, Park, Parked, Start, Turn
from stepwell.store.results import Claimed, Journal, StartResult
from stepwell.store.views import RunnerRow
from stepwell.warm import WARM_FOR, Warm

SECOND = 1_000_000
POLL = 1_200_000
LEASE_MARGIN = 5 * SECOND
PUT_BACK = SECOND
PUT_BACK_BROKEN = 10 * SECOND
THREADS = 32
MOST_BROKEN, MOST_TOLD = 50, 300


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker works. `lease` is how long it may be silent before its runs are taken over; it beats thrice in that time."""

    pool: str = "default"
    owner: str = "default"
    slots: int = 500
    lease: timedelta = timedelta(seconds=30)
    register: bool = True
    """Whether it registers its functions in the well; on a cluster the operator does."""


@dataclass(frozen=True)
class Codes:
    """What a worker executes: code for any run of a function, or for those of one revision alone."""

    by_function: Mapping[str, Code] = field(default_factory=dict[str, Code])
    by_revision: Mapping[tuple[str, str], Code] = field(default_factory=dict[tuple[str, str], Code])
    broken: Mapping[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    """Revisions whose code can't be had in this process, and why."""

    @cached_property
    def functions(self) -> tuple[str, ...]:
        """The ids of the functions."""
        return tuple(dict.fromkeys((*self.by_function, *(function_id for function_id, _revision in self.by_revision))))

    def of(self, function_id: str, revision: str) -> Code | None:
        """The code for a run, None if it isn't here."""
        return self.by_revision.get((function_id, revision)) or self.by_function.get(function_id)


class Worker:
    """Execute the functions of one pool. Everything of it runs on one event loop, but the beat and synchronous bodies."""

    def __init__(self, well: Well, functions: Sequence[Function[Any, Any]], options: WorkerOptions | None = None) -> None:
        self.well = well
        self.options = options or WorkerOptions()
        self.runner_id = well.ids.ulid(well.clock.now() // 1000)
        self.functions = tuple(functions)
        self.codes = Codes()
        self.missing: Callable[[], None] = lambda: None
        """Called when a run of a revision was claimed whose code isn't here (yet): it is put back for a moment."""
        self.running: dict[str, Execution] = {}
        self.warm = Warm()
        self.asking = False
        self.in_threads = 0
        """How many synchronous bodies are in threads now."""
        self._reserved: set[str] = set()
        self._nudged = asyncio.Event()
        self._left = asyncio.Event()
        self._log = structlog.get_logger("stepwell.worker")
        self._next_due = FOREVER
        self._caught_up = 0
        """When it last had all that it could have: what was due before then, and comes now, was held back."""
        self._next_sweep = 0
        self._doubt_until = 0
        self._stopping = False
        self._to_refresh: dict[str, Execution] = {}
        self._loop_task: asyncio.Task[None] | None = None
        self._random = random.Random(well.ids.seed())  # noqa: S311 - jitter, not secrets
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="stepwell-step")
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
            lease_holds=self._lease_holds,
            doubt=self._doubt,
            in_thread=self._in_thread,
            timer_fired=well.metrics.timer_fired,
            progress=well.progress,
            tracer=well.tracer,
        )
        self._lease_until = FOREVER

    # --- life ---

    async def start(self) -> None:
        """Register, take a lease, and begin to claim."""
        if self.options.register or self.functions:
            await self.replace(self.functions)
        await self._enrol()
        self.well.hooks.runner_id = self.runner_id
        self.well.hooks.fuse = self._fuse
        self.well.hooks.fused = self._fused
        self.well.hooks.doubt = self._doubt
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
        try:
            await self.well.store.leave(self.runner_id, self.well.clock.pinned())
        except StoreUnavailable as error:
            self._log.warning("the lease could not be given back; it ends by itself", error=str(error))

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
        self._threads.shutdown(wait=False, cancel_futures=True)

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
            await self._own_up(now)
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

    def _doubt(self) -> None:
        """The store may hold runs for this runner that it doesn't know: look for a while, since a commit may land later."""
        self._doubt_until = self.well.clock.now() + 2 * round(self.options.lease.total_seconds() * SECOND)

    async def _own_up(self, now: int) -> None:
        """Hand back runs that are leased to this runner and that it knows nothing of, or dropped: nobody else would take them."""
        if now >= self._doubt_until:
            return
        held = await self.well.store.held(self.runner_id)
        unknown = [(run_id, epoch) for run_id, epoch in held if run_id not in self.running and run_id not in self._reserved]
        if unknown:
            await self.well.store.hand_back(self.runner_id, unknown, self.well.clock.pinned())
            self._log.warning("handed back runs that this runner held and doesn't execute", runs=len(unknown))

    def _claim(self, room: int, *, sweep: bool) -> Claim:
        limits = self.well.registry.limits
        return Claim(
            self.runner_id,
            (self.options.pool,),
            self.codes.functions,
            room,
            tuple(limits[name] for name in self.codes.functions if name in limits),
            tuple((one.run_id, one.epoch, one.inbox) for one in self.running.values()) if sweep or self._watching() else (),
            sweep,
        )

    def _watching(self) -> bool:
        return bool(self.running)

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
            metrics.claimed((now - one.due) / SECOND, fresh=one.fresh)
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
            journals = await self._journals([one.run_id for one, _held_until in cold])
        except StoreError:
            self._doubt()
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

    async def _journals(self, run_ids: Sequence[str]) -> Mapping[str, Journal]:
        pause = 0.05
        while True:
            try:
                return await self.well.store.journals(run_ids)
            except StoreUnavailable:
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)

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
        journals = await self._journals(list(executions))
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
        claimed = Claimed(
            start.run_id,
            start.function_id,
            start.revision,
            1,
            0,
            0,
            0,
            start.due,
            start.created,
            start.trigger,
            start.input,
            recovered=False,
        )
        self.well.metrics.of(start.function_id).claimed((now - start.due) / SECOND, fresh=True)
        self._begin(claimed, None)

    # --- lease and threads ---

    async def _enrol(self) -> None:
        pinned = self.well.clock.pinned()
        lease = round(self.options.lease.total_seconds() * SECOND)
        length = lease if pinned is None else FOREVER // 2
        broken = tuple((*key, why[:MOST_TOLD]) for key, why in list(self.codes.broken.items())[:MOST_BROKEN])
        row = RunnerRow(
            self.runner_id, (self.options.pool,), self.codes.functions, self.options.slots, length, draining=False, broken=broken
        )
        await self.well.store.enrol(row)
        self._caught_up = 0  # without this lease, or for other functions, it could have had nothing
        self.well.metrics.executes(self.codes.functions)
        self._lease_until = self.well.clock.now() + length

    def lease_renewed(self) -> None:
        """The beat got through."""
        self._lease_until = self.well.clock.now() + round(self.options.lease.total_seconds() * SECOND)

    async def lease_gone(self) -> None:
        """The store no longer knows this runner: what it held is somebody else's; go on under a new lease."""
        for execution in list(self.running.values()):
            execution.metrics.lease_lost()
            execution.lose(fenced=True)
        self._doubt()  # what no sweep has freed is this runner's again once it enrols
        await self._enrol()
        self._nudge()

    def in_flight(self) -> tuple[str, ...]:
        """The functions whose step bodies run now."""
        return tuple({one.claimed.function_id for one in list(self.running.values()) if one.in_flight})

    def blocked(self, seconds: float, functions: tuple[str, ...]) -> None:
        """User code, of one of these functions, held the event loop."""
        for function_id in functions:
            self.well.metrics.of(function_id).loop_blocked.inc(seconds)

    def _lease_holds(self) -> bool:
        return self.well.clock.now() < self._lease_until - min(
            LEASE_MARGIN, round(self.options.lease.total_seconds() * SECOND) // 3
        )

    def _in_thread(self, call: Callable[[], object]) -> Awaitable[object]:
        context = contextvars.copy_context()
        self.in_threads += 1
        future = asyncio.get_running_loop().run_in_executor(self._threads, context.run, call)
        future.add_done_callback(self._out_of_thread)
        return future

    def _out_of_thread(self, _done: object) -> None:
        self.in_threads -= 1

    def _woken(self, pools: Sequence[str], runs: Sequence[str]) -> None:
        if self.options.pool in pools or any(run_id in self.running for run_id in runs):
            self._nudge()

    def _nudge(self) -> None:
        self._nudged.set()


def _refuse(_start: Start) -> bool:
    return False
