"""`python -m tests.bench.metering`: what metrics cost a step: W2 with them against W2 without, in turn, in one process.

There is no switch in the product. Without metrics the engine is given ones whose every method does nothing, and a store that isn't
timed. Both engines stand all the while, each on a store of its own; a pair is 300 runs of 20 steps on either, and whoever begins
changes with each pair. The ratio of a pair's CPU survives a machine whose speed changes from minute to minute, but noise of some
percent stays: "without twice" does the same with two engines without metrics and shows how much. So a third row counts everything
twenty times over; a twentieth of what that costs, loops included, is above the noise.
"""

import argparse
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog
import uvloop

from stepwell.metrics import FunctionMetrics, Metrics
from stepwell.metrics.cells import Shelf
from stepwell.processes import calm_collector
from stepwell.store.postgres import PostgresStore
from stepwell.store.protocol import Store
from stepwell.store.sqlite import SqliteStore

sys.path.insert(0, str(Path(__file__).parents[1]))

from postgres_server import Postgres, server

from bench.rig import Rig, calibrate, rig, steps

TWENTY = steps("twenty", 20)
RUNS = 300
TIMES = 20


def nothing(*_args: Any, **_more: Any) -> None:
    """Count nothing."""


class SilentFunction(FunctionMetrics):
    """A function of which nothing is counted."""

    reach = created = finished = expression_error = recovered = claimed = step_done = retried = wait_resolved = nothing


class Silent(Metrics):
    """Metrics that count nothing."""

    keep = executes = event_received = expression_tried = timer_fired = recovered_after = store_done = store_failed = nothing

    def of(self, function_id: str) -> FunctionMetrics:
        """The same for each."""
        return SILENT


SILENT = SilentFunction(Shelf(1), "silent")


async def cpu_of(made: Rig) -> float:
    """CPU ms of the engine's process for each step of one W2."""
    await made.idle()
    before = time.process_time()
    made.ended = 0
    for _ in range(0, RUNS, 100):
        await made.send("twenty", 100)
    await made.until_ended(RUNS)
    await made.idle()
    return 1000 * (time.process_time() - before) / (RUNS * 20)


def often(count: Callable[..., None]) -> Callable[..., None]:
    """Count the same so many times."""

    def counted(*args: Any, **more: Any) -> None:
        for _ in range(TIMES):
            count(*args, **more)

    return counted


class LoudFunction(FunctionMetrics):
    """A function of which everything that happens in W2 is counted many times over."""

    created, finished = often(FunctionMetrics.created), often(FunctionMetrics.finished)
    claimed, step_done = often(FunctionMetrics.claimed), often(FunctionMetrics.step_done)


class Loud(Metrics):
    """Metrics that count everything many times over."""

    store_done, expression_tried = often(Metrics.store_done), often(Metrics.expression_tried)

    def of(self, function_id: str) -> FunctionMetrics:
        """One that counts as often."""
        found = self._functions.get(function_id)
        if found is None:
            found = self._functions[function_id] = LoudFunction(self.shelf, function_id)
        return found


@asynccontextmanager
async def engine(kind: str, postgres: Postgres, metrics: Metrics) -> AsyncIterator[Rig]:
    """An engine with these metrics on a fresh store; without metrics its store isn't timed."""
    with tempfile.TemporaryDirectory() as folder:
        schema = f"b{uuid4().hex[:8]}"
        store: Store = SqliteStore(f"{folder}/well.db") if kind == "SQLite" else PostgresStore(postgres.dsn, schema=schema)
        async with rig(store, (TWENTY,), metrics=metrics) as made:
            if isinstance(metrics, Silent):
                made.store.inner = store
            await cpu_of(made)
            yield made


async def compare(kind: str, postgres: Postgres, metrics: Metrics, pairs: int) -> None:
    """One row: CPU ms a step of either, and what the first costs over the second: the median of the pairs, and the quartiles."""
    async with engine(kind, postgres, metrics) as one, engine(kind, postgres, Silent("bench")) as without:
        found: list[tuple[float, float]] = []
        for number in range(pairs):
            if number % 2:
                other = await cpu_of(without)
                found.append((await cpu_of(one), other))
            else:
                found.append((await cpu_of(one), await cpu_of(without)))
    times = TIMES if isinstance(metrics, Loud) else 1
    low, middle, high = (100 * cost for cost in statistics.quantiles([(mine / other - 1) / times for mine, other in found], n=4))
    mine, other = (statistics.median(side) for side in zip(*found, strict=True))
    name = {Loud: f"with, {times} times over, by {times}", Silent: "without twice"}.get(type(metrics), "with")
    print(f"| {name} | {kind} | {mine:.4f} | {other:.4f} | {middle:+.1f} % ({low:+.1f} to {high:+.1f} %) |", flush=True)


async def main(pairs: int) -> None:
    print(f"calibration {calibrate():.0f} ms; {pairs} pairs of {RUNS} x 20 steps; the engine's CPU a step", flush=True)
    with server() as postgres:
        for kind in ("SQLite", "Postgres"):
            for metrics in (Metrics("bench"), Loud("bench"), Silent("bench")):
                await compare(kind, postgres, metrics, pairs)
    print(f"calibration at the end {calibrate():.0f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=30)
    calm_collector()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    uvloop.run(main(parser.parse_args().pairs))
