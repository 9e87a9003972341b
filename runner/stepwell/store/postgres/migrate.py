"""Bring a well's schema up to date: numbered plain SQL, each file once, in one transaction, under an advisory lock."""

import hashlib
from dataclasses import dataclass

import asyncpg

from stepwell.errors import RoleRefused, SchemaPending, StoreError
from stepwell.store import statements
from stepwell.store.postgres.connect import Address, connect, translated
from stepwell.store.postgres.driver import Connection

DAYS_AHEAD = 14


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its name, its text and the text's hash, which must not change once it is applied."""

    name: str
    text: str
    digest: str


def migrations() -> list[Migration]:
    """All that this program knows, in order."""
    texts = statements.migrations(f"{__package__}.migrations")
    return [Migration(name, text, hashlib.sha256(text.encode()).hexdigest()) for name, text in texts]


def quoted(identifier: str) -> str:
    """An identifier as it may stand in SQL."""
    return '"' + identifier.replace('"', '""') + '"'


async def migrate(address: Address, schema: str) -> list[str]:
    """Apply what is missing, make partitions ahead; return the names applied. StoreError if history was rewritten."""
    connection = await connect(address)
    try:
        applied: list[str] = []
        for migration in migrations():
            async with connection.transaction():
                await _lock(connection, schema)
                if await _is_new(connection, schema, migration):
                    await connection.execute(migration.text)
                    await connection.execute(
                        "insert into migrations (name, digest) values ($1, $2)", migration.name, migration.digest
                    )
                    applied.append(migration.name)
        await make_days(connection, schema)
    except asyncpg.InsufficientPrivilegeError as error:
        raise RoleRefused(f"the role of this address may not make or change the schema {schema!r} ({error.sqlstate})") from error
    except (asyncpg.PostgresError, OSError, TimeoutError) as error:
        raise translated(error) from error
    finally:
        await connection.close(timeout=2)
    return applied


async def make_days(connection: Connection, schema: str) -> int:
    """Make the partitions of yesterday to a fortnight ahead that are not there yet; return how many days were added."""
    made = 0
    for ahead in range(-1, DAYS_AHEAD + 1):
        async with connection.transaction():
            await _lock(connection, schema)
            made += await connection.fetchval("select make_day((now() at time zone 'UTC')::date + $1::integer)", ahead)
    return made


async def check(connection: Connection, schema: str) -> None:
    """Raise StoreError unless the schema is what this program was written for, or a later one that still serves it.

    It is SchemaPending where a migration or a restore that is under way would end in such a schema.
    """
    known = {migration.name: migration.digest for migration in migrations()}
    try:
        rows = await connection.fetch(f"select name, digest from {quoted(schema)}.migrations")
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError) as error:
        raise SchemaPending(
            f"there is no well in the schema {schema!r}: run `stepwell store migrate` with this address"
        ) from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise SchemaPending(f"the role of this address may not read the schema {schema!r} ({error.sqlstate})") from error
    there = {row["name"]: row["digest"] for row in rows}
    changed = [name for name, digest in known.items() if there.get(name, digest) != digest]
    if changed:
        raise StoreError(
            f"the schema {schema!r} was made by another build: {', '.join(changed)} differs; migrate to a fresh schema, "
            "or run the build that made it"
        )
    missing = [name for name in known if name not in there]
    if missing:
        raise SchemaPending(f"the schema {schema!r} lacks {', '.join(missing)}: run `stepwell store migrate` with this address")


async def _lock(connection: Connection, schema: str) -> None:
    await connection.execute("set local lock_timeout = '5s'; set local statement_timeout = '5min'")
    await connection.execute("select pg_advisory_xact_lock(hashtextextended($1, 7))", schema)
    if await connection.fetchval("select to_regnamespace($1) is null", quoted(schema)):
        await connection.execute(f"create schema {quoted(schema)}")
    await connection.execute(f"set local search_path = {quoted(schema)}")


async def _is_new(connection: Connection, schema: str, migration: Migration) -> bool:
    await connection.execute(
        "create table if not exists migrations (name text primary key, digest text not null, applied timestamptz default now())"
        if await connection.fetchval("select to_regclass($1) is null", f"{quoted(schema)}.migrations")
        else "select 1"
    )
    digest = await connection.fetchval("select digest from migrations where name = $1", migration.name)
    if digest is not None and digest != migration.digest:
        raise StoreError(f"the migration {migration.name} was applied to {schema!r} with another text; a new file must be added")
    return digest is None
