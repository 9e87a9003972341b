"""Retention and the doctor."""

import re

from stepwell.store.postgres.connect import Address, Connections
from stepwell.store.postgres.migrate import DAYS_AHEAD, quoted
from stepwell.store.statements import load
from stepwell.store.views import Violation

BATCH = 500
IDS_KEPT = 7 * 86_400_000_000
"""How long an event id is remembered, at least."""

AUDIT_KEPT = 90 * 86_400_000_000

_AGED = ("ticks", "schedules")
_STRAYS = ("events", "decisions", "runs", "run_events", "steps", "attempts", "ends")


class Upkeep:
    """The verbs of upkeep; they work on a connection of their own, which they close again."""

    _address: Address
    _reads: Connections
    _schema: str
    _sql: dict[str, str]

    def _now(self, now: int | None) -> int | None:
        raise NotImplementedError

    async def retain(self, keep: int, now: int | None = None) -> int:
        """Drop history older than `keep` µs that no live run needs, and make partitions ahead.

        Returns how many partitions and rows went. Whole days go by partition; what has none, in batches of 500 rows.
        """
        connections = Connections(self._address, limit=1, keep=0)
        try:
            async with connections.use() as connection:
                at: int = await connection.fetchval(self._sql["clock"], self._now(now))
                for ahead in range(-1, DAYS_AHEAD + 1):
                    await connection.fetchval(self._sql["make_day"], ahead)
                gone = 0
                for row in await connection.fetch(self._sql["old_days"], at - keep):
                    gone += await connection.fetchval(self._sql["drop_day"], row["day"])
                oldest_id = at - max(keep, IDS_KEPT)
                batches = [("event_ids", oldest_id), ("idempotency", at)]
                batches += [(what, at - keep) for what in (*_AGED, *_STRAYS)]
                for what, before in batches:
                    while deleted := await connection.fetchval(self._sql["prune"], what, before, BATCH):
                        gone += deleted
                        if deleted < BATCH:
                            break
                await connection.fetchval(self._sql["prune"], "ledger", at - keep, BATCH)
                while deleted := await connection.fetchval(self._sql["prune_audit"], at - max(keep, AUDIT_KEPT), BATCH):
                    gone += deleted
                return gone
        finally:
            await connections.close()

    async def doctor(self, now: int | None = None) -> list[Violation]:
        """Run the invariants that rows can show and return the broken ones."""
        found: list[Violation] = []
        connections = Connections(self._address, limit=1, keep=0)
        try:
            async with connections.use() as connection:
                at: int = await connection.fetchval(self._sql["clock"], self._now(now))
                for name, text in load(__package__ or "", "doctor.sql").items():
                    query = re.sub(r"\bwell\.", f"{quoted(self._schema)}.", text)
                    rows = await connection.fetch(query, at) if "$1" in query else await connection.fetch(query)
                    if rows:
                        statement = text.splitlines()[0].removeprefix("--").strip()
                        found.append(Violation(name.partition("_")[0], statement, tuple(str(row[0]) for row in rows[:10])))
        finally:
            await connections.close()
        return found
