"""Cron ticks and events: the ledger and the dedupe say which of them count. Runs on the writer thread."""

from collections.abc import Sequence

import orjson

from stepwell.engine.run import RunStatus
from stepwell.store.records import EventFate, EventRow, Tick, TickOutcome
from stepwell.store.sqlite.ends import Resolution, end_runs, resolve_waits
from stepwell.store.sqlite.writing import SQL, Writing, listed

REPLACED = orjson.dumps({"name": "Replaced", "message": "a newer tick replaced this run"})
SKIP, REPLACE = 1, 2
"""What `Tick.overlap` may say besides 0, Allow."""


def fire_ticks(writing: Writing) -> tuple[TickOutcome | None, ...]:
    """One ledger row per due instant, in order; None for one that was accounted for before."""
    return tuple([_fire(writing, tick) for tick in writing.pile.ticks])


def _fire(writing: Writing, tick: Tick) -> TickOutcome | None:
    if writing.cursor.execute(SQL["tick_known"], (tick.schedule_id, tick.due)).fetchone() is not None:
        return None
    outcome, reason = tick.outcome, tick.reason
    if outcome is TickOutcome.FIRED and tick.overlap:
        last = writing.cursor.execute(SQL["last_run"], (tick.schedule_id,)).fetchone()
        if last is not None and tick.overlap == SKIP:
            outcome, reason = TickOutcome.OVERLAP_SKIPPED, f"run {last[0]} was still going"
        elif last is not None and tick.overlap == REPLACE:
            writing.touched.update(end_runs(writing, [(last[0], RunStatus.CANCELLED, REPLACED)]))
    run_id = tick.run_id if outcome is TickOutcome.FIRED else None
    writing.run("tick", tick.schedule_id, tick.due, int(outcome), reason, run_id, writing.now)
    writing.run("schedule_moved", tick.due, tick.next_due, run_id, tick.schedule_id)
    return outcome


def accept_events(writing: Writing, ticks: Sequence[TickOutcome | None]) -> tuple[EventFate, ...]:
    """Accept what is new and whose guard landed; the fate of each."""
    events = writing.pile.events
    if not events:
        return ()
    known: dict[str, str] = writing.read("known_events", listed({event.id for event in events}))
    (seq,) = writing.read("last_event")
    fates: list[EventFate] = []
    rows: list[object] = []
    ids: list[object] = []
    for event in events:
        if not _guard_landed(writing, event, ticks):
            fates.append(EventFate.REFUSED)
        elif (first := known.get(event.id)) is not None:
            fates.append(EventFate.DUPLICATE if first == event.body_hash.hex().upper() else EventFate.CONFLICT)
        else:
            seq += 1
            known[event.id] = event.body_hash.hex().upper()
            rows += (seq, event.id, event.name, event.data, event.ts, writing.now, writing.version)
            ids += (event.id, event.body_hash, writing.now, seq)
            fates.append(EventFate.ACCEPTED)
    writing.insert("event", rows)
    writing.insert("event_id", ids)
    return tuple(fates)


def _guard_landed(writing: Writing, event: EventRow, ticks: Sequence[TickOutcome | None]) -> bool:
    return event.turn not in writing.fenced and (event.tick < 0 or ticks[event.tick] is TickOutcome.FIRED)


def accepted(event: int, fates: Sequence[EventFate]) -> bool:
    """Whether an operation that this event guards (-1: none does) may happen."""
    return event < 0 or fates[event] is EventFate.ACCEPTED


def decide(writing: Writing, fates: Sequence[EventFate]) -> None:
    """Record why accepted events did not start functions that listen to them."""
    rows: list[object] = []
    for one in writing.pile.decisions:
        if fates[one.event] is EventFate.ACCEPTED:
            rows += (writing.pile.events[one.event].id, one.function_id, one.decision, one.detail, writing.now)
    writing.insert("decide", rows)


def consume_waits(writing: Writing, fates: Sequence[EventFate]) -> None:
    """Give events to the waits that they end."""
    if writing.pile.consumes:
        resolve_waits(
            writing,
            [
                Resolution((one.run_id, int(one.kind), one.step_id, one.occurrence), True, one.value)
                for one in writing.pile.consumes
                if accepted(one.event, fates)
            ],
        )
