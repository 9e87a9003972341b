"""Migrations, partitions and retention, and what a store refuses to open."""

import asyncio
import time

import pytest
from postgres.conftest import Open
from postgres.piles import claim, event, start, step, ulid

from stepwell.engine.run import RunStatus
from stepwell.errors import StoreError
from stepwell.store.postgres import PostgresStore
from stepwell.store.records import End, Pile, Turn
from stepwell.store.registry import FunctionRow
from stepwell.store.views import RunFilter, RunnerRow

DAY = 86_400_000_000


async def test_migrating_twice_does_nothing(open_store: Open) -> None:
    """A schema that is up to date stays as it is."""
    store = await open_store()
    assert await store.migrate() == []


async def test_processes_that_migrate_at_once_take_turns(postgres_dsn: str) -> None:
    """Four processes that start on an empty database apply every migration once between them."""
    stores = [PostgresStore(postgres_dsn, "taking_turns") for _ in range(4)]
    applied = [name for names in await asyncio.gather(*(store.migrate() for store in stores)) for name in names]
    assert len(applied) == len(set(applied)) > 5


async def test_a_missing_schema_is_told(postgres_dsn: str) -> None:
    """Opening a database without a well says what to run."""
    store = PostgresStore(postgres_dsn, "nowhere")
    with pytest.raises(StoreError, match="stepwell store migrate"):
        await store.open()
    await store.close()


async def test_a_migration_that_was_rewritten_is_refused(open_store: Open) -> None:
    """A migration applied with another text is refused by open and by migrate."""
    store = await open_store()
    async with store._writes.use() as connection:
        await connection.execute(f"update {store._schema}.migrations set digest = 'x' where name = '0001_tables'")
    with pytest.raises(StoreError, match="0001_tables"):
        await store.open()
    with pytest.raises(StoreError, match="0001_tables"):
        await store.migrate()


@pytest.mark.parametrize("setting", ["off", "local"])
async def test_a_server_that_forgets_is_refused(open_store: Open, postgres_dsn: str, setting: str) -> None:
    """synchronous_commit off or local is refused, unless the caller insists."""
    await open_store()
    dsn = f"{postgres_dsn}?options=-csynchronous_commit%3D{setting}"
    with pytest.raises(StoreError, match="synchronous_commit"):
        await open_store(dsn)
    await open_store(dsn, unsafe=True)


async def test_names_are_quoted(postgres_dsn: str) -> None:
    """A schema may have any name."""
    store = PostgresStore(postgres_dsn, 'odd "name" (1)')
    await store.migrate()
    await store.open()
    assert (await store.registry()).version == 1
    assert await store.doctor() == []
    await store.close()


async def test_old_days_are_dropped_unless_a_run_lives(open_store: Open) -> None:
    """Retention drops whole days and strays of before, but nothing of a day in which a live run began."""
    store = await open_store()
    await store.register("tests", [FunctionRow("f", "r1", "p", "tests", b"{}")], [])
    await store.enrol(RunnerRow("A", ("p",), ("f",), 10, 60_000_000, draining=False))
    now = time.time_ns() // 1000
    ended, alive, stray, fresh = (
        ulid(1, now // 1000 - 20 * 86_400_000),
        ulid(2, now // 1000 - 10 * 86_400_000),
        ulid(3, 5),
        ulid(4),
    )
    async with store._writes.use() as connection:
        await connection.execute(f"set search_path = {store._schema}")
        for back in (20, 10):
            assert await connection.fetchval("select make_day((now() at time zone 'UTC')::date - $1::integer)", back)
    for run_id, at in ((ended, now - 20 * DAY), (alive, now - 10 * DAY), (stray, 5_000), (fresh, now)):
        await store.commit(Pile(now=at, events=(event(f"e-{run_id}"),), starts=(start(run_id, event=0),)))
    claimed = (await store.commit(Pile(claim=claim()))).claimed
    await store.commit(
        Pile(
            turns=tuple(
                Turn(run.run_id, run.epoch, (step("s"),), then=End(RunStatus.COMPLETED, b"1"))
                for run in claimed
                if run.run_id != alive
            )
        )
    )
    assert await store.retain(7 * DAY) > 7
    assert [run.run_id for run in await store.runs(RunFilter())] == [fresh, alive]
    assert [stored.id for stored in await store.events(None, None, 10)] == [f"e-{fresh}", f"e-{alive}"]
    assert await store.steps(ended) == await store.steps(stray) == []
    assert await store.retain(7 * DAY) == 0
    assert await store.doctor() == []


async def test_a_day_made_late_takes_its_strays(open_store: Open) -> None:
    """Rows that the DEFAULT partition caught move into their day's partition when it is made."""
    store = await open_store()
    at = time.time_ns() // 1_000_000 - 30 * 86_400_000
    await store.commit(Pile(now=at * 1000, events=(event("e"),), starts=(start(ulid(1, at), event=0),)))
    async with store._writes.use() as connection:
        await connection.execute(f"set search_path = {store._schema}")
        assert await connection.fetchval("select count(*) from runs_default") == 1
        await connection.fetchval("select make_day((now() at time zone 'UTC')::date - 30)")
        assert await connection.fetchval("select count(*) from runs_default") == 0
        assert await connection.fetchval("select count(*) from events_default") == 0
    assert (await store.run(ulid(1, at))) is not None
    assert (await store.event("e")) is not None
