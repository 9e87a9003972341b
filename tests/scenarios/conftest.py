"""Every scenario runs on both stores: `durable` is the test kit over SQLite and over a real Postgres.

On Postgres the tests share one schema, emptied after each: making its partitions anew takes longer than most tests.
"""

from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from stepwell.store.postgres import PostgresStore
from stepwell.testing import Durable

SCHEMA = "scenarios"
TABLES = """
select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1 and c.relkind in ('r', 'p') and not c.relispartition and c.relname not in ('migrations', 'registry', 'days')
"""


@pytest_asyncio.fixture(params=["sqlite", "postgres"])
async def durable(request: pytest.FixtureRequest) -> AsyncIterator[Durable]:
    """The test kit on each store."""
    if request.param == "sqlite":
        kit = Durable()
    else:
        dsn = request.getfixturevalue("postgres_dsn")
        await _empty(dsn)
        kit = Durable(store=lambda now: PostgresStore(dsn, schema=SCHEMA, clock_now=now))
    try:
        yield kit
    finally:
        await kit.close()


async def _empty(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        names = [row["relname"] for row in await connection.fetch(TABLES, SCHEMA)]
        for name in names:
            await connection.execute(f"delete from {SCHEMA}.{name}")
    finally:
        await connection.close()
