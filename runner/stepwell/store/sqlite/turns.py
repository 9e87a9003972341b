"""What executions commit for their own runs, kind by kind over all turns of the pile. Runs on the writer thread.

The kinds follow one another as signals, attempts, closes, steps, opens, parks, ends: an open that is answered at once is seen
by the park of its own turn.
"""

from collections.abc import Sequence
from typing import Any

from stepwell.engine.run import RunStatus
from stepwell.store.records import End, Park, StepKind, StepRow, Turn, Wait
from stepwell.store.results import TurnResult
from stepwell.store.sqlite.ends import Resolution, child_resolution, end_runs, resolve_waits
from stepwell.store.sqlite.starts import wait_columns
from stepwell.store.sqlite.writing import SQL, Key, Writing, listed

LANDED = TurnResult(landed=True)
FENCED = TurnResult(landed=False)
Turns = list[tuple[int, Turn]]
Named = dict[int, list[tuple[str, int]]]
"""Steps by the place of their turn."""


def fence(writing: Writing) -> None:
    """Find the turns whose epoch is no longer the run's, or whose lease is gone; an end that was sent again lands."""
    turns = writing.pile.turns
    if not turns:
        return
    leased: dict[str, int] = writing.read("leased", listed([turn.run_id for turn in turns]))
    over: dict[str, int] = {}
    for place, turn in enumerate(turns):
        # What follows its own run's park or end in one pile has no lease any more.
        follows = over.get(turn.run_id) == turn.epoch
        if follows or leased.get(turn.run_id) != turn.epoch:
            writing.late.add(place)
            if follows or not _ended_so(writing, turn):
                writing.fenced.add(place)
        if turn.then is not None:
            over[turn.run_id] = turn.epoch


def _ended_so(writing: Writing, turn: Turn) -> bool:
    if not isinstance(turn.then, End):
        return False
    stored = writing.cursor.execute(SQL["end_of"], (turn.run_id,)).fetchone()
    return stored is not None and tuple(stored) == (turn.epoch, turn.then.status.value, turn.then.value)


def fence_ended(writing: Writing) -> None:
    """A run that this very pile has cancelled records nothing more."""
    if writing.ended:
        for place, turn in enumerate(writing.pile.turns):
            if turn.run_id in writing.ended and place not in writing.late:
                writing.late.add(place)
                writing.fenced.add(place)


def land_turns(writing: Writing) -> tuple[TurnResult, ...]:
    """Write all that the landed turns say; the answer to each."""
    turns = writing.pile.turns
    if not turns:
        return ()
    late = writing.late
    ours: Turns = [(place, turn) for place, turn in enumerate(turns) if place not in late] if late else list(enumerate(turns))
    signalled = _signal(writing, ours)
    _write_attempts(writing, [turn for _place, turn in ours if turn.attempts])
    gone = _close(writing, [(place, turn) for place, turn in ours if turn.closes])
    lost = _record(writing, ours, gone, signalled)
    refused = _open(writing, [(place, turn) for place, turn in ours if turn.opens])
    _park(writing, [turn for _place, turn in ours if isinstance(turn.then, Park)])
    endings = [(turn.run_id, turn.then.status, turn.then.value) for _place, turn in ours if isinstance(turn.then, End)]
    if endings:
        end_runs(writing, endings)
    if not (writing.fenced or signalled or lost or refused):
        return (LANDED,) * len(turns)
    return tuple(
        [
            FENCED
            if place in writing.fenced
            else TurnResult(True, tuple(lost.get(place, ())), tuple(refused.get(place, ())), signalled.get(place, False))
            for place in range(len(turns))
        ]
    )


def _signal(writing: Writing, turns: Turns) -> dict[int, bool]:
    """Give each signal to the wait that has been open longest; one whose step is recorded was sent before, and isn't again."""
    found: dict[int, bool] = {}
    for place, turn in turns:
        if turn.signal is None:
            continue
        before = None
        for step in turn.steps:
            if step.kind is StepKind.SEND_SIGNAL:
                before = _stored(writing, turn.run_id, step)
        if before is not None:
            found[place] = before[1] == b"true"
            continue
        wait = writing.cursor.execute(SQL["signal_wait"], (turn.signal.match_key,)).fetchone()
        found[place] = wait is not None
        if wait is not None:
            run_id, step_id, occurrence = wait
            key = (run_id, int(StepKind.SIGNAL), step_id, occurrence)
            resolve_waits(writing, [Resolution(key, ok=True, value=turn.signal.value)])
    return found


def _write_attempts(writing: Writing, turns: Sequence[Turn]) -> None:
    rows: list[Any] = []
    for turn in turns:
        for one in turn.attempts:
            rows += (turn.run_id, one.step_id, one.occurrence, one.attempt, one.started, one.ended, one.error, one.retry_at)
    writing.insert("attempt", rows)


def _close(writing: Writing, turns: Turns) -> dict[int, set[tuple[str, int]]]:
    """Remove the waits that turns resolve; return the steps whose wait somebody else has resolved before."""
    if not turns:
        return {}
    keys: list[tuple[int, Key]] = []
    for place, turn in turns:
        keys += [(place, (turn.run_id, int(kind), step_id, occurrence)) for step_id, occurrence, kind in turn.closes]
    asked = listed(key for _place, key in keys)
    gone: dict[int, set[tuple[str, int]]] = {}
    missing: list[int] = writing.read("not_open", asked)
    for at in missing:
        place, (_run_id, kind, step_id, occurrence) = keys[at]
        # Nobody else takes a retry: its wait may be missing because it was never worth writing.
        if kind != StepKind.RUN:
            gone.setdefault(place, set()).add((step_id, occurrence))
    writing.run("take_waits", asked)
    return gone


def _record(writing: Writing, turns: Turns, gone: dict[int, set[tuple[str, int]]], signalled: dict[int, bool]) -> Named:
    """Write the journal; return the steps that are recorded otherwise, or resolved by somebody else."""
    rows: list[Any] = []
    count = 0
    for place, turn in turns:
        run_id, epoch = turn.run_id, turn.epoch
        taken = gone.get(place, ()) if gone else ()
        for step in turn.steps:
            count += 1
            if taken and (step.step_id, step.occurrence) in taken:
                continue
            value = _value(step, signalled.get(place)) if signalled else step.value
            rows += (
                run_id,
                step.step_id,
                step.occurrence,
                step.kind,
                step.ok,
                value,
                step.attempts,
                step.started,
                step.ended,
                epoch,
            )
    if writing.insert("step", rows) == count:
        return {}
    lost: Named = {}
    for place, turn in turns:
        for step in turn.steps:
            if _stored(writing, turn.run_id, step) != (turn.epoch, _value(step, signalled.get(place))):
                lost.setdefault(place, []).append((step.step_id, step.occurrence))
    return lost


def _value(step: StepRow, signalled: bool | None) -> bytes:
    if signalled is None or step.kind is not StepKind.SEND_SIGNAL:
        return step.value
    return b"true" if signalled else b"false"


def _stored(writing: Writing, run_id: str, step: StepRow) -> tuple[int, bytes] | None:
    return writing.cursor.execute(SQL["stored_step"], (run_id, step.step_id, step.occurrence)).fetchone()


# --- opens ---


def _open(writing: Writing, turns: Turns) -> Named:
    """Upsert waits; return the signals that somebody else waits for. A step that is recorded waits for nothing more."""
    asked = [(place, turn.run_id, wait) for place, turn in turns for wait in turn.opens]
    if not asked:
        return {}
    recorded = set(writing.read("recorded", listed((run_id, wait.step_id, wait.occurrence) for _place, run_id, wait in asked)))
    refused: Named = {}
    rows: list[Any] = []
    invokes: list[tuple[str, Wait, str]] = []
    for at, (place, run_id, wait) in enumerate(asked):
        if at in recorded:
            continue
        if wait.kind is StepKind.SIGNAL:
            if not _may_wait(writing, run_id, wait):
                refused.setdefault(place, []).append((wait.step_id, wait.occurrence))
                continue
            writing.insert("open_wait", list(wait_columns(run_id, wait)))
            continue
        target = writing.stands_in.get(wait.target_run, wait.target_run) if wait.target_run is not None else None
        if wait.kind is StepKind.INVOKE and target is not None:
            invokes.append((run_id, wait, target))
        rows += wait_columns(run_id, wait, target)
    writing.insert("open_wait", rows)
    _answer_ended(writing, invokes)
    return refused


def _may_wait(writing: Writing, run_id: str, wait: Wait) -> bool:
    other = writing.cursor.execute(SQL["signal_wait"], (wait.match_key,)).fetchone()
    return other is None or tuple(other) == (run_id, wait.step_id, wait.occurrence)


def _answer_ended(writing: Writing, invokes: Sequence[tuple[str, Wait, str]]) -> None:
    """An invoked run that has ended already answers at once."""
    if not invokes:
        return
    rows = writing.read("end_values", listed({target for _run_id, _wait, target in invokes}))
    ended = {run_id: (run_id, RunStatus(status), value.encode()) for run_id, status, value in rows}
    resolve_waits(
        writing,
        [
            child_resolution((run_id, wait.step_id, wait.occurrence), ended[target])
            for run_id, wait, target in invokes
            if target in ended
        ],
    )


def _park(writing: Writing, turns: Sequence[Turn]) -> None:
    """Give the leases back; a run that has news which its execution hasn't seen is due at once."""
    if not turns:
        return
    parks = {turn.run_id: (turn.inbox, turn.then) for turn in turns if isinstance(turn.then, Park)}
    rows: list[tuple[Any, ...]] = []
    for run_id, _epoch, _runner, _state, pool, inbox, key1, key2, _started in writing.read("in_queue", listed(parks)):
        seen, then = parks[run_id]
        due = writing.now if inbox > seen else max(then.due, writing.now)
        rows.append((run_id, due, int(then.state), then.attempt, then.attempt_steps))
        if key1 is not None or key2 is not None:
            writing.freed += [key for key in (key1, key2) if key is not None]
        if due <= writing.now:
            writing.ready.add(pool)
    writing.run("park", writing.now, listed(rows))
