"""The counts that gate every change: commits, statements, dead rows and plans (C1 to C8)."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

import stepwell
from bench.rig import Rig, noop, rig, steps
from stepwell import Context
from stepwell.store.postgres import PostgresStore
from stepwell.store.sqlite import SqliteStore

ONE, FIVE, TWENTY = steps("one", 1), steps("five", 5), steps("twenty", 20)


@stepwell.function(id="child")
async def child(ctx: Context) -> int:
    return await ctx.step.run("step", noop)


@stepwell.function(id="parent", triggers=[stepwell.on_event("parent")])
async def parent(ctx: Context) -> int:
    return sum(await asyncio.gather(*(ctx.step.invoke(f"child-{n}", child) for n in range(500))))


ALL = (ONE, FIVE, TWENTY, child, parent)


@pytest_asyncio.fixture(params=["sqlite", "postgres"])
async def fused(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    """An engine whose starts may be claimed in the same commit."""
    async with rig(_store(request, tmp_path), ALL) as made:
        yield made


@pytest_asyncio.fixture(params=["sqlite", "postgres"])
async def queued(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    """An engine whose starts go through the queue."""
    async with rig(_store(request, tmp_path), ALL, fused=False) as made:
        yield made


async def _quiet(made: Rig) -> None:
    await made.send("one")
    await made.until_ended(1)
    await made.idle()
    await asyncio.sleep(0.01)


async def test_c1_commits_of_a_one_step_run(queued: Rig) -> None:
    """C1: a one-step run through the queue costs at most three commits: start; claim; last step with the end."""
    await _quiet(queued)
    before = queued.store.writes
    await _quiet(queued)
    assert queued.store.writes - before <= 3


async def test_c1_fused(fused: Rig) -> None:
    """C1: with start and claim fused it costs two."""
    await _quiet(fused)
    before = fused.store.writes
    await _quiet(fused)
    assert fused.store.writes - before <= 2


async def test_c2_one_commit_a_step_alone(fused: Rig) -> None:
    """C2: twenty steps alone cost one commit each; the start has its own, the end shares the last step's."""
    await _quiet(fused)
    before = fused.store.writes
    await fused.send("twenty")
    await fused.until_ended(1)
    await fused.idle()
    assert fused.store.writes - before <= 21


async def test_c3_group_commit_and_c4_no_reads(fused: Rig) -> None:
    """C3, C4: 300 runs of 20 steps at once share commits (at most 0.1 a step), write each step once and read nothing."""
    await _quiet(fused)
    writes, reads, turns = fused.store.writes, fused.store.reads, fused.store.turns
    await fused.send("twenty", 300)
    await fused.until_ended(300)
    assert (fused.store.writes - writes) / 6000 <= 0.1
    assert fused.store.reads == reads
    assert fused.store.turns - turns == 6000


async def test_c6_an_idle_runner_asks_at_most_once_a_second(fused: Rig) -> None:
    """C6: an idle runner sends at most one statement a second."""
    await _quiet(fused)
    asks, writes, began = fused.store.asks, fused.store.writes, time.monotonic()
    await asyncio.sleep(4)
    asked = fused.store.asks - asks
    assert fused.store.writes == writes
    assert asked <= 1 + time.monotonic() - began


async def test_c5_dead_rows(postgres_dsn: str) -> None:
    """C5: a finished one-step run leaves at most two dead rows in the queue."""
    schema = f"c5{uuid4().hex[:8]}"
    connection = await asyncpg.connect(postgres_dsn)
    try:
        async with rig(PostgresStore(postgres_dsn, schema=schema), ALL, fused=False) as made:
            await connection.execute(f"alter table {schema}.queue set (autovacuum_enabled = off)")
            await made.send("one", 400)
            await made.until_ended(400)
            await made.idle()
        rows = await connection.fetchrow(
            "select n_tup_upd + n_tup_del as dead from pg_stat_user_tables where schemaname = $1 and relname = 'queue'", schema
        )
        for _ in range(100):
            rows = await connection.fetchrow(
                "select n_tup_upd + n_tup_del as dead, n_tup_del as gone from pg_stat_user_tables where schemaname = $1 and relname = 'queue'",
                schema,
            )
            if rows["gone"] >= 400:
                break
            await asyncio.sleep(0.05)
        assert 400 <= rows["dead"] <= 2 * 400
    finally:
        await connection.execute(f"drop schema if exists {schema} cascade")
        await connection.close()


def _store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "sqlite":
        return SqliteStore(str(tmp_path / "well.db"))
    return PostgresStore(request.getfixturevalue("postgres_dsn"), schema=f"c{uuid4().hex[:10]}")


async def test_w4_a_parent_awaits_500_children(fused: Rig) -> None:
    """A parent that invokes 500 children at once ends, in a handful of commits: wakes of one run are taken together."""
    before = fused.store.writes
    await fused.send("parent")
    await fused.until_ended(501)
    assert fused.store.writes - before <= 60
