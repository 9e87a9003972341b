"""`python -m tests.bench.scrape`: how long Prometheus waits for a gateway of 10,000 functions whose store holds 100,000 live runs.

The gateway is asked over HTTP as Prometheus asks it, from another thread. "fresh" is a scrape that asks the store, "cached" one within
the five seconds for which its answer is kept. A task on the event loop meanwhile asks every millisecond to go on; "lag" is how late it
was at worst.
"""

import argparse
import asyncio
import logging
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog
import uvloop
from prometheus_client import generate_latest

from stepwell.clock import SystemClock
from stepwell.engine.events import NewEvent
from stepwell.engine.run import RunStatus
from stepwell.engine.well import Well
from stepwell.gateway.app import make_app
from stepwell.gateway.serve import address, listen, serving
from stepwell.metrics import Metrics
from stepwell.metrics.collector import written
from stepwell.metrics.timed_store import timed
from stepwell.processes import calm_collector
from stepwell.settings import GatewaySettings
from stepwell.spec.function import Concurrency, EventTrigger, FunctionSpec
from stepwell.store.postgres import PostgresStore
from stepwell.store.protocol import Store
from stepwell.store.sqlite import SqliteStore
from stepwell.store.views import FunctionStats, Stats

sys.path.insert(0, str(Path(__file__).parents[1]))

from postgres_server import server

from bench.rig import calibrate, percentile

BATCH = 500


def specs(count: int) -> list[FunctionSpec]:
    """Functions with an event of their own and one limit."""
    return [
        FunctionSpec(id=f"function-{n}", triggers=[EventTrigger(event=f"event/{n}")], concurrency=[Concurrency(limit=10)])
        for n in range(count)
    ]


async def fill(well: Well, functions: list[FunctionSpec], runs: int) -> None:
    """Register the functions, start so many runs, and have every function's histograms of the gateway."""
    await well.register("bench", [(one, "r1") for one in functions], "bench")
    for begin in range(0, runs, BATCH):
        numbers = range(begin, min(begin + BATCH, runs))
        await well.send([NewEvent(f"event/{n % len(functions)}", {"n": n}) for n in numbers])
    for one in functions:
        for status in (RunStatus.COMPLETED, RunStatus.FAILED):
            well.metrics.of(one.id).finished(status, 1.0)


async def lateness(work: Awaitable[Any]) -> tuple[Any, list[float]]:
    """The work's result, and how late a task was that wanted to go on every millisecond meanwhile."""
    late: list[float] = []

    async def beat() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            late.append(time.perf_counter() - began - 0.001)

    task = asyncio.create_task(beat())
    try:
        return await work, late
    finally:
        task.cancel()


def scraped(url: str, packing: str) -> tuple[float, int]:
    """Seconds until the last byte of one scrape, and how many bytes came."""
    asked = urllib.request.Request(url, headers={"Accept-Encoding": packing})
    began = time.perf_counter()
    with urllib.request.urlopen(asked, timeout=60) as answer:
        size = len(answer.read())
    return time.perf_counter() - began, size


@asynccontextmanager
async def gateway(store: Store, functions: list[FunctionSpec], runs: int) -> AsyncIterator[tuple[Well, str]]:
    """A gateway on a store that holds so many live runs, and where it is."""
    await store.migrate()
    metrics = Metrics("gateway")
    well = Well(timed(store, metrics), SystemClock(), metrics, "gateway")
    await well.open()
    try:
        await fill(well, functions, runs)
        listener = listen("127.0.0.1", 0)
        async with serving(make_app(well, GatewaySettings(open=True)), listener):
            yield well, f"{address(listener)}/metrics"
    finally:
        await well.close()


async def measure(kind: str, store: Store, functions: list[FunctionSpec], runs: int, rounds: int) -> None:
    """One store's rows."""
    async with gateway(store, functions, runs) as (well, url):
        lines = well.metrics.render()[0].count(b"\n")
        for _ in range(3):
            began = time.perf_counter()
            await well.store.stats()
            print(f"{kind}: the store's query {time.perf_counter() - began:.2f} s", flush=True)
        for name, packing, pause in (("fresh", "gzip", 5.5), ("cached", "gzip", 0.0), ("fresh, not packed", "identity", 5.5)):
            seconds: list[float] = []
            lags: list[float] = []
            size = 0
            for _ in range(rounds):
                await asyncio.sleep(pause)
                (took, size), late = await lateness(asyncio.to_thread(scraped, url, packing))
                seconds.append(took)
                lags.extend(late)
            print(
                f"| {name} | {kind} | {percentile(seconds, 0.5):.2f} ({min(seconds):.2f} to {max(seconds):.2f}) s | {lines:,} lines"
                f" | {size / 1e6:,.1f} MB | p99 {1000 * percentile(lags, 0.99):.0f} ms, max {1000 * max(lags):.0f} ms |"
                f" shown {well.metrics.figures.shows}",
                flush=True,
            )


def write(count: int, rounds: int) -> None:
    """The row of a process that does everything, and whose functions have each begun, executed and ended a run: the writing alone."""
    metrics = Metrics("dev")
    made = specs(count)
    metrics.keep(made)
    metrics.figures.show(Stats(0, tuple(FunctionStats(one.id, revision_due=(("r1", 0, 0),)) for one in made), (), 0))
    for one in made:
        own = metrics.of(one.id)
        own.claimed(0.1, fresh=True)
        own.step_done(0.1, "ok")
        own.finished(RunStatus.COMPLETED, 1.0)
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(rounds):
        for name, writer in (("ours", written), ("theirs", generate_latest)):
            began = time.perf_counter()
            lines = writer(metrics.registry).count(b"\n")
            seconds[name].append(time.perf_counter() - began)
    ours, theirs = (percentile(one, 0.5) for one in seconds.values())
    print(f"| {count:,} | {lines:,} | {ours:.3f} s | {theirs:.3f} s by generate_latest |", flush=True)


async def main(functions: int, runs: int, rounds: int) -> None:
    for count in (100, 500, functions):
        write(count, rounds)
    print(f"calibration {calibrate():.0f} ms; {functions:,} functions, {runs:,} live runs, {rounds} rounds", flush=True)
    made = specs(functions)
    with tempfile.TemporaryDirectory() as folder:
        await measure("SQLite", SqliteStore(f"{folder}/well.db"), made, runs, rounds)
    with server() as postgres:
        await measure("Postgres", PostgresStore(postgres.dsn, schema=f"b{uuid4().hex[:8]}"), made, runs, rounds)
    print(f"calibration at the end {calibrate():.0f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--functions", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    calm_collector()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    uvloop.run(main(given.functions, given.runs, given.rounds))
