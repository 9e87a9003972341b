"""Retention and the doctor of a well in SQLite."""

from collections.abc import Callable, Sequence
from typing import Any, LiteralString, TypeVar

from stepwell.store.sqlite.driver import Connection, Cursor
from stepwell.store.sqlite.thread import ConnectionThread, snapshot, transaction
from stepwell.store.statements import load
from stepwell.store.views import Violation

T = TypeVar("T")
BATCH = 500
"""Rows a transaction: the writer thread is never away for long."""
IDS_KEPT = 7 * 86_400_000_000
"""How long an event id is remembered, at least."""
AUDIT_KEPT = 90 * 86_400_000_000
AGED = ("event_ids", "events", "decisions", "idempotency", "ticks", "schedules", "audit")
OF_RUNS = ("old_steps", "old_attempts", "old_run_events", "old_rows", "old_ends")


class Upkeep:
    """The verbs of upkeep."""

    _writer: ConnectionThread
    _reader: ConnectionThread

    def _now(self, now: int | None) -> int:
        raise NotImplementedError

    async def _write(self, work: Callable[[Connection, Cursor], T]) -> T:
        return await self._writer.run(lambda connection: transaction(connection, lambda cursor: work(connection, cursor)))

    async def retain(self, keep: int, now: int | None = None) -> int:
        """Drop history older than `keep` µs that no live run needs, in small transactions; return how many rows went."""
        statements = load("stepwell.store.sqlite", "retain.sql")
        at = self._now(now)
        args = {"now": at, "before": at - keep, "ids_before": at - max(keep, IDS_KEPT), "most": BATCH}
        args["audit_before"] = at - max(keep, AUDIT_KEPT)
        gone = 0
        for name in AGED:
            texts = (statements["ids_left"], statements[name]) if name == "events" else (statements[name],)
            while count := await self._write(_deleting(texts, args)):
                gone += count
        while count := await self._write(lambda connection, cursor: _delete_runs(connection, cursor, statements, args)):
            gone += count
        return gone

    async def doctor(self, now: int | None = None) -> list[Violation]:
        """Run the invariants that rows can show and return the broken ones."""
        at = self._now(now)
        return await self._reader.run(lambda connection: snapshot(connection, lambda cursor: _examine(cursor, at)))


def _deleting(texts: Sequence[LiteralString], args: dict[str, Any]) -> Callable[[Connection, Cursor], int]:
    """One transaction of these statements; how many rows the last of them deleted."""

    def work(connection: Connection, cursor: Cursor) -> int:
        for text in texts:
            # SQLite takes no name that a statement lacks.
            cursor.execute(text, {name: value for name, value in args.items() if f":{name}" in text})
        return connection.changes()

    return work


def _delete_runs(connection: Connection, cursor: Cursor, statements: dict[str, LiteralString], args: dict[str, Any]) -> int:
    (runs,) = cursor.execute(statements["old_runs"], {"before": args["before"], "most": args["most"]}).fetchone()
    if runs == "[]":
        return 0
    cursor.execute(statements["old_ledger"], {"runs": runs})
    before = connection.total_changes()
    for name in OF_RUNS:
        cursor.execute(statements[name], {"runs": runs})
    return connection.total_changes() - before


def _examine(cursor: Cursor, now: int) -> list[Violation]:
    found: list[Violation] = []
    for name, text in load("stepwell.store.sqlite", "doctor.sql").items():
        statement = text.split("\n", 1)[0].removeprefix("-- ")
        rows = cursor.execute(text, {"now": now} if ":now" in text else ()).fetchall()
        if rows:
            found.append(Violation(name.split("_")[0], statement, tuple(str(row[0]) for row in rows[:10])))
    return found
