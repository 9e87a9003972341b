"""Either store for tests: a new well on a clock that the test sets, and a way to break its rows on purpose.

On Postgres the wells of a session share one schema, emptied before each: making its partitions anew takes longer than most tests.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from stepwell.store.protocol import Store
from stepwell.store.sqlite import SqliteStore

SCHEMA = "conformance"
KINDS = ("sqlite", "postgres")

_migrated: set[str] = set()
_KEPT = ("migrations", "registry", "days")
_TABLES = """
select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1 and c.relkind in ('r', 'p') and not c.relispartition and c.relname <> all ($2::text[])
"""

Tamper = Callable[[str], Any]
"""Runs a statement beside the store's own verbs, in SQL that both dialects speak."""


@asynccontextmanager
async def sqlite_store(now: Callable[[], int], path: str = ":memory:") -> AsyncIterator[tuple[Store, Tamper]]:
    """A well in a SQLite file or in memory."""
    store = SqliteStore(path, now)
    await store.migrate()
    await store.open()

    async def tamper(statement: str) -> None:
        await store._writer.run(lambda connection: connection.execute(statement).fetchall())

    try:
        yield store, tamper
    finally:
        await store.close()


@asynccontextmanager
async def postgres_store(now: Callable[[], int], dsn: str, schema: str = SCHEMA) -> AsyncIterator[tuple[Store, Tamper]]:
    """A well in a schema of a Postgres, emptied first."""
    from stepwell.store.postgres import PostgresStore

    store = PostgresStore(dsn, schema=schema, clock_now=now)
    if (where := f"{dsn} {schema}") not in _migrated:
        await store.migrate()
        _migrated.add(where)
    side = await asyncpg.connect(dsn, server_settings={"search_path": schema})
    try:
        await side.execute("set session_replication_role = replica")  # the audit can't be emptied otherwise
        for (name,) in await side.fetch(_TABLES, schema, _KEPT):
            await side.execute(f"delete from {name}")
        await side.execute("reset session_replication_role")
        await store.open()
        yield store, side.execute
    finally:
        await store.close()
        await side.close()
