"""What is read from a well: the registry, journals on resuming, and everything that people look at."""

import asyncio
import base64
import re
from collections.abc import Sequence
from typing import Any

import orjson

from stepwell.engine.run import RunStatus, at_rest
from stepwell.store.looking import stats_of
from stepwell.store.postgres.connect import Connections
from stepwell.store.postgres.driver import Row
from stepwell.store.postgres.migrate import quoted
from stepwell.store.records import FOREVER, AttemptRow, Parked, StepKind, StepRow, TriggerKind, Wait
from stepwell.store.registry import FunctionRow, PauseRow, Registry, RevisionRow, RevisionWork, ScheduleRow
from stepwell.store.results import Journal
from stepwell.store.statements import load
from stepwell.store.telling import words_of
from stepwell.store.views import EndedBy, ProgressRow, RecordedStep, RunFilter, RunnerRow, RunRow, Stats, StoredEvent


class Reads:
    """The reading verbs. They use connections of their own, few, so that no report stands in the way of a commit."""

    def __init__(self, reads: Connections, schema: str) -> None:
        self._reads = reads
        self._schema = schema
        self._sql = {
            name: re.sub(r"\bwell\.", f"{quoted(schema)}.", text) for name, text in load(__package__ or "", "queries.sql").items()
        }

    def _now(self, now: int | None) -> int | None:
        raise NotImplementedError

    async def _fetch(self, name: str, *args: object) -> Sequence[Row]:
        async with self._reads.use() as connection:
            return await connection.fetch(self._sql[name], *args)

    async def _one(self, name: str, *args: object) -> Row | None:
        async with self._reads.use() as connection:
            return await connection.fetchrow(self._sql[name], *args)

    async def registry(self) -> Registry:
        """One whole version of the registry."""
        (row,) = await self._fetch("registry")
        functions, listens, schedules = _json(row["functions"]), _json(row["listens"]), _json(row["schedules"])
        pauses = tuple(PauseRow(*one) for one in _json(row["pauses"]))
        return Registry(
            version=row["version"],
            functions=tuple(
                FunctionRow(*ids, spec=base64.b64decode(spec), active=active, since=since)
                for *ids, active, since, spec in functions
            ),
            listens=tuple((name, path) for name, path in listens),
            schedules=tuple(
                ScheduleRow(schedule_id, function_id, base64.b64decode(cron), *instants)
                for schedule_id, function_id, cron, *instants in schedules
            ),
            pauses=pauses,
        )

    async def registry_version(self) -> int:
        """The number of the registry's present version."""
        (row,) = await self._fetch("registry_version")
        return row["version"]

    async def revisions(self, pool: str | None = None) -> list[RevisionRow]:
        """The revisions of one pool, or all, by function and age."""
        return [RevisionRow(*row.values()) for row in await self._fetch("revisions", pool)]

    async def work(self, now: int | None = None) -> list[RevisionWork]:
        """What lives, by function, revision and pool."""
        return [RevisionWork(*row.values()) for row in await self._fetch("work", self._now(now), FOREVER)]

    async def live_runs(self, function_id: str, limit: int) -> list[str]:
        """Up to `limit` of a function's unfinished runs, oldest first."""
        return [row["run_id"] for row in await self._fetch("live_runs", function_id, limit)]

    async def journals(self, run_ids: Sequence[str]) -> dict[str, Journal]:
        """The journals of live runs."""
        if not run_ids:
            return {}
        async with self._reads.use() as connection:
            # Steps last: an inbox that is read too early only means that the run looks again.
            heads = await connection.fetch(self._sql["journal_heads"], run_ids)
            waits = await connection.fetch(self._sql["journal_waits"], run_ids)
            steps = await connection.fetch(self._sql["journal_steps"], run_ids, min(run_ids), max(run_ids))
        steps_of: dict[str, list[StepRow]] = {row["run_id"]: [] for row in heads}
        waits_of: dict[str, list[Wait]] = {row["run_id"]: [] for row in heads}
        for row in steps:
            if row["run_id"] in steps_of:
                steps_of[row["run_id"]].append(_step(row))
        for row in waits:
            if row["run_id"] in waits_of:
                waits_of[row["run_id"]].append(_wait(row))
        return {
            row["run_id"]: Journal(row["run_id"], row["inbox"], tuple(steps_of[row["run_id"]]), tuple(waits_of[row["run_id"]]))
            for row in heads
        }

    async def run(self, run_id: str) -> RunRow | None:
        """One run with its open waits, or None."""
        row = await self._one("run", run_id, self._now(None))
        if row is None:
            return None
        waits = await self._fetch("run_waits", run_id) if row["live"] else ()
        return _run_row(row, tuple(map(_wait, waits)))

    async def runs(self, which: RunFilter) -> list[RunRow]:
        """Runs, newest first (without waits)."""
        args: list[Any] = [which.function_id, which.before, which.created_after, which.created_before, which.limit]
        if which.event_id is not None:
            rows = await self._fetch("runs_of_event", *args, which.event_id, which.status, self._now(None))
        elif which.status is None:
            rows = await self._fetch("runs", *args, self._now(None))
        elif which.status.is_final:
            rows = await self._fetch("runs_ended", *args, which.status)
        else:
            rows = await self._fetch("runs_live", *args, which.status, self._now(None))
        return [_run_row(row) for row in rows]

    async def steps(self, run_id: str) -> list[RecordedStep]:
        """The run's journal with failed tries, in the order recorded."""
        steps = [_step(row) for row in await self._fetch("steps", run_id)]
        attempts = await self._fetch("attempts", run_id)
        return [
            RecordedStep(
                step,
                tuple(
                    _attempt(row) for row in attempts if (row["step_id"], row["occurrence"]) == (step.step_id, step.occurrence)
                ),
            )
            for step in steps
        ]

    async def attempts_between(self, run_id: str) -> RecordedStep | None:
        """Failed tries of the code between steps, or None."""
        attempts = tuple(_attempt(row) for row in await self._fetch("attempts", run_id) if not row["step_id"])
        if not attempts:
            return None
        last = attempts[-1]
        step = StepRow("", last.occurrence, StepKind.RUN, False, last.error, len(attempts), attempts[0].started, last.ended)
        return RecordedStep(step, attempts)

    async def progress(self, run_id: str) -> list[ProgressRow]:
        """What the run's attempts under way told with the last beat of the runner that holds it, by step."""
        row = await self._one("progress", run_id)
        return words_of(row["told"] if row is not None else None)

    async def event(self, event_id: str) -> StoredEvent | None:
        """One accepted event, or None."""
        row = await self._one("event", event_id)
        return StoredEvent(*row.values()) if row is not None else None

    async def events(self, name: str | None, before: str | None, limit: int) -> list[StoredEvent]:
        """Events, newest first; `before` is the id of the last one seen."""
        received = seq = None
        if before is not None:
            place = await self._one("event_place", before)
            if place is None:
                return []
            received, seq = place["received"], place["seq"]
        return [StoredEvent(*row.values()) for row in await self._fetch("events", name, received, seq, limit)]

    async def decisions(self, event_id: str) -> list[tuple[str, str, str]]:
        """(function, decision, detail) recorded for an event."""
        rows = await self._fetch("decisions", event_id)
        return [(row["function_id"], row["decision"], row["detail"]) for row in rows]

    async def ended_by(self, event_id: str, limit: int) -> list[EndedBy]:
        """Up to `limit` waits that the event ended and runs that it cancelled."""
        return [EndedBy(*row.values()) for row in await self._fetch("ended_by", event_id, limit)]

    async def key_holders(self, key: str) -> list[str]:
        """The runs whose unexpired leases count under a concurrency key."""
        return [row["run_id"] for row in await self._fetch("key_holders", key, self._now(None))]

    async def runners(self, now: int | None = None) -> list[RunnerRow]:
        """The runners whose lease holds."""
        return [_runner(row) for row in await self._fetch("stats_runners", self._now(now))]

    async def ledger(self, schedule_id: str, limit: int) -> list[tuple[int, int, str, str | None]]:
        """(due, outcome, reason, run_id) of a schedule's ticks, newest first."""
        rows = await self._fetch("ledger", schedule_id, limit)
        return [(row["due"], row["outcome"], row["reason"], row["run_id"]) for row in rows]

    async def stats(self, now: int | None = None) -> Stats:
        """The live figures, for `/metrics`."""
        async with self._reads.use() as connection:
            text = await connection.fetchval(self._sql["stats"], self._now(now), self._schema)
        return await asyncio.to_thread(stats_of, text)  # of ten thousand functions it takes a tenth of a second


def _runner(row: Row) -> RunnerRow:
    return RunnerRow(
        row["runner_id"],
        tuple(row["pools"]),
        tuple(row["functions"]),
        row["slots"],
        row["expires"],
        row["draining"],
        tuple(map(tuple, orjson.loads(row["broken"]))),
    )


def _json(text: str | None) -> list[list[Any]]:
    return orjson.loads(text) if text is not None else []


def _run_row(row: Row, waits: tuple[Wait, ...] = ()) -> RunRow:
    live: bool = row["live"]
    if not live:
        status = RunStatus(row["status"])
    else:
        resting = at_rest(Parked(row["state"]).status, is_due=row["is_due"])
        status = RunStatus.RUNNING if row["runner_id"] is not None else resting
    return RunRow(
        run_id=row["run_id"],
        function_id=row["function_id"],
        revision=row["revision"],
        trigger=TriggerKind(row["trigger"]),
        status=status,
        created=row["created"],
        started=row["started"],
        ended=row["ended"],
        event_ids=tuple(orjson.loads(row["event_ids"])),
        input=row["input"],
        value=row["value"],
        rerun_of=row["rerun_of"],
        due=row["due"],
        since=row["since"],
        pool=row["pool"],
        runner_id=row["runner_id"],
        blocked_on=row["blocked_on"],
        attempt=row["attempt"] or 0,
        waits=waits,
    )


def _step(row: Row) -> StepRow:
    return StepRow(
        row["step_id"],
        row["occurrence"],
        StepKind(row["kind"]),
        row["ok"],
        row["value"],
        row["attempts"],
        row["started"],
        row["ended"],
    )


def _attempt(row: Row) -> AttemptRow:
    return AttemptRow(
        row["step_id"], row["occurrence"], row["attempt"], row["started"], row["ended"], row["error"], row["retry_at"]
    )


def _wait(row: Row) -> Wait:
    return Wait(
        kind=StepKind(row["kind"]),
        step_id=row["step_id"],
        occurrence=row["occurrence"],
        due=row["due"],
        opened=row["opened"],
        attempt=row["attempt"],
        name=row["name"],
        match_key=row["match_key"],
        residual=row["residual"],
        context=row["context"],
        target_run=row["target_run"],
        detail=row["detail"],
    )
