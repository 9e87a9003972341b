"""What people read of a well in SQLite, and its upkeep."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import apsw
import orjson

from stepwell.engine.run import RunStatus
from stepwell.store.records import (
    FunctionStats,
    Journal,
    RecordedStep,
    RunFilter,
    RunnerRow,
    RunRow,
    Stats,
    StepKind,
    StepRow,
    StoredEvent,
    TickOutcome,
    TriggerKind,
    Violation,
)
from stepwell.store.records import AttemptRow as Attempt
from stepwell.store.sqlite.pile import wait_of
from stepwell.store.sqlite.thread import ConnectionThread, transaction
from stepwell.store.statements import load

SQL = load("stepwell.store.sqlite", "reads.sql")
INVARIANTS = load("stepwell.store.sqlite", "doctor.sql")
ID_KEPT = 7 * 86_400_000_000


class Reads:
    """Reads go to a connection of their own where there is a file, else they take turns with the writes."""

    def __init__(self, writer: ConnectionThread) -> None:
        self._writer = writer
        self._reader = writer

    def _now(self, now: int | None) -> int:
        raise NotImplementedError

    async def _rows(self, name: str, args: Sequence[Any] | dict[str, Any] = ()) -> list[tuple[Any, ...]]:
        return await self._reader.run(lambda connection: connection.execute(SQL[name], args).fetchall())

    async def journals(self, run_ids: Sequence[str]) -> dict[str, Journal]:
        """The journals of live runs, in one read."""
        wanted = orjson.dumps(list(run_ids)).decode()

        def work(cursor: apsw.Cursor) -> dict[str, Journal]:
            steps: dict[str, list[StepRow]] = {}
            waits: dict[str, list[Any]] = {}
            for row in cursor.execute(SQL["journal_steps"], (wanted,)):
                steps.setdefault(row[0], []).append(_step(row[1:]))
            for row in cursor.execute(SQL["journal_waits"], (wanted,)):
                waits.setdefault(row[0], []).append(wait_of(row[1:]))
            return {
                run_id: Journal(run_id, inbox, tuple(steps.get(run_id, ())), tuple(waits.get(run_id, ())))
                for run_id, inbox in cursor.execute(SQL["journal_runs"], (wanted,))
            }

        return await self._reader.run(lambda connection: _reading(connection, work))

    async def run(self, run_id: str) -> RunRow | None:
        """One run with its open waits, or None."""
        rows = await self._rows("one_run", (run_id,))
        if not rows:
            return None
        waits = await self._rows("journal_waits", (orjson.dumps([run_id]).decode(),))
        return _run(rows[0], tuple(wait_of(row[1:]) for row in waits))

    async def runs(self, which: RunFilter) -> list[RunRow]:
        """Runs, newest first (without waits)."""
        args = {
            "function": which.function_id,
            "status": which.status.value if which.status is not None else None,
            "event": which.event_id,
            "before": which.before,
            "after_at": which.created_after,
            "before_at": which.created_before,
            "limit": which.limit,
        }
        return [_run(row, ()) for row in await self._rows("runs_of_event" if which.event_id is not None else "runs", args)]

    async def steps(self, run_id: str) -> list[RecordedStep]:
        """The run's journal with failed tries, in the order recorded."""
        wanted = orjson.dumps([run_id]).decode()
        steps = [_step(row[1:]) for row in await self._rows("journal_steps", (wanted,))]
        tries = [Attempt(*row) for row in await self._rows("attempts", (run_id,))]
        return [
            RecordedStep(one, tuple(each for each in tries if (each.step_id, each.occurrence) == (one.step_id, one.occurrence)))
            for one in steps
        ]

    async def attempts_between(self, run_id: str) -> RecordedStep | None:
        """Failed tries of the code between steps (their `step` has an empty id), or None."""
        tries = tuple(Attempt(*row) for row in await self._rows("attempts", (run_id,)) if row[0] == "")
        if not tries:
            return None
        last = tries[-1]
        return RecordedStep(StepRow("", 0, StepKind.RUN, False, last.error, len(tries), tries[0].started, last.ended), tries)  # noqa: FBT003

    async def event(self, event_id: str) -> StoredEvent | None:
        """One accepted event, or None."""
        rows = await self._rows("one_event", (event_id,))
        return StoredEvent(*rows[0]) if rows else None

    async def events(self, name: str | None, before: str | None, limit: int) -> list[StoredEvent]:
        """Events, newest first; `before` is the id of the last one seen."""
        rows = await self._rows(
            "events_named" if name is not None else "events", {"name": name, "before": before, "limit": limit}
        )
        return [StoredEvent(*row) for row in rows]

    async def decisions(self, event_id: str) -> list[tuple[str, str, str]]:
        """(function, decision, detail) recorded for an event that did not start a function though its name matched."""
        return [(row[0], row[1], row[2]) for row in await self._rows("decisions", (event_id,))]

    async def key_holders(self, key: str) -> list[str]:
        """The runs whose leases count under a concurrency key."""
        return [row[0] for row in await self._rows("key_holders", (key,))]

    async def ledger(self, schedule_id: str, limit: int) -> list[tuple[int, int, str, str | None]]:
        """(due, outcome, reason, run_id) of a schedule's ticks, newest first."""
        return [(row[0], TickOutcome(row[1]), row[2], row[3]) for row in await self._rows("ledger", (schedule_id, limit))]

    async def stats(self, now: int | None = None) -> Stats:
        """The live figures, in one look."""
        at = self._now(now)

        def work(cursor: apsw.Cursor) -> Stats:
            revisions: dict[str, list[tuple[str, int, int]]] = {}
            for function_id, revision, due, later in cursor.execute(SQL["stats_revisions"], (at,)):
                revisions.setdefault(function_id, []).append((revision, due, later))
            fullest = dict(cursor.execute(SQL["stats_keys"]).fetchall())
            functions = tuple(
                FunctionStats(*row, fullest.get(row[0], 0), tuple(revisions.get(row[0], ())))
                for row in cursor.execute(SQL["stats"], (at,))
            )
            runners = tuple(
                RunnerRow(row[0], tuple(orjson.loads(row[1])), tuple(orjson.loads(row[2])), row[3], row[4], bool(row[5]))
                for row in cursor.execute(SQL["stats_runners"], (at,))
            )
            overdue = int(cursor.execute(SQL["stats_overdue"], (at - 1_000_000,)).fetchone()[0])
            return Stats(at, functions, runners, overdue)

        return await self._reader.run(lambda connection: _reading(connection, work))

    async def retain(self, keep: int, now: int | None = None) -> int:
        """Drop history older than `keep` µs that no live run needs; return how many rows went."""
        at = self._now(now)

        def work(cursor: apsw.Cursor) -> int:
            before = cursor.connection.total_changes()
            for name, text in load("stepwell.store.sqlite", "retain.sql").items():
                cursor.execute(text, (at - ID_KEPT if name == "event_ids" else at - keep,))
            return cursor.connection.total_changes() - before

        return await self._writer.run(lambda connection: transaction(connection, work))

    async def doctor(self, now: int | None = None) -> list[Violation]:
        """Run the invariants that rows can show and return the broken ones."""
        at = self._now(now)

        def work(cursor: apsw.Cursor) -> list[Violation]:
            found: list[Violation] = []
            for name, text in INVARIANTS.items():
                statement = text.split("\n", 1)[0].removeprefix("-- ")
                rows = list(islice(cursor.execute(text, {"now": at} if ":now" in text else ()), 10))
                if rows:
                    found.append(Violation(name.split("_")[0], statement, tuple(str(row[0]) for row in rows)))
            return found

        return await self._reader.run(lambda connection: _reading(connection, work))


def _reading(connection: apsw.Connection, work: Any) -> Any:
    """One snapshot for several statements."""
    cursor = connection.cursor()
    cursor.execute("BEGIN")
    try:
        return work(cursor)
    finally:
        cursor.execute("ROLLBACK")


def _step(row: Sequence[Any]) -> StepRow:
    return StepRow(row[0], row[1], StepKind(row[2]), bool(row[3]), *row[4:])


def _run(row: Sequence[Any], waits: Any) -> RunRow:
    status = RunStatus(row[4])
    return RunRow(
        run_id=row[0],
        function_id=row[1],
        revision=row[2],
        trigger=TriggerKind(row[3]),
        status=status,
        created=row[5],
        started=row[6],
        ended=row[7],
        event_ids=tuple(orjson.loads(row[8])),
        input=row[9],
        value=row[10],
        rerun_of=row[11],
        due=row[12],
        since=row[13],
        pool=row[14],
        runner_id=row[15],
        blocked_on=row[16],
        attempt=row[17] or 0,
        waits=waits,
    )
