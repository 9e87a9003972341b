"""What a well takes: bytes of disk a run and a step, memory and connections of a process. `python -m tests.bench.footprint`.

Bytes are those of tables with their indexes, in a well of its own, with values of a few bytes; payloads come on top.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import asyncpg
import httpx
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from postgres_server import server

import stepwell
from bench.rig import rig, steps
from stepwell import Context
from stepwell.store.postgres import PostgresStore

SIZE = """
select coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'stepwell' and c.relkind in ('r', 'm')
"""
TABLES = "select count(*) from pg_tables where schemaname = 'stepwell'"
CONNECTIONS = "select count(*) from pg_stat_activity where application_name = 'stepwell'"
RUNS = 5_000
CODE = """
import stepwell
from stepwell import Context

@stepwell.function(id="nap", triggers=[stepwell.on_event("nap")])
async def nap(ctx: Context) -> None:
    await ctx.step.run("before", lambda: 1)
    await ctx.step.sleep("nap", ctx.event.data["for"])
    await ctx.step.run("after", lambda: 1)
"""
KEY = "footprint"


@stepwell.function(id="asleep", triggers=[stepwell.on_event("asleep")])
async def asleep(ctx: Context) -> None:
    """Sleeps for longer than anybody looks."""
    await ctx.step.sleep("nap", "30d")


async def main() -> None:
    """Measure and print."""
    with server() as postgres:
        await PostgresStore(postgres.dsn).migrate()
        print(f"a new well: {await size(postgres.dsn):,} bytes in {await size(postgres.dsn, TABLES)} tables")
        one = await bytes_a_run(postgres.dsn, "one", 1)
        eleven = await bytes_a_run(postgres.dsn, "eleven", 11)
        sleeper = await bytes_asleep(postgres.dsn)
        print(f"a run of one step, with its event: {one:,.0f} bytes")
        print(f"each further step: {(eleven - one) / 10:,.0f} bytes")
        print(f"a run that sleeps, with its event: {sleeper:,.0f} bytes")
    with server() as postgres:
        await processes(postgres.dsn)


async def bytes_a_run(dsn: str, name: str, count: int) -> float:
    """What the tables have grown by for each run that has ended."""
    async with rig(PostgresStore(dsn), [steps(name, count)]) as made:
        await made.send(name, 10)  # what is made at first use
        await made.until_ended(10)
        start = await size(dsn)
        for _ in range(RUNS // 100):
            await made.send(name, 100)
            await made.until_ended(100)
        await made.idle()
        return (await size(dsn) - start) / RUNS


async def bytes_asleep(dsn: str) -> float:
    """What the tables have grown by for each run that is asleep."""
    async with rig(PostgresStore(dsn), [asleep]) as made:
        start = await size(dsn)
        for _ in range(RUNS // 100):
            await made.send("asleep", 100)
        await made.idle()
        return (await size(dsn) - start) / RUNS


async def size(dsn: str, question: str = SIZE) -> int:
    """Bytes of the well's tables with their indexes; or another question's number."""
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()


async def processes(dsn: str) -> None:
    """Memory and connections of a gateway and a runner: new, and after 10,000 runs of which 5,000 sleep."""
    folder = Path(tempfile.mkdtemp())
    (folder / "code.py").write_text(CODE, encoding="utf-8")
    store = PostgresStore(dsn)
    await store.migrate()
    environment = {**os.environ, "STEPWELL_STORE": dsn, "STEPWELL_KEY": KEY}
    runner = start(["runner", "--functions", "code.py", "--health-port", "18290"], folder, environment)
    gateway = start(["gateway", "--port", "18288"], folder, environment)
    try:
        for port in (18288, 18290):
            await ready(port)
        await asyncio.sleep(3)
        await tell("idle", dsn, runner, gateway)
        async with httpx.AsyncClient(headers={"Authorization": f"Bearer {KEY}"}, trust_env=False, timeout=30) as client:
            for wait in ["1s"] * 50 + ["1h"] * 50:
                answer = await client.post(
                    "http://127.0.0.1:18288/e/-", json=[{"name": "nap", "data": {"for": wait}} for _ in range(100)]
                )
                assert answer.status_code == 200, answer.text
            await tell("under load", dsn, runner, gateway)
        await asyncio.sleep(40)
        await tell("after 10,000 runs, 5,000 of them asleep", dsn, runner, gateway)
    finally:
        for process in (runner, gateway):
            process.terminate()
            process.wait(30)


def start(arguments: list[str], folder: Path, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    """A process of ours."""
    log = (folder / f"{arguments[0]}.log").open("ab")
    with log:
        command = [Path(sys.executable).with_name("stepwell"), *arguments]
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


async def ready(port: int) -> None:
    """Wait until a process answers that it is ready."""
    deadline = time.monotonic() + 30
    async with httpx.AsyncClient(trust_env=False) as client:
        while time.monotonic() < deadline:
            try:
                if (await client.get(f"http://127.0.0.1:{port}/ready")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)
    raise AssertionError(f"nothing is ready at {port}")


async def tell(when: str, dsn: str, runner: "subprocess.Popen[bytes]", gateway: "subprocess.Popen[bytes]") -> None:
    """Print what both take now."""
    connection = await asyncpg.connect(dsn)
    both = await connection.fetchval(CONNECTIONS)
    await connection.close()
    memory = [psutil.Process(one.pid).memory_info().rss / 1e6 for one in (runner, gateway)]
    print(f"{when}: runner {memory[0]:.0f} MB, gateway {memory[1]:.0f} MB, {both} connections of both")


if __name__ == "__main__":
    asyncio.run(main())
