"""What holds back vacuum is seen, and for how long, by the role that a gateway has."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from uuid import uuid4

import asyncpg
import pytest
from postgres_server import server

from stepwell.metrics import catalogue as names
from stepwell.metrics.figures import StoreFigures
from stepwell.store.postgres import PostgresStore
from stepwell.store.registry import FunctionRow
from stepwell_operator.provision import provision

HALF_AN_HOUR = 1_800_000_000


@pytest.fixture(scope="module")
def quiet() -> Iterator[str]:
    """A server whose only transactions are the tests': no vacuum or analyze begins by itself."""
    with server(autovacuum="off", wal_level="logical", max_prepared_transactions="1") as postgres:
        yield postgres.dsn


@pytest.fixture
async def well(quiet: str) -> AsyncIterator[PostgresStore]:
    """A namespace's well as the operator makes it: the store logs in as the well's own role, which may see little of others."""
    store = PostgresStore((await provision(quiet, f"shop-{uuid4().hex[:8]}", "default")).dsn)
    await store.migrate()
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def other(quiet: str) -> AsyncIterator[asyncpg.Connection]:
    """A session of the administrator's."""
    session = await asyncpg.connect(quiet)
    yield session
    await session.close()


class Looks:
    """Scrapes of one gateway, as far apart as the test says."""

    def __init__(self, well: PostgresStore) -> None:
        self.well = well
        self.figures = StoreFigures({})
        self.began: int | None = None

    async def age(self, after: int) -> float:
        """The age that is shown so many µs after the first look; somebody has written before each."""
        await self.well.register("tests", [FunctionRow(f"f{after}", "r1", "p", "tests", b"{}")], [])
        stats = await self.well.stats()
        self.began = self.began or stats.now
        self.figures.show(replace(stats, now=self.began + after))
        ((_, age),) = dict(self.figures.families())[names.STORE_OLDEST_XMIN_AGE]
        assert isinstance(age, (int, float))
        return age


@pytest.mark.parametrize(
    ("hold", "end"),
    [
        pytest.param("begin isolation level repeatable read; select 1", "rollback", id="a dump"),
        pytest.param("begin; select pg_current_xact_id()", "rollback", id="a forgotten psql"),
        pytest.param(
            "select pg_create_logical_replication_slot('dead', 'pgoutput')",
            "select pg_drop_replication_slot('dead')",
            id="a slot",
        ),
    ],
)
async def test_what_another_role_holds_is_seen(well: PostgresStore, other: asyncpg.Connection, hold: str, end: str) -> None:
    """An administrator's dump, a forgotten transaction and a dead slot are told, since when they were first seen, until they end."""
    looks = Looks(well)
    await other.execute(hold)
    assert await looks.age(0) == 0
    assert await looks.age(HALF_AN_HOUR) == 1800
    await other.execute(end)
    assert await looks.age(2 * HALF_AN_HOUR) == 0


async def test_a_prepared_transaction_is_told_since_it_was_prepared(well: PostgresStore, other: asyncpg.Connection) -> None:
    """Postgres tells every role when it was prepared: a gateway that starts later knows its whole age at once."""
    looks = Looks(well)
    await other.execute("begin; create table t (); prepare transaction 'lost'")
    first = await looks.age(0)
    assert first > 0
    assert await StartedLater(looks).age(HALF_AN_HOUR) == pytest.approx(1800 + first)
    await other.execute("rollback prepared 'lost'")
    assert await looks.age(2 * HALF_AN_HOUR) == 0


class StartedLater(Looks):
    """Scrapes of a gateway that hasn't seen what the first one saw."""

    def __init__(self, first: Looks) -> None:
        super().__init__(first.well)
        self.began = first.began


async def test_what_holds_back_no_vacuum_is_no_age(well: PostgresStore, other: asyncpg.Connection, quiet: str) -> None:
    """A snapshot in another database of the server holds nothing back in the well's; nor does one beside which nobody wrote."""
    looks = Looks(well)
    database = f"other_{uuid4().hex[:8]}"
    await other.execute(f"create database {database}")
    elsewhere = await asyncpg.connect(f"{quiet.rpartition('/')[0]}/{database}")
    await elsewhere.execute("begin isolation level repeatable read; select 1")
    assert [await looks.age(after) for after in (0, HALF_AN_HOUR)] == [0, 0]
    await elsewhere.close()
    await other.execute("begin isolation level repeatable read; select 1")
    assert (await well.stats()).horizon is None
