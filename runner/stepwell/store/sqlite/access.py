"""Keys and the audit of a well in SQLite."""

from collections.abc import Callable
from typing import Any, TypeVar

import orjson

from stepwell.store.access import AuditFilter, AuditRow, KeyRow
from stepwell.store.sqlite.driver import Args, Connection, Cursor
from stepwell.store.sqlite.thread import ConnectionThread
from stepwell.store.statements import load

T = TypeVar("T")
SQL = load("stepwell.store.sqlite", "verbs.sql")


class Access:
    """The verbs of access."""

    _reader: ConnectionThread

    async def _write(self, work: Callable[[Connection, Cursor], T]) -> T:
        raise NotImplementedError

    async def keys(self) -> list[KeyRow]:
        """Every key that was given out, revoked ones too, newest first."""
        rows: list[tuple[Any, ...]] = await self._reader.run(lambda connection: connection.execute(SQL["keys"]).fetchall())
        return [
            KeyRow(key_id, name, kind, proof, tuple(orjson.loads(events)), *rest)
            for key_id, name, kind, proof, events, *rest in rows
        ]

    async def add_key(self, key: KeyRow, most: int) -> bool:
        """Add a key; False if its name has `most` live ones already."""
        events = orjson.dumps(key.events).decode()
        row = (key.key_id, key.name, key.kind, key.proof, events, key.created, key.created_by, most)
        return await self._changed("add_key", row)

    async def revoke_key(self, key_id: str, by: str, at: int) -> bool:
        """End a live key; False if there is none of this id."""
        return await self._changed("revoke_key", (key_id, by, at))

    async def note(self, act: AuditRow) -> None:
        """Add an act to the audit."""
        await self._changed("note", (act.at, act.actor, act.verb, act.object, act.decision, act.request_id, act.detail))

    async def audit(self, which: AuditFilter) -> list[AuditRow]:
        """Acts, newest first."""
        args = (which.actor, which.verb, which.object, which.before, which.limit)
        rows: list[tuple[Any, ...]] = await self._reader.run(lambda connection: connection.execute(SQL["audit"], args).fetchall())
        return [AuditRow(*row) for row in rows]

    async def _changed(self, name: str, args: Args) -> bool:
        def work(connection: Connection, cursor: Cursor) -> bool:
            cursor.execute(SQL[name], args)
            return connection.changes() > 0

        return await self._write(work)
