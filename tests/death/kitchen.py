"""A kitchen sink of functions, and a witness: a file to which every step body appends a line when it begins and when it ends.

As a program: python kitchen.py STORE SCHEMA WITNESS  runs a worker over it until SIGTERM.
"""

import asyncio
import json
import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import stepwell
from stepwell import Backoff, Context, Event, StepError, log
from stepwell.clock import SystemClock
from stepwell.decorator import Function
from stepwell.engine.scheduler import Scheduler
from stepwell.engine.well import Well
from stepwell.metrics import Metrics
from stepwell.store.postgres import PostgresStore
from stepwell.store.protocol import Store
from stepwell.store.sqlite import SqliteStore
from stepwell.worker import Worker, WorkerOptions

LEASE = timedelta(seconds=float(os.environ.get("LEASE", "2")))
QUICK = Backoff(strategy="fixed", base="50ms", jitter="0s")


def note(moment: str) -> None:
    """Append a line to the witness, durably; lines of concurrent processes don't mix."""
    step = stepwell.current_step()
    line = json.dumps([moment, step.run_id, step.id, step.occurrence, step.attempt, os.getpid(), time.time_ns()]) + "\n"
    file = os.open(os.environ["WITNESS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line.encode())
        os.fsync(file)
    finally:
        os.close(file)


async def work(value: int, fails: int = 0, seconds: float = 0.0) -> int:
    """A step body: fail so many tries, take so long, give the value back."""
    note("begin")
    await asyncio.sleep(seconds)
    if stepwell.current_step().attempt < fails:
        raise RuntimeError("planned")
    note("end")
    return value


@stepwell.function(id="child", retries=4, backoff=QUICK)
async def child(ctx: Context) -> int:
    return await ctx.step.run("child", work, ctx.event.data["n"])


@stepwell.function(id="sink", triggers=[stepwell.on_event("sink")], retries=4, backoff=QUICK)
async def sink(ctx: Context) -> dict[str, Any]:
    n = int(ctx.event.data["n"])
    first = await ctx.step.run("first", work, n)
    await ctx.step.sleep("nap", timedelta(milliseconds=10 + 37 * (n % 7)))
    flaky = await ctx.step.run("flaky", work, n, n % 3)
    left, right = await asyncio.gather(ctx.step.run("left", work, 1, 0, 0.01 * (n % 5)), ctx.step.run("right", work, 2))
    invoked = await ctx.step.invoke("invoke", child, {"n": n})
    sent = await ctx.step.send_event("tell", Event(name="told", data={"n": n}))
    heard = await ctx.step.wait_for_event("hear", event="never", timeout="50ms")
    try:
        await ctx.step.run("broken", work, 0, 99, retries=1)
        broken = "no"
    except StepError as error:
        broken = error.name
    return {
        "n": n,
        "sum": first + flaky + left + right + invoked,
        "sent": len(sent),
        "heard": heard is not None,
        "broken": broken,
    }


@stepwell.function(id="told", triggers=[stepwell.on_event("told")], retries=4, backoff=QUICK)
async def told(ctx: Context) -> int:
    return await ctx.step.run("told", work, ctx.event.data["n"])


@stepwell.function(id="slow", triggers=[stepwell.on_event("slow")])
async def slow(ctx: Context) -> int:
    before = await ctx.step.run("before", work, 1)
    during = await ctx.step.run("during", work, 2, 0, float(ctx.event.data.get("seconds", 1.0)))
    return before + during


@stepwell.function(id="killer", triggers=[stepwell.on_event("killer")])
async def killer(ctx: Context) -> None:
    def body() -> None:
        note("begin")
        os.kill(os.getpid(), signal.SIGKILL)

    await ctx.step.run("kill", body)


FUNCTIONS: tuple[Function[Any, Any], ...] = (child, sink, told, slow, killer)


def expected(n: int) -> dict[str, Any]:
    """What a sink returns, whoever died meanwhile."""
    return {"n": n, "sum": 3 * n + 3, "sent": 1, "heard": False, "broken": "RuntimeError"}


def make_store(address: str, schema: str) -> Store:
    """The store at an address."""
    return PostgresStore(address, schema=schema) if address.startswith("postgresql:") else SqliteStore(address)


async def main(address: str, schema: str) -> None:
    """A worker, as a process of its own, until SIGTERM."""
    log.configure(json=True, level="INFO", component="runner")
    store = make_store(address, schema)
    await store.migrate()
    well = Well(store, SystemClock(), Metrics("death"))
    await well.open()
    if not address.startswith("postgresql:"):
        await store.expire_all()
    worker = Worker(well, FUNCTIONS, WorkerOptions(lease=LEASE, slots=50))
    await worker.start()
    scheduler = asyncio.create_task(Scheduler(well).run())
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    Path(f"{os.environ['WITNESS']}.{os.getpid()}").touch()
    await stop.wait()
    scheduler.cancel()
    await worker.drain(timedelta(seconds=5))
    await well.close()


if __name__ == "__main__":
    os.environ["WITNESS"] = sys.argv[3]
    asyncio.run(main(sys.argv[1], sys.argv[2]))
