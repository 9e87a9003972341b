"""A pile, written: the order of `Pile`'s docstring, inside one `BEGIN IMMEDIATE`. Runs on the writer thread."""

from collections.abc import Sequence
from typing import Any

from stepwell.store.records import Pile, StepKind, Wait
from stepwell.store.results import Candidate, PileResult
from stepwell.store.sqlite.claims import claim, free_slots
from stepwell.store.sqlite.driver import Connection, Cursor
from stepwell.store.sqlite.ends import cancel_runs, wake_runs
from stepwell.store.sqlite.events import accept_events, consume_waits, decide, fire_ticks
from stepwell.store.sqlite.starts import start_runs
from stepwell.store.sqlite.turns import fence, fence_ended, land_turns
from stepwell.store.sqlite.writing import SQL, Writing, listed


def write(connection: Connection, cursor: Cursor, pile: Pile, now: int) -> PileResult:
    """Write the pile inside the caller's transaction; the answer says what landed."""
    version = int(cursor.execute(SQL["version"]).fetchone()[0])
    if pile.registry_version not in (-1, version):
        return PileResult(now, stale=True, registry_version=version)
    writing = Writing(connection, cursor, pile, now, version)
    if pile.match_keys and (found := _candidates(writing)):
        return PileResult(now, registry_version=version, candidates=found)
    fence(writing)
    ticks = fire_ticks(writing)
    fates = accept_events(writing, ticks)
    decide(writing, fates)
    consume_waits(writing, fates)
    cancels = cancel_runs(writing, fates)
    fence_ended(writing)
    starts = start_runs(writing, fates)
    turns = land_turns(writing)
    wake_runs(writing)
    if pile.outbox_done:
        writing.run("outbox_done", listed(pile.outbox_done))
    free_slots(writing)
    answer = claim(writing, pile.claim) if pile.claim is not None else {}
    return PileResult(
        now,
        registry_version=version,
        turns=turns,
        ticks=ticks,
        events=fates,
        starts=starts,
        cancels=cancels,
        fenced=len(writing.fenced),
        ready=tuple(sorted(writing.ready)),
        touched=tuple(sorted(writing.touched)),
        **answer,
    )


def _candidates(writing: Writing) -> tuple[Candidate, ...]:
    rows = writing.read("candidates", listed(set(writing.pile.match_keys)))
    return tuple(Candidate(row[0], wait_of(row[1:])) for row in rows)


def wait_of(row: Sequence[Any]) -> Wait:
    """A wait from its columns in the order of `Wait`, payloads as text."""
    return Wait(
        kind=StepKind(row[0]),
        step_id=row[1],
        occurrence=row[2],
        due=row[3],
        opened=row[4],
        attempt=row[5],
        name=row[6],
        match_key=row[7],
        residual=row[8],
        context=_payload(row[9]),
        target_run=row[10],
        detail=_payload(row[11]),
    )


def _payload(text: str | None) -> bytes | None:
    return text.encode() if text is not None else None
