"""New runs, and the idempotency keys that say which starts become one. Runs on the writer thread."""

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from stepwell.engine.run import RunStatus
from stepwell.store.records import EventFate, Start, TriggerKind, Wait
from stepwell.store.results import StartResult
from stepwell.store.sqlite.writing import Writing, listed


def start_runs(writing: Writing, fates: Sequence[EventFate]) -> tuple[StartResult, ...]:
    """Create the runs whose guards landed; for a key that is taken, another run stands for the start."""
    starts = writing.pile.starts
    if not starts:
        return ()
    known = set(writing.read("known_runs", listed(one.run_id for one in starts)))
    results: list[StartResult | None] = [None] * len(starts)
    for place, one in enumerate(starts):
        if one.turn in writing.fenced or (one.event >= 0 and fates[one.event] is not EventFate.ACCEPTED):
            results[place] = StartResult(landed=False, run_id=one.run_id)
    if known:
        _repeat(writing, results, known)
    _take_keys(writing, results)
    made: list[Start] = []
    for place, one in enumerate(starts):
        if results[place] is None:
            results[place] = StartResult(landed=True, run_id=one.run_id)
            if one.run_id not in known:
                known.add(one.run_id)
                made.append(one)
    _write_runs(writing, made)
    _enqueue(writing, made)
    return tuple(result for result in results if result is not None)


def _repeat(writing: Writing, results: list[StartResult | None], known: set[str]) -> None:
    """A start that was sent before gets the answer it had: its key may be somebody else's by now."""
    ends = writing.read("end_values", listed(known))
    skipped = {run_id: orjson.loads(value)["run_id"] for run_id, status, value in ends if status == RunStatus.SKIPPED}
    for place, one in enumerate(writing.pile.starts):
        if results[place] is None and one.run_id in known:
            first = skipped.get(one.run_id)
            results[place] = StartResult(first is None, first or one.run_id, skipped=first is not None)


def _take_keys(writing: Writing, results: list[StartResult | None]) -> None:
    """Idempotency: the first start of a key takes it, the others are answered with its run."""
    keyed = [
        (place, one, (one.function_id, one.idempotency_key))
        for place, one in enumerate(writing.pile.starts)
        if one.idempotency_key is not None and results[place] is None
    ]
    if not keyed:
        return
    rows = writing.read("known_keys", listed(key for _place, _one, key in keyed), writing.now)
    holders = {(function_id, key): run_id for function_id, key, run_id in rows}
    taken: list[Any] = []
    skipped: list[tuple[Start, str]] = []
    for place, one, key in keyed:
        first = holders.setdefault(key, one.run_id)
        if first == one.run_id:
            taken += (*key, one.run_id, one.idempotency_until)
        elif one.turn >= 0 or one.trigger is TriggerKind.INVOKE:
            writing.stands_in[one.run_id] = first
            results[place] = StartResult(landed=False, run_id=first)
        else:
            skipped.append((one, first))
            results[place] = StartResult(landed=False, run_id=first, skipped=True)
    writing.insert("idempotency", taken)
    _skip(writing, skipped)


def _skip(writing: Writing, skipped: Sequence[tuple[Start, str]]) -> None:
    """Record refused starts as runs that have ended, naming the run that stands for them."""
    if not skipped:
        return
    _write_runs(writing, [one for one, _first in skipped])
    rows: list[Any] = []
    for one, first in skipped:
        why = {"name": "Skipped", "message": f"run {first} has the same idempotency key", "rule": "idempotency", "run_id": first}
        rows += (one.run_id, RunStatus.SKIPPED.value, orjson.dumps(why), None, writing.now, 0)
    writing.insert("skip", rows)


def _write_runs(writing: Writing, starts: Sequence[Start]) -> None:
    runs: list[Any] = []
    events: list[Any] = []
    for one in starts:
        runs += (
            one.run_id,
            one.function_id,
            one.revision,
            one.pool,
            int(one.trigger),
            one.input,
            orjson.dumps(one.event_ids).decode(),
            one.created,
            one.rerun_of,
            writing.version,
        )
        for event_id in one.event_ids:
            events += (event_id, one.run_id)
    writing.insert("run", runs)
    writing.insert("run_event", events)


def _enqueue(writing: Writing, starts: Sequence[Start]) -> None:
    lessees = {one.lease_to for one in starts if one.lease_to is not None}
    # A lease that has run out can't be given; epoch 1 is used up all the same, so that whoever believes in it is fenced.
    alive = set(writing.read("alive", listed(lessees), writing.now)) if lessees else set[str]()
    now = writing.now
    rows: list[Any] = []
    waits: list[Any] = []
    for one in starts:
        fused = one.lease_to is not None
        if not fused:
            deadline, kind = one.start_by, "start"
        else:
            deadline, kind = (now + one.finish_within if one.finish_within is not None else None), "finish"
        key1, key2 = (*one.concurrency, None, None)[:2]
        rows += (
            one.run_id,
            one.function_id,
            one.revision,
            one.pool,
            one.priority,
            one.due,
            now,
            one.created,
            one.lease_to if one.lease_to in alive else None,
            1 if fused else 0,
            key1,
            key2,
            now if fused else None,
            deadline,
            kind if deadline is not None else None,
            one.finish_within,
        )
        for wait in one.cancel_on:
            waits += wait_columns(one.run_id, wait)
        if not fused or one.lease_to not in alive:
            writing.ready.add(one.pool)
    writing.insert("enqueue", rows)
    writing.insert("open_wait", waits)


def wait_columns(run_id: str, wait: Wait, target_run: str | None = None) -> Iterable[Any]:
    """A wait's columns; `target_run` instead of its own, where another run stands in."""
    return (
        run_id,
        int(wait.kind),
        wait.step_id,
        wait.occurrence,
        wait.due,
        wait.opened,
        wait.attempt,
        wait.name,
        wait.match_key,
        wait.residual,
        wait.context,
        target_run if target_run is not None else wait.target_run,
        wait.detail,
    )
