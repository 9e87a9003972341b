"""Every scenario runs on both stores: `durable` is the test kit over SQLite and over a real Postgres.

On Postgres the tests share one schema, emptied after each: making its partitions anew takes longer than most tests.
"""

from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio
from scenarios.parts import start  # noqa: F401  # a fixture

from stepwell.store.postgres import PostgresStore
from stepwell.testing import Durable

SCHEMA = "scenarios"
TABLES = """
select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1 and c.relkind in ('r', 'p') and not c.relispartition and c.relname not in ('migrations', 'registry', 'days')
"""


class OnPostgres(Durable):
    """The test kit over a schema; rehearsals of a crash have another one, where this kit's runner sees nothing of theirs."""

    def __init__(self, dsn: str, schema: str) -> None:
        self._dsn = dsn
        super().__init__(store=lambda now: PostgresStore(dsn, schema=schema, clock_now=now))

    async def _anew(self) -> Durable:
        await _empty(self._dsn, f"{SCHEMA}_rehearsed")
        return OnPostgres(self._dsn, f"{SCHEMA}_rehearsed")


@pytest_asyncio.fixture(params=["sqlite", "postgres"])
async def durable(request: pytest.FixtureRequest) -> AsyncIterator[Durable]:
    """The test kit on each store."""
    if request.param == "sqlite":
        kit = Durable()
    else:
        dsn = request.getfixturevalue("postgres_dsn")
        await _empty(dsn, SCHEMA)
        kit = OnPostgres(dsn, SCHEMA)
    try:
        yield kit
    finally:
        await kit.close()


async def _empty(dsn: str, schema: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        names = [row["relname"] for row in await connection.fetch(TABLES, schema)]
        await connection.execute("set session_replication_role = replica")  # the audit can't be emptied otherwise
        for name in names:
            await connection.execute(f"delete from {schema}.{name}")
    finally:
        await connection.close()
