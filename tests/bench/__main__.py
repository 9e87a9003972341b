"""`make bench`: W1 to W6 on both stores, as a table to paste into docs/performance.md.

CPU per unit is the headline: it survives a noisy machine. Rates and latencies come second. SQLite and Postgres are measured in
turn, round after round; medians are printed, with minimum and maximum in brackets.
"""

import argparse
import asyncio
import contextlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import uvloop

import stepwell
from stepwell import Context
from stepwell.engine.events import NewEvent
from stepwell.processes import calm_collector
from stepwell.store.postgres import PostgresStore
from stepwell.store.protocol import Store
from stepwell.store.sqlite import SqliteStore

sys.path.insert(0, str(Path(__file__).parents[1]))

from postgres_server import server

from bench.rig import Rig, calibrate, noop, percentile, rig, steps

ONE, FIVE, TWENTY = steps("one", 1), steps("five", 5), steps("twenty", 20)
lags: list[float] = []
committed: list[float] = []
CHILDREN = 500


@stepwell.function(id="child")
async def child(ctx: Context) -> int:
    return await ctx.step.run("step", noop)


@stepwell.function(id="parent", triggers=[stepwell.on_event("parent")])
async def parent(ctx: Context) -> int:
    return sum(await asyncio.gather(*(ctx.step.invoke(f"child-{n}", child) for n in range(CHILDREN))))


@stepwell.function(id="sleeper", triggers=[stepwell.on_event("sleeper")])
async def sleeper(ctx: Context) -> None:
    due = ctx.event.data["due"]
    await ctx.step.sleep_until("until", due)

    async def woken() -> float:
        return time.time()

    at = await ctx.step.run("woken", woken)
    lags.append(at - ctx.event.data["at"])


FUNCTIONS = (ONE, FIVE, TWENTY, child, parent, sleeper)
Figures = dict[str, float]


async def closed_loop(made: Rig, name: str, count: int, callers: int) -> list[float]:
    """So many callers, each sending an event and waiting for its run's end; the latencies in seconds."""
    left = count
    latencies: list[float] = []
    loop = asyncio.get_running_loop()

    async def caller() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            began = time.perf_counter()
            event_id = made.well.ids.ulid(made.well.clock.now() // 1000)
            ended = loop.create_future()
            made.waiting[f"{name}:{event_id}"] = ended
            await made.well.send([NewEvent(name, {}, id=event_id)])
            await ended
            latencies.append(time.perf_counter() - began)

    await asyncio.gather(*(caller() for _ in range(callers)))
    return latencies


def watch_ends(made: Rig) -> None:
    """Resolve callers' futures by (function, event) instead of by run id."""
    deps = made.worker._deps
    tell = deps.over

    def over(execution: Any, end: Any) -> None:
        tell(execution, end)
        if end is not None:
            event_id = execution.first_event()["id"] if made.waiting else ""
            future = made.waiting.pop(f"{execution.claimed.function_id}:{event_id}", None)
            if future is not None and not future.done():
                future.set_result(None)

    from dataclasses import replace

    made.worker._deps = replace(deps, over=over)


async def measured(made: Rig, units: int, work: Coroutine[Any, Any, Any]) -> Figures:
    """Run the work; rate, CPU ms a unit of engine and database, operations a commit."""
    await made.idle()
    own, database = made.cpu()
    turns, writes = made.store.turns, made.store.writes
    began = time.perf_counter()
    await work
    seconds = time.perf_counter() - began
    own_after, database_after = made.cpu()
    return {
        "rate": units / seconds,
        "seconds": seconds,
        "cpu": 1000 * (own_after - own + database_after - database) / units,
        "cpu_db": 1000 * (database_after - database) / units,
        "ops": (made.store.turns - turns) / max(1, made.store.writes - writes),
    }


async def w1(made: Rig, callers: int, count: int) -> Figures:
    latencies: list[float] = []

    async def work() -> None:
        latencies.extend(await closed_loop(made, "one", count, callers))

    figures = await measured(made, count, work())
    return {**figures, "p50": 1000 * percentile(latencies, 0.5), "p99": 1000 * percentile(latencies, 0.99)}


async def w2(made: Rig, runs: int) -> Figures:
    async def work() -> None:
        made.ended = 0
        for _ in range(0, runs, 100):
            await made.send("twenty", min(100, runs))
        await made.until_ended(runs)

    return await measured(made, runs * 20, work())


async def w3(made: Rig, count: int = 200) -> Figures:
    latencies: list[float] = []
    writes = made.store.writes

    async def work() -> None:
        latencies.extend(await closed_loop(made, "five", count, 1))

    figures = await measured(made, count, work())
    figures["commits"] = (made.store.writes - writes) / count
    return {**figures, "p50": 1000 * percentile(latencies, 0.5), "p99": 1000 * percentile(latencies, 0.99)}


async def w4(made: Rig) -> Figures:
    async def work() -> None:
        await closed_loop(made, "parent", 1, 1)

    return await measured(made, CHILDREN, work())


async def w5(made: Rig, count: int = 1000) -> Figures:
    lags.clear()
    at = time.time() + 4
    due = stepwell_time(at)

    async def work() -> None:
        made.ended = 0
        for _ in range(0, count, 100):
            await made.well.send([NewEvent("sleeper", {"due": due, "at": at}) for _ in range(100)])
        await made.until_ended(count)

    figures = await measured(made, count, work())
    return {
        **figures,
        "p50": 1000 * percentile(lags, 0.5),
        "p99": 1000 * percentile(lags, 0.99),
        "min": 1000 * min(lags),
        "done": 1000 * (time.time() - at),
    }


def stepwell_time(at: float) -> str:
    from stepwell.clock import rfc3339

    return rfc3339(round(at * 1_000_000))


async def fill(made: Rig, runs: int) -> None:
    """So many finished five-step runs."""
    for _ in range(0, runs, 2000):
        made.ended = 0
        for _ in range(20):
            await made.send("five", 100)
        await made.until_ended(2000)


@asynccontextmanager
async def engine(kind: str, *, fused: bool, postgres: Any) -> AsyncIterator[Rig]:
    """A fresh engine on a fresh store, warmed up."""
    with tempfile.TemporaryDirectory() as folder:
        schema = f"b{uuid4().hex[:8]}"
        store: Store = SqliteStore(f"{folder}/well.db") if kind == "SQLite" else PostgresStore(postgres.dsn, schema=schema)
        pid = postgres.pid if kind == "Postgres" else None
        async with rig(store, FUNCTIONS, fused=fused, server=pid) as made:
            watch_ends(made)
            made.ended = 0
            for _ in range(5):
                await made.send("one", 100)
            await made.until_ended(500)
            yield made


def show(name: str, store: str, rounds: list[Figures], keys: list[str]) -> None:
    """One row: medians with minimum and maximum."""
    cells = [
        f"{key} {statistics.median(one[key] for one in rounds):,.3g} ({min(one[key] for one in rounds):,.3g}..{max(one[key] for one in rounds):,.3g})"
        for key in keys
    ]
    print(f"| {name} | {store} | " + " | ".join(cells) + " |", flush=True)


async def main(rounds: int, history: int) -> None:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    print(
        f"commit {commit}, Python {platform.python_version()}, {rounds} rounds; calibration {calibrate():.0f} ms; CPU is engine + database, ms a unit",
        flush=True,
    )
    with server() as postgres:
        for name, keys, fused, work in (
            ("W1 queue path, c=1", ["rate", "cpu", "cpu_db", "p50", "p99"], False, lambda made: w1(made, 1, 500)),
            ("W1 queue path, c=16", ["rate", "cpu", "cpu_db", "p50", "p99"], False, lambda made: w1(made, 16, 4000)),
            ("W1 queue path, c=64", ["rate", "cpu", "cpu_db", "p50", "p99"], False, lambda made: w1(made, 64, 10000)),
            ("W1 queue path, c=300", ["rate", "cpu", "cpu_db", "p50", "p99"], False, lambda made: w1(made, 300, 20000)),
            ("W1 fused, c=300", ["rate", "cpu", "cpu_db", "p50", "p99"], True, lambda made: w1(made, 300, 20000)),
            ("W2 300 x 20 steps", ["rate", "cpu", "cpu_db", "ops"], True, lambda made: w2(made, 300)),
            ("W2 3,000 x 20 steps", ["rate", "cpu", "cpu_db", "ops"], True, lambda made: w2(made, 3000)),
            ("W3 five steps alone", ["p50", "p99", "commits", "cpu"], True, w3),
            ("W4 500 children", ["seconds", "rate", "cpu"], True, w4),
            ("W5 1,000 wakes", ["min", "p50", "p99", "done"], True, w5),
        ):
            found: dict[str, list[Figures]] = {"SQLite": [], "Postgres": []}
            for _ in range(rounds):
                for kind in found:
                    async with engine(kind, fused=fused, postgres=postgres) as made:
                        found[kind].append(await work(made))
            for kind, figures in found.items():
                show(name, kind, figures, keys)
        await w6(history, postgres)
    print(f"calibration at the end {calibrate():.0f} ms")


async def w6(history: int, postgres: Any) -> None:
    """W3 over a store full of history, beside one on an empty store."""
    for kind in ("SQLite", "Postgres"):
        async with engine(kind, fused=True, postgres=postgres) as full:
            await fill(full, history)
            await asyncio.sleep(timedelta(seconds=1).total_seconds())
            ratios: list[float] = []
            for _ in range(3):
                async with engine(kind, fused=True, postgres=postgres) as empty:
                    ratios.append((await w3(full))["p50"] / (await w3(empty))["p50"])
            print(
                f"| W6 over {history:,} finished runs | {kind} | p50 / W3's p50 {statistics.median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f}) |",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--history", type=int, default=100_000)
    given = parser.parse_args()
    calm_collector()
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(main(given.rounds, given.history))
