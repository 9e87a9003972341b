"""A process that begins while its store can't be used: it waits, says why once, and goes on when the store can be used."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from uuid import uuid4

import asyncpg
import pytest
from postgres.conftest import Open
from postgres_server import server
from structlog.testing import capture_logs

from stepwell.clock import SystemClock
from stepwell.engine.well import Well
from stepwell.errors import StoreError
from stepwell.metrics import Metrics
from stepwell.opening import LONGEST_PAUSE, SHORTEST_PAUSE, Patience
from stepwell.store.postgres import PostgresStore
from stepwell.store.records import Pile

TRIES = 4
Act = Callable[[], Awaitable[object]]


OVER = "it may begin"


class Waiting:
    """A process's patience whose naps are short, and which does the next of `acts` at a fourth nap.

    An act waits for the cause before it to be told: between two tries to connect the store repeats what it has met, for seconds.
    """

    done = 0

    def __init__(self, *acts: Act) -> None:
        self.acts = list(acts)
        self.told: list[str] = []
        self.pauses: list[float] = []
        self.patience = Patience(self.tell, self.nap, lambda: 0.5)

    def tell(self, error: StoreError | None) -> None:
        self.told.append(str(error) if error is not None else OVER)

    async def nap(self, pause: float) -> None:
        self.pauses.append(pause)
        if self.acts and len(self.pauses) % TRIES == 0 and len(self.told) > self.done:
            self.done += 1
            await self.acts.pop(0)()
        await asyncio.sleep(0.02)

    async def open(self, well: Well) -> list[str]:
        """Open the well; the log's lines."""
        with capture_logs() as logged:
            async with asyncio.timeout(60):
                await self.patience.open(well)
        return [f"{one['log_level']} {one.get('error', one['event'])}" for one in logged]


def made(dsn: str, schema: str) -> Well:
    """A well as a process makes it; nothing is asked yet."""
    return Well(PostgresStore(dsn, schema), SystemClock(), Metrics("gateway", "default", "postgres"))


async def test_a_role_that_is_refused_is_waited_for(postgres_dsn: str) -> None:
    """A role that may not log in, a database that isn't its own and one that takes nobody: each is told once, however often met."""
    role, database = f"guest_{uuid4().hex}", f"shop_{uuid4().hex}"
    side = await asyncpg.connect(postgres_dsn)
    await side.execute(f"create role {role} superuser nologin")
    await side.execute(f"create database {database} allow_connections false")
    dsn = f"{postgres_dsn.replace('postgres@', f'{role}@').rpartition('/')[0]}/{database}"

    async def let_in() -> None:
        await side.execute(f"alter database {database} allow_connections true")
        await PostgresStore(dsn, "well").migrate()
        await side.execute(f"alter role {role} nosuperuser; revoke connect on database {database} from public")

    waiting = Waiting(
        lambda: side.execute(f"alter role {role} login"),
        let_in,
        lambda: side.execute(f"grant connect on database {database} to {role}"),
    )
    well = made(dsn, "well")
    lines = await waiting.open(well)
    told = [
        "Postgres refuses the user or password of this address (28000)",
        "Postgres refuses the database of this address (55000)",
        "Postgres refuses the database of this address (42501)",
    ]
    assert waiting.told == [*told, OVER]
    assert lines == [*(f"warning {cause}" for cause in told), "info the store can be used now"]
    assert waiting.pauses[:7] == [min(SHORTEST_PAUSE * 2**number, LONGEST_PAUSE) / 2 for number in range(7)]
    await well.close()
    await side.close()


async def test_a_schema_that_is_made_or_restored_is_waited_for(postgres_dsn: str) -> None:
    """No schema, one that isn't the role's, one without a table, one that lacks migrations: a process waits through all of them."""
    schema, role = f"well_{uuid4().hex}", f"guest_{uuid4().hex}"
    side = await asyncpg.connect(postgres_dsn)
    await side.execute(f"create role {role} login")
    await side.execute(f"grant create on database postgres to {role}")
    dsn = postgres_dsn.replace("postgres@", f"{role}@")

    async def migrate() -> None:
        await PostgresStore(dsn, schema).migrate()

    async def restore_half() -> None:
        await side.execute(f"drop schema {schema} cascade")
        await migrate()
        await side.execute(f"create table {schema}.aside as table {schema}.migrations; truncate {schema}.migrations")

    waiting = Waiting(
        lambda: side.execute(f"create schema {schema}; create table {schema}.migrations ()"),
        lambda: side.execute(f"alter schema {schema} owner to {role}; drop table {schema}.migrations"),
        restore_half,
        lambda: side.execute(f"insert into {schema}.migrations table {schema}.aside"),
    )
    well = made(dsn, schema)
    await waiting.open(well)
    nowhere, foreign, nothing, behind, over = waiting.told
    assert nowhere == nothing == f"there is no well in the schema {schema!r}: run `stepwell store migrate` with this address"
    assert foreign == f"the role of this address may not read the schema {schema!r} (42501)"
    assert behind.startswith(f"the schema {schema!r} lacks 0001_tables, ")
    assert over == OVER
    assert (await well.store.commit(Pile())).registry_version >= 0
    await well.close()
    await side.close()


async def test_a_server_that_is_away_is_waited_for() -> None:
    """A server that takes no connection is waited for; what it was said to be stays so between the tries to connect."""
    with server() as postgres:
        await PostgresStore(postgres.dsn).migrate()
        postgres.kill()
        waiting = Waiting(lambda: asyncio.to_thread(postgres.start))
        well = made(postgres.dsn, "stepwell")
        await waiting.open(well)
        assert waiting.told[0].startswith("Postgres can't be reached: ")
        assert all(before != after for before, after in pairwise(waiting.told))
        assert len(waiting.pauses) >= TRIES
        await well.close()


async def test_a_schema_of_another_build_is_an_error_at_once(open_store: Open, postgres_dsn: str) -> None:
    """What no waiting mends ends a process with what is wrong, even where migrations are missing too."""
    store = await open_store()
    async with store._writes.use() as connection:
        await connection.execute(f"update {store._schema}.migrations set digest = 'x' where name = '0001_tables'")
        await connection.execute(f"delete from {store._schema}.migrations where name = '0002_partitions'")
    waiting = Waiting()
    with pytest.raises(StoreError, match="made by another build: 0001_tables"):
        await waiting.patience.open(made(postgres_dsn, store._schema))
    assert waiting.pauses == []
