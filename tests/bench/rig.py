"""An engine to measure: real stores, real clock, no HTTP; and the few numbers that are read off it."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import psutil

import stepwell
from stepwell import Context
from stepwell.clock import SystemClock
from stepwell.decorator import Function
from stepwell.engine.events import NewEvent
from stepwell.engine.execution import Execution
from stepwell.engine.well import Well
from stepwell.metrics import Metrics
from stepwell.metrics.timed_store import timed
from stepwell.store.protocol import Store
from stepwell.store.records import End, Pile
from stepwell.store.results import PileResult
from stepwell.worker import Worker, WorkerOptions


async def noop() -> int:
    """A step that returns a small value."""
    return 1


def steps(name: str, count: int) -> Function[Any, int]:
    """A function of so many sequential steps, started by the event of its name."""

    @stepwell.function(id=name, triggers=[stepwell.on_event(name)])
    async def run(ctx: Context) -> int:
        for _ in range(count):
            await ctx.step.run("step", noop)
        return count

    return run


class CountingStore:
    """A store whose calls are counted: commits that write, commits that only ask, reads."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.writes = 0
        self.asks = 0
        self.reads = 0
        self.turns = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def commit(self, pile: Pile) -> PileResult:
        """Count and commit."""
        writes = pile.turns or pile.events or pile.starts or pile.cancels or pile.ticks or pile.wakes
        result = await self.inner.commit(pile)
        if writes or result.claimed:
            self.writes += 1
        else:
            self.asks += 1
        self.turns += len(pile.turns)
        return result

    async def journals(self, run_ids: Sequence[str]) -> Any:
        """Count and read."""
        self.reads += 1
        return await self.inner.journals(run_ids)

    async def run(self, run_id: str) -> Any:
        """Count and read."""
        self.reads += 1
        return await self.inner.run(run_id)


@dataclass(slots=True)
class Rig:
    """A running engine: `well` takes events in; `worker` executes."""

    store: CountingStore
    well: Well
    worker: Worker
    server: int | None
    ended: int = 0
    waiting: dict[str, "asyncio.Future[None]"] = field(default_factory=dict)

    async def send(self, name: str, count: int = 1) -> list[str]:
        """Send events in one batch."""
        return [receipt.id for receipt in await self.well.send([NewEvent(name, {}) for _ in range(count)])]

    async def until_ended(self, count: int) -> None:
        """Wait until so many runs have ended since the last reset."""
        while self.ended < count:
            await asyncio.sleep(0.001)
        self.ended = 0

    async def idle(self) -> None:
        """Wait until nothing is being written."""
        while not self.well.idle or not self.worker.well.idle or self.worker.running:
            await asyncio.sleep(0.001)

    def cpu(self) -> tuple[float, float]:
        """CPU seconds so far: of this process, and of the database's process tree."""
        own = os.times()
        return own.user + own.system, _tree(self.server)


@asynccontextmanager
async def rig(
    store: Store,
    functions: Sequence[Function[Any, Any]],
    *,
    fused: bool = True,
    server: int | None = None,
    metrics: Metrics | None = None,
) -> AsyncIterator[Rig]:
    """Set an engine up and take it down. With `metrics` these are counted on, and the store's verbs are timed by them."""
    counting = CountingStore(store if metrics is None else timed(store, metrics))
    await store.migrate()
    well = Well(counting, SystemClock(), metrics or Metrics("bench"), "bench")
    await well.open()
    worker = Worker(well, functions, WorkerOptions(slots=2000))
    await worker.start()
    if not fused:
        well.hooks.fuse = lambda _start: False
    made = Rig(counting, well, worker, server)
    tell = worker._deps.over

    def over(execution: Execution, end: End | None) -> None:
        tell(execution, end)
        if end is not None:
            made.ended += 1
            future = made.waiting.pop(execution.run_id, None)
            if future is not None:
                future.set_result(None)

    worker._deps = replace(worker._deps, over=over)
    try:
        yield made
    finally:
        await worker.stop()
        await well.close()


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share of the sorted values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def calibrate() -> float:
    """CPU ms of a fixed loop, best of three: how fast the machine is just now."""
    best = 1e9
    for _ in range(3):
        began = time.process_time()
        total = 0
        for number in range(500_000):
            total += number * number
        best = min(best, time.process_time() - began)
    return best * 1000


def _tree(pid: int | None) -> float:
    if pid is None:
        return 0.0
    parent = psutil.Process(pid)
    gone = parent.cpu_times()
    total = gone.user + gone.system + gone.children_user + gone.children_system
    for child in parent.children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total
