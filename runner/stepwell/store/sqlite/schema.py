"""The schema of a well in SQLite: numbered plain SQL, each file once, in one transaction."""

import hashlib
from dataclasses import dataclass
from typing import LiteralString

from stepwell.errors import StoreError
from stepwell.store.sqlite.driver import Connection, Cursor
from stepwell.store.statements import load, migrations

SQL = load("stepwell.store.sqlite", "verbs.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its name, its text and the text's hash, which must not change once it is applied."""

    name: str
    text: LiteralString
    digest: str


def known() -> list[Migration]:
    """All migrations of this program, in order."""
    texts = migrations("stepwell.store.sqlite.migrations")
    return [Migration(name, text, hashlib.sha256(text.encode()).hexdigest()) for name, text in texts]


def applied(connection: Connection) -> dict[str, str]:
    """The migrations that the file has seen, with the hashes of their texts; none where there is no well yet."""
    if not connection.execute(SQL["migrations_there"]).fetchone()[0]:
        return {}
    return dict(connection.execute(SQL["migrations_applied"]).fetchall())


def apply(cursor: Cursor, migration: Migration, now: int) -> None:
    """Run one migration and note it."""
    cursor.execute(SQL["migrations_table"])
    cursor.execute(migration.text)
    cursor.execute(SQL["migration_done"], (migration.name, migration.digest, now))


def check(path: str, there: dict[str, str]) -> None:
    """Raise StoreError unless the file's schema is what this program was written for, or a later one that still serves it."""
    wanted = {migration.name: migration.digest for migration in known()}
    if not there:
        raise StoreError(f"{path}: there is no well in it; run `stepwell store migrate`")
    missing = [name for name in wanted if name not in there]
    if missing:
        raise StoreError(f"{path}: the schema lacks {', '.join(missing)}; run `stepwell store migrate`")
    changed = [name for name, digest in wanted.items() if there[name] != digest]
    if changed:
        raise StoreError(
            f"{path}: the schema was made by another build ({', '.join(changed)} differs); use a new file, or that build"
        )
