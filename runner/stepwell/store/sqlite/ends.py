"""What one run's end, one event or one signal does to other runs. Runs on the writer thread."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from stepwell.engine.run import RunStatus
from stepwell.store.records import EventFate, Parked, StepKind
from stepwell.store.sqlite.writing import Key, Writing, listed

Ending = tuple[str, RunStatus, bytes]
"""A run, how it ends, and its last word."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """What ends an open wait from outside: the step's result."""

    key: Key
    ok: bool
    value: bytes


def resolve_waits(writing: Writing, found: Sequence[Resolution]) -> None:
    """Take these waits, record their steps, wake their runs. What is no longer open is left alone; the first of two wins."""
    firsts: dict[Key, Resolution] = {}
    for one in found:
        firsts.setdefault(one.key, one)
    keys = list(firsts)
    rows: list[tuple[int, int, int, str | None, str]] = writing.read("open_now", listed(keys))
    if not rows:
        return
    writing.run("take_waits", listed(keys[place] for place, *_rest in rows))
    flat: list[Any] = []
    news: dict[str, int] = {}
    for place, opened, epoch, runner_id, pool in rows:
        run_id, kind, step_id, occurrence = keys[place]
        result = firsts[keys[place]]
        flat += (run_id, step_id, occurrence, kind, result.ok, result.value, 1, opened, writing.now, epoch)
        news[run_id] = news.get(run_id, 0) + 1
        _hear(writing, run_id, runner_id, pool)
    writing.insert("step", flat)
    for count in set(news.values()):
        writing.run("wake", count, writing.now, listed(run_id for run_id, many in news.items() if many == count))


def wake_runs(writing: Writing) -> None:
    """Make runs due now that somebody wants to go on, where nobody holds them."""
    if not writing.pile.wakes:
        return
    wanted = listed(writing.pile.wakes)
    for run_id, _epoch, runner_id, _state, pool, *_rest in writing.read("in_queue", wanted):
        _hear(writing, run_id, runner_id, pool)
    writing.run("wake", 0, writing.now, wanted)


def _hear(writing: Writing, run_id: str, runner_id: str | None, pool: str) -> None:
    if runner_id is not None:
        writing.touched.add(run_id)
    else:
        writing.ready.add(pool)


def end_runs(writing: Writing, endings: Sequence[Ending]) -> list[str]:
    """Write the last words of those that live, remove what lived of them, tell who waits; return those that were leased."""
    words = {run_id: (status, value) for run_id, status, value in reversed(endings)}
    rows = writing.read("in_queue", listed(words))
    if not rows:
        return []
    flat: list[Any] = []
    gone = [row[0] for row in rows]
    for run_id, epoch, runner_id, _state, _pool, _inbox, key1, key2, started in rows:
        status, value = words[run_id]
        flat += (run_id, status.value, value, started, writing.now, epoch)
        if runner_id is not None and (key1 is not None or key2 is not None):
            writing.freed += [key for key in (key1, key2) if key is not None]
    writing.insert("end", flat)
    ids = listed(gone)
    writing.run("drop_queue", ids)
    writing.run("drop_waits", ids)
    writing.ended.update(gone)
    if writing.pile.system_events:
        writing.run("outbox", writing.now, ids)
    invokers = writing.read("invokers", ids)
    if invokers:
        resolve_waits(writing, [child_resolution((run_id, *step), (child, *words[child])) for run_id, *step, child in invokers])
    return [row[0] for row in rows if row[2] is not None]


def child_resolution(step: tuple[str, str, int], child: Ending) -> Resolution:
    """What an ended run is to the step (run, id, occurrence) that invoked it."""
    run_id, step_id, occurrence = step
    child_id, status, value = child
    key = (run_id, int(StepKind.INVOKE), step_id, occurrence)
    if status is RunStatus.COMPLETED:
        return Resolution(key, ok=True, value=value)
    error = {
        "name": f"InvokedFunction{status.value.capitalize()}",
        "message": f"run {child_id} is {status.value}",
        "attempts": 1,
        "run_id": child_id,
        "cause": orjson.Fragment(value),
    }
    return Resolution(key, ok=False, value=orjson.dumps(error))


def cancel_runs(writing: Writing, fates: Sequence[EventFate]) -> tuple[RunStatus | None, ...]:
    """End those that live and whose guard landed; each one's status afterwards, None for no such run."""
    asked = writing.pile.cancels
    if not asked:
        return ()
    live = {row[0]: row[1:4] for row in writing.read("in_queue", listed({one.run_id for one in asked}))}
    allowed = [one.event < 0 or fates[one.event] is EventFate.ACCEPTED for one in asked]
    endings = [
        (one.run_id, one.status, one.value)
        for one, may in zip(asked, allowed, strict=True)
        if may and one.run_id in live and not (one.only_unclaimed and live[one.run_id][0] > 0)
    ]
    if endings:
        writing.touched.update(end_runs(writing, endings))
    ended = writing.read("end_statuses", listed({one.run_id for one in asked}))
    return tuple(
        [_status(ended.get(one.run_id), live.get(one.run_id)) if may else None for one, may in zip(asked, allowed, strict=True)]
    )


def _status(ended: str | None, live: tuple[int, str | None, int] | None) -> RunStatus | None:
    if ended is not None:
        return RunStatus(ended)
    if live is None:
        return None
    _epoch, runner_id, state = live
    return RunStatus.RUNNING if runner_id is not None else Parked(state).status
