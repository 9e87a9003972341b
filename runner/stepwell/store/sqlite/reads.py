"""What is read of a well in SQLite: journals on resuming, and everything that people look at."""

from collections.abc import Sequence
from typing import Any

import orjson

from stepwell.engine.run import RunStatus, at_rest
from stepwell.store.looking import stats_of
from stepwell.store.records import FOREVER, AttemptRow, StepKind, StepRow, TickOutcome, TriggerKind, Wait
from stepwell.store.registry import RevisionRow, RevisionWork
from stepwell.store.results import Journal
from stepwell.store.sqlite.driver import Args, Connection, Cursor
from stepwell.store.sqlite.pile import wait_of
from stepwell.store.sqlite.thread import ConnectionThread, snapshot
from stepwell.store.sqlite.writing import listed
from stepwell.store.statements import load
from stepwell.store.telling import words_of
from stepwell.store.views import EndedBy, ProgressRow, RecordedStep, RunFilter, RunnerRow, RunRow, Stats, StoredEvent

SQL = load("stepwell.store.sqlite", "reads.sql")


class Reads:
    """The reading verbs. They go to a connection of their own where there is a file, else they take turns with the writes."""

    _reader: ConnectionThread

    def _now(self, now: int | None) -> int:
        raise NotImplementedError

    async def _rows(self, name: str, args: Args = ()) -> list[tuple[Any, ...]]:
        return await self._reader.run(lambda connection: connection.execute(SQL[name], args).fetchall())

    async def revisions(self, pool: str | None = None) -> list[RevisionRow]:
        """The revisions of one pool, or all, by function and age."""
        return [RevisionRow(*row) for row in await self._rows("revisions", (pool,))]

    async def work(self, now: int | None = None) -> list[RevisionWork]:
        """What lives, by function, revision and pool."""
        return [RevisionWork(*row) for row in await self._rows("work", (self._now(now), FOREVER))]

    async def live_runs(self, function_id: str, limit: int) -> list[str]:
        """Up to `limit` of a function's unfinished runs, oldest first."""
        return [row[0] for row in await self._rows("live_runs", (function_id, limit))]

    async def journals(self, run_ids: Sequence[str]) -> dict[str, Journal]:
        """The journals of live runs, in one read."""
        rows = await self._rows("journals", (listed(run_ids),))
        return {
            run_id: Journal(run_id, inbox, tuple(map(_step_from_text, orjson.loads(steps))), _waits(waits))
            for run_id, inbox, steps, waits in rows
        }

    async def run(self, run_id: str) -> RunRow | None:
        """One run with its open waits, or None."""
        now = self._now(None)

        def work(cursor: Cursor) -> RunRow | None:
            row = cursor.execute(SQL["one_run"], (run_id,)).fetchone()
            if row is None:
                return None
            return _run(row, now, _waits(cursor.execute(SQL["waits"], (run_id,)).fetchone()[0]))

        return await self._reader.run(lambda connection: snapshot(connection, work))

    async def runs(self, which: RunFilter) -> list[RunRow]:
        """Runs, newest first (without waits)."""
        now = self._now(None)
        args = {
            "now": now,
            "function": which.function_id,
            "status": which.status.value if which.status is not None else None,
            "event": which.event_id,
            "before": which.before,
            "after_at": which.created_after,
            "before_at": which.created_before,
            "limit": which.limit,
        }
        return [_run(row, now) for row in await self._rows(_listing(which), args)]

    async def steps(self, run_id: str) -> list[RecordedStep]:
        """The run's journal with failed tries, in the order recorded."""

        def work(connection: Connection) -> tuple[list[Any], list[Any]]:
            args = (run_id,)
            return connection.execute(SQL["steps"], args).fetchall(), connection.execute(SQL["attempts"], args).fetchall()

        steps, attempts = await self._reader.run(work)
        tries: dict[tuple[str, int], list[AttemptRow]] = {}
        for row in attempts:
            tries.setdefault(row[:2], []).append(AttemptRow(*row))
        return [RecordedStep(_step(row), tuple(tries.get(row[:2], ()))) for row in steps]

    async def attempts_between(self, run_id: str) -> RecordedStep | None:
        """Failed tries of the code between steps (their `step` has an empty id), or None."""
        tries = tuple(AttemptRow(*row) for row in await self._rows("attempts", (run_id,)) if not row[0])
        if not tries:
            return None
        last = tries[-1]
        step = StepRow("", last.occurrence, StepKind.RUN, False, last.error, len(tries), tries[0].started, last.ended)
        return RecordedStep(step, tries)

    async def progress(self, run_id: str) -> list[ProgressRow]:
        """What the run's attempts under way told with the last beat of the runner that holds it, by step."""
        ((told,),) = await self._rows("progress", (run_id,))
        return words_of(told)

    async def event(self, event_id: str) -> StoredEvent | None:
        """One accepted event, or None."""
        rows = await self._rows("one_event", (event_id,))
        return StoredEvent(*rows[0]) if rows else None

    async def events(self, name: str | None, before: str | None, limit: int) -> list[StoredEvent]:
        """Events, newest first; `before` is the id of the last one seen."""
        args = {"name": name, "before": before, "limit": limit}
        return [StoredEvent(*row) for row in await self._rows("events_named" if name is not None else "events", args)]

    async def decisions(self, event_id: str) -> list[tuple[str, str, str]]:
        """(function, decision, detail) recorded for an event that did not start a function though its name matched."""
        return [(row[0], row[1], row[2]) for row in await self._rows("decisions", (event_id,))]

    async def ended_by(self, event_id: str, limit: int) -> list[EndedBy]:
        """Up to `limit` waits that the event ended and runs that it cancelled."""
        return [EndedBy(*row) for row in await self._rows("ended_by", (event_id, limit))]

    async def key_holders(self, key: str) -> list[str]:
        """The runs whose unexpired leases count under a concurrency key."""
        return [row[0] for row in await self._rows("key_holders", (key, self._now(None)))]

    async def runners(self, now: int | None = None) -> list[RunnerRow]:
        """The runners whose lease holds."""
        return [_runner(row) for row in await self._rows("stats_runners", (self._now(now),))]

    async def ledger(self, schedule_id: str, limit: int) -> list[tuple[int, int, str, str | None]]:
        """(due, outcome, reason, run_id) of a schedule's ticks, newest first."""
        return [(row[0], TickOutcome(row[1]), row[2], row[3]) for row in await self._rows("ledger", (schedule_id, limit))]

    async def stats(self, now: int | None = None) -> Stats:
        """The live figures, in one look."""
        at = self._now(now)
        return await self._reader.run(lambda connection: stats_of(str(connection.execute(SQL["stats"], (at,)).fetchall()[0][0])))


def _listing(which: RunFilter) -> str:
    if which.event_id is not None:
        return "runs_of_event"
    if which.function_id is not None:
        return "runs_of_function"
    if which.status is None:
        return "runs"
    if which.status is RunStatus.COMPLETED:
        return "runs_completed"
    return "runs_ended" if which.status.is_final else "runs_live"


def _runner(row: Sequence[Any]) -> RunnerRow:
    pools, functions, broken = (tuple(orjson.loads(text)) for text in (row[1], row[2], row[6]))
    return RunnerRow(row[0], pools, functions, row[3], row[4], bool(row[5]), tuple(map(tuple, broken)))


def _waits(text: str) -> tuple[Wait, ...]:
    return tuple(map(wait_of, orjson.loads(text)))


def _step(row: Sequence[Any]) -> StepRow:
    return StepRow(row[0], row[1], StepKind(row[2]), bool(row[3]), *row[4:])


def _step_from_text(row: Sequence[Any]) -> StepRow:
    return StepRow(row[0], row[1], StepKind(row[2]), bool(row[3]), row[4].encode(), *row[5:])


def _run(row: Sequence[Any], now: int, waits: tuple[Wait, ...] = ()) -> RunRow:
    due: int | None = row[12]
    return RunRow(
        run_id=row[0],
        function_id=row[1],
        revision=row[2],
        trigger=TriggerKind(row[3]),
        status=at_rest(RunStatus(row[4]), is_due=due is not None and due <= now),
        created=row[5],
        started=row[6],
        ended=row[7],
        event_ids=tuple(orjson.loads(row[8])),
        input=row[9],
        value=row[10],
        rerun_of=row[11],
        due=due,
        since=row[13],
        pool=row[14],
        runner_id=row[15],
        blocked_on=row[16],
        attempt=row[17] or 0,
        waits=waits,
    )
