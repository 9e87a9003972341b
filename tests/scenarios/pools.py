"""Runners of pools as a cluster has them, beside the test kit: what an operator registers is what they execute."""

import asyncio
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import orjson

from stepwell.engine.registration import registration
from stepwell.engine.well import Well
from stepwell.metrics import Metrics
from stepwell.pool_code import PoolCode
from stepwell.spec.function import FunctionSpec, failure_spec, validate
from stepwell.store.protocol import Store
from stepwell.store.registry import RevisionRow
from stepwell.testing import Durable
from stepwell.worker import Worker, WorkerOptions


@dataclass(frozen=True)
class Pod:
    """One runner: a process of its own, as far as its hold on the well goes."""

    well: Well
    source: PoolCode
    worker: Worker

    @property
    def moves(self) -> bool:
        """Whether anything goes on in it."""
        return not self.well.idle or self.worker.asking or self.worker.nudged or bool(self.worker.running)


@dataclass
class Pools:
    """An operator and its runner pods, on the kit's clock and store."""

    durable: Durable
    home: Path
    pods: dict[str, Pod] = field(default_factory=dict[str, Pod])

    async def pod(self, pool: str, code: str) -> Worker:
        """Start a runner of a pool with this code; it waits while nothing is registered for it."""
        file = self.home / f"{pool}.py"
        file.write_text(code, encoding="utf-8")
        await self.durable.serve()
        well = Well(cast("Store", self.durable.store), self.durable.clock, Metrics("test"), "test", self.durable.ids)
        well.woke = self.durable.well.woke  # in place of hints, which SQLite has none of
        await well.refresh()
        source = PoolCode(well, pool, file)
        worker = Worker(well, (), WorkerOptions(pool=pool, register=False))
        await worker.adopt(await source.load())
        await worker.start()
        self.pods[pool] = Pod(well, source, worker)
        return worker

    async def apply(self, name: str, pool: str, revision: str, **given: Any) -> None:
        """Register a function as an operator does; `suspend` makes it rest, `handler` names its code."""
        active = not given.pop("suspend", False)
        code = {"handler": given.pop("handler", "handle")}
        spec: FunctionSpec = validate({"id": name, **given})
        if spec.on_failure is not None:
            code["onFailure"] = spec.on_failure
        specs = [spec, *([cleanup] if (cleanup := failure_spec(spec)) is not None else [])]
        now = self.durable.clock.now()
        asked = registration(f"dfn/{name}", [(one, revision) for one in specs], pool, now)
        rows = [replace(row, active=active or row.function_id != name) for row in asked.functions]
        await self.durable.store.listen(asked.listens)
        await self.durable.store.register(
            asked.owner, rows, asked.schedules, [RevisionRow(name, revision, pool, orjson.dumps(code), now)]
        )
        await self.settle()

    async def delete(self, name: str) -> None:
        """Register that an operator's function is gone."""
        await self.durable.store.register(f"dfn/{name}", (), ())
        await self.settle()

    async def settle(self) -> None:
        """Let every process learn of the registry, and everything that follows happen."""
        await self.durable.well.refresh()
        for pod in self.pods.values():
            await pod.well.refresh()
            await pod.source.look(pod.worker)
        await self.still()

    async def still(self) -> None:
        """Come back once nothing moves in any process."""
        quiet = 0
        while quiet < 5:
            await self.durable.settle()
            await asyncio.sleep(0)
            quiet = 0 if any(pod.moves for pod in self.pods.values()) else quiet + 1

    async def advance(self, length: timedelta) -> None:
        """Move the clock, stopping at every instant at which something is due."""
        clock, target = self.durable.clock, self.durable.clock.now() + length // timedelta(microseconds=1)
        await self.settle()
        while (due := self._next_due(target)) < target:
            await clock.advance_to(max(due, clock.now()))
            await self.durable.scheduler.fire()
            await self.still()
        await self.durable.advance(timedelta(microseconds=target - clock.now()))
        await self.settle()

    def _next_due(self, target: int) -> int:
        schedules = self.durable.well.registry.schedules
        return min([self.durable.clock.next_call(), *(row.next_due for row in schedules), target])

    async def stop(self, pool: str) -> None:
        """Take a pool's runner away."""
        pod = self.pods.pop(pool)
        await pod.worker.drain(timedelta(seconds=5))
        await pod.well.committer.drain()

    async def work(self) -> dict[tuple[str, str, str], int]:
        """How many runs live, by function, revision and pool."""
        return {(one.function_id, one.revision, one.pool): one.live for one in await self.durable.store.work()}

    async def results(self, name: str) -> list[Any]:
        """What a function's runs returned, oldest first."""
        return [await run.result() for run in await self.durable.runs(name)]
