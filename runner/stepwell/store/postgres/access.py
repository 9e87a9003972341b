"""Keys and the audit of a well in Postgres."""

from collections.abc import Sequence

import orjson

from stepwell.store.access import AuditFilter, AuditRow, KeyRow
from stepwell.store.postgres.driver import Row


class Access:
    """The verbs of access."""

    async def _fetch(self, name: str, *args: object) -> Sequence[Row]:
        raise NotImplementedError

    async def _run(self, name: str, *args: object) -> int:
        raise NotImplementedError

    async def keys(self) -> list[KeyRow]:
        """Every key that was given out, revoked ones too, newest first."""
        return [_key(row) for row in await self._fetch("keys")]

    async def add_key(self, key: KeyRow, most: int) -> bool:
        """Add a key; False if its name has `most` live ones already."""
        events = orjson.dumps(key.events).decode()
        return bool(
            await self._run("add_key", key.key_id, key.name, key.kind, key.proof, events, key.created, key.created_by, most)
        )

    async def revoke_key(self, key_id: str, by: str, at: int) -> bool:
        """End a live key; False if there is none of this id."""
        return bool(await self._run("revoke_key", key_id, by, at))

    async def note(self, act: AuditRow) -> None:
        """Add an act to the audit."""
        await self._run("note", act.at, act.actor, act.verb, act.object, act.decision, act.request_id, act.detail)

    async def audit(self, which: AuditFilter) -> list[AuditRow]:
        """Acts, newest first."""
        rows = await self._fetch("audit", which.actor, which.verb, which.object, which.before, which.limit)
        return [AuditRow(*row.values()) for row in rows]


def _key(row: Row) -> KeyRow:
    return KeyRow(
        row["key_id"],
        row["name"],
        row["kind"],
        row["proof"],
        tuple(orjson.loads(row["events"])),
        row["created"],
        row["created_by"],
        row["revoked"],
        row["revoked_by"],
    )
