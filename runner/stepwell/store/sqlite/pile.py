"""A pile, written: the order of `Pile`'s docstring, inside one `BEGIN IMMEDIATE`. Runs on the writer thread."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import apsw
import orjson

from stepwell.engine.run import RunStatus
from stepwell.store.records import (
    Cancel,
    Candidate,
    Consume,
    End,
    EventFate,
    EventRow,
    Park,
    Pile,
    PileResult,
    Start,
    StartResult,
    StepKind,
    StepRow,
    Tick,
    TickOutcome,
    TriggerKind,
    Turn,
    TurnResult,
    Wait,
)
from stepwell.store.sqlite.claims import claim, free_slots
from stepwell.store.statements import load

SQL = load("stepwell.store.sqlite", "pile.sql")
REPLACED = orjson.dumps({"name": "Replaced", "message": "a newer tick replaced this run"})


@dataclass(slots=True)
class Writing:
    """The pile under way: the cursor, the instant, and what the answer will say."""

    cursor: apsw.Cursor
    pile: Pile
    now: int
    version: int
    ready: set[str] = field(default_factory=set[str])
    touched: set[str] = field(default_factory=set[str])
    freed: list[str] = field(default_factory=list[str])
    stands_in: dict[str, str] = field(default_factory=dict[str, str])
    recovered: int = 0

    def run(self, name: str, args: Sequence[Any] = ()) -> apsw.Cursor:
        """Execute a named statement."""
        return self.cursor.execute(SQL[name], args)

    def one(self, name: str, args: Sequence[Any] = ()) -> Any:
        """The first row of a named statement, or None."""
        return self.cursor.execute(SQL[name], args).fetchone()

    def many(self, name: str, rows: Sequence[Sequence[Any]]) -> None:
        """Execute a named statement for each row."""
        if rows:
            self.cursor.executemany(SQL[name], rows)

    def changed(self) -> int:
        """How many rows the last statement changed."""
        return self.cursor.connection.changes()


def write(cursor: apsw.Cursor, pile: Pile, now: int) -> PileResult:
    """Write the pile inside the caller's transaction; the answer says what landed."""
    version = int(cursor.execute(SQL["version"]).fetchone()[0])
    if pile.registry_version not in (-1, version):
        return PileResult(now, stale=True, registry_version=version)
    writing = Writing(cursor, pile, now, version)
    if pile.match_keys:
        found = _candidates(writing)
        if found:
            return PileResult(now, registry_version=version, candidates=found)
    landed = [_fence(writing, turn) for turn in pile.turns]
    ticks = [_tick(writing, tick) for tick in pile.ticks]
    fates = [_accept(writing, event, landed, ticks) for event in pile.events]
    for decision in pile.decisions:
        if fates[decision.event] is EventFate.ACCEPTED:
            writing.run("decide", (pile.events[decision.event].id, decision.function_id, decision.decision, decision.detail, now))
    for one in pile.consumes:
        _consume(writing, one, fates)
    cancels = [_cancel(writing, one, fates) for one in pile.cancels]
    starts = [_start(writing, one, fates, landed) for one in pile.starts]
    turns = _turns(writing, landed)
    for run_id in pile.wakes:
        _wake(writing, run_id, 0)
    writing.many("outbox_done", [(run_id,) for run_id in pile.outbox_done])
    free_slots(writing)
    answer = claim(writing, pile.claim) if pile.claim is not None else {}
    return PileResult(
        now,
        registry_version=version,
        turns=tuple(turns),
        ticks=tuple(ticks),
        events=tuple(fates),
        starts=tuple(starts),
        cancels=tuple(cancels),
        fenced=landed.count(False),
        ready=tuple(sorted(writing.ready)),
        touched=tuple(sorted(writing.touched)),
        **answer,
    )


# --- checks ---


def _candidates(writing: Writing) -> tuple[Candidate, ...]:
    keys = orjson.dumps(list(writing.pile.match_keys)).decode()
    return tuple(Candidate(row[0], wait_of(row[1:])) for row in writing.run("candidates", (keys,)))


def wait_of(row: Sequence[Any]) -> Wait:
    """A wait from its columns: kind, step, occurrence and the rest in the order of `Wait`."""
    return Wait(StepKind(row[0]), *row[1:])


def _fence(writing: Writing, turn: Turn) -> bool:
    row = writing.one("fence", (turn.run_id,))
    if row is not None:
        return row[0] == turn.epoch and row[1] is not None
    if turn.ends:
        ended = writing.one("ended_under", (turn.run_id,))
        return ended is not None and ended[0] == turn.epoch
    return False


# --- ticks and events ---


def _tick(writing: Writing, tick: Tick) -> TickOutcome | None:
    outcome, reason = tick.outcome, tick.reason
    if writing.one("tick_known", (tick.schedule_id, tick.due)) is not None:
        return None
    last = writing.one("schedule_last", (tick.schedule_id,))
    if (
        outcome is TickOutcome.FIRED
        and tick.overlap
        and last is not None
        and last[0] is not None
        and writing.one("live", (last[0],))
    ):
        if tick.overlap == 1:
            outcome, reason = TickOutcome.OVERLAP_SKIPPED, f"run {last[0]} was still going"
        else:
            _end(writing, last[0], RunStatus.CANCELLED, REPLACED)
    fired = outcome is TickOutcome.FIRED
    run_id = tick.run_id if fired else None
    writing.run("tick", (tick.schedule_id, tick.due, int(outcome), reason, run_id, writing.now))
    writing.run("schedule_moved", (tick.due, tick.next_due, run_id, tick.schedule_id))
    return outcome


def _accept(writing: Writing, event: EventRow, landed: Sequence[bool], ticks: Sequence[TickOutcome | None]) -> EventFate:
    if (event.turn >= 0 and not landed[event.turn]) or (event.tick >= 0 and ticks[event.tick] is not TickOutcome.FIRED):
        return EventFate.REFUSED
    known = writing.one("event_known", (event.id,))
    if known is not None:
        return EventFate.DUPLICATE if known[0] == event.body_hash else EventFate.CONFLICT
    writing.run("event", (event.id, event.name, event.data, event.ts, writing.now, writing.version))
    writing.run("event_id", (event.id, event.body_hash, writing.now, writing.cursor.connection.last_insert_rowid()))
    return EventFate.ACCEPTED


def _guarded(event: int, fates: Sequence[EventFate]) -> bool:
    return event < 0 or fates[event] is EventFate.ACCEPTED


# --- waking and ending runs ---


def _consume(writing: Writing, one: Consume, fates: Sequence[EventFate]) -> None:
    if not _guarded(one.event, fates):
        return
    key = (one.run_id, int(one.kind), one.step_id, one.occurrence)
    opened = writing.one("take_wait", key)
    if opened is not None:
        step = StepRow(one.step_id, one.occurrence, one.kind, True, one.value, 1, opened[0], writing.now)  # noqa: FBT003
        _record_outside(writing, one.run_id, step)


def _record_outside(writing: Writing, run_id: str, step: StepRow) -> None:
    """Record a step that somebody else than the execution resolved, and wake its run."""
    row = writing.one("fence", (run_id,))
    if row is None:
        return
    writing.run("step", _step_args(run_id, step, row[0]))
    _wake(writing, run_id, 1)


def _step_args(run_id: str, step: StepRow, epoch: int) -> tuple[Any, ...]:
    return (
        run_id,
        step.step_id,
        step.occurrence,
        int(step.kind),
        step.ok,
        step.value,
        step.attempts,
        step.started,
        step.ended,
        epoch,
    )


def _wake(writing: Writing, run_id: str, news: int) -> None:
    row = writing.one("wake", (news, writing.now, run_id))
    if row is not None and row[0] is not None:
        writing.touched.add(run_id)
    elif row is not None:
        writing.ready.add(row[1])


def _cancel(writing: Writing, one: Cancel, fates: Sequence[EventFate]) -> RunStatus | None:
    if not _guarded(one.event, fates):
        return None
    row = writing.one("fence", (one.run_id,))
    if row is None:
        ended = writing.one("end_status", (one.run_id,))
        return RunStatus(ended[0]) if ended is not None else None
    if one.only_unclaimed and row[0] > 0:
        return RunStatus.RUNNING if row[1] is not None else RunStatus.QUEUED
    if row[1] is not None:
        writing.touched.add(one.run_id)
    _end(writing, one.run_id, one.status, one.value)
    return one.status


def _end(writing: Writing, run_id: str, status: RunStatus, value: bytes) -> None:
    """Write the run's last word, remove what lived of it, and tell who waits for it."""
    gone = writing.one("leave_queue", (run_id,))
    if gone is None:
        return
    epoch, runner, key1, key2, started = gone
    writing.run("end", (run_id, status.value, value, started, writing.now, epoch))
    writing.run("drop_waits", (run_id,))
    if runner is not None:
        writing.freed += [key for key in (key1, key2) if key is not None]
    if writing.pile.system_events:
        writing.run("outbox", (run_id, writing.now))
    for parent in writing.run("invokers", (run_id,)).fetchall():
        _answer_invoker(writing, parent, status, value)


def _answer_invoker(writing: Writing, parent: Sequence[Any], status: RunStatus, value: bytes) -> None:
    run_id, step_id, occurrence, opened, target = parent
    _record_outside(writing, run_id, child_result(step_id, occurrence, opened, writing.now, (target, status, value)))


def child_result(step_id: str, occurrence: int, opened: int, now: int, child: tuple[str, RunStatus, bytes]) -> StepRow:
    """What an ended child is to the step that invoked it."""
    run_id, status, value = child
    if status is RunStatus.COMPLETED:
        return StepRow(step_id, occurrence, StepKind.INVOKE, True, value, 1, opened, now)  # noqa: FBT003
    error = {
        "name": f"InvokedFunction{status.value.capitalize()}",
        "message": f"run {run_id} is {status.value}",
        "attempts": 1,
        "run_id": run_id,
        "cause": orjson.loads(value),
    }
    return StepRow(step_id, occurrence, StepKind.INVOKE, False, orjson.dumps(error), 1, opened, now)  # noqa: FBT003


# --- starts ---


def _start(writing: Writing, one: Start, fates: Sequence[EventFate], landed: Sequence[bool]) -> StartResult:
    if not _guarded(one.event, fates) or (one.turn >= 0 and not landed[one.turn]):
        return StartResult(landed=False, run_id=one.run_id)
    if writing.one("run_known", (one.run_id,)) is not None:
        return StartResult(landed=True, run_id=one.run_id)
    if one.idempotency_key is not None:
        first = writing.one("idempotency_known", (one.function_id, one.idempotency_key, writing.now))
        if first is not None:
            return _refuse_start(writing, one, first[0])
        writing.run("idempotency", (one.function_id, one.idempotency_key, one.run_id, one.idempotency_until))
    _write_run(writing, one)
    leased = one.lease_to is not None
    deadline = writing.now + one.finish_within if leased and one.finish_within is not None else (None if leased else one.start_by)
    key1, key2 = (*one.concurrency, None, None)[:2]
    writing.run(
        "enqueue",
        (
            one.run_id,
            one.function_id,
            one.revision,
            one.pool,
            one.priority,
            one.due,
            writing.now,
            one.created,
            one.lease_to,
            1 if leased else 0,
            key1,
            key2,
            writing.now if leased else None,
            deadline,
            None if deadline is None else ("finish" if leased else "start"),
            one.finish_within,
        ),
    )
    writing.many("open_wait", [wait_args(one.run_id, wait) for wait in one.cancel_on])
    if not leased:
        writing.ready.add(one.pool)
    return StartResult(landed=True, run_id=one.run_id)


def _refuse_start(writing: Writing, one: Start, first: str) -> StartResult:
    if one.turn >= 0 or one.trigger is TriggerKind.INVOKE:
        writing.stands_in[one.run_id] = first
        return StartResult(landed=False, run_id=first)
    _write_run(writing, one)
    why = {"name": "Skipped", "message": f"run {first} has the same idempotency key", "rule": "idempotency", "run_id": first}
    writing.run("end", (one.run_id, RunStatus.SKIPPED.value, orjson.dumps(why), None, writing.now, 0))
    return StartResult(landed=False, run_id=first, skipped=True)


def _write_run(writing: Writing, one: Start) -> None:
    writing.run(
        "run",
        (
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
        ),
    )
    writing.many("run_event", [(event_id, one.run_id) for event_id in one.event_ids])


def wait_args(run_id: str, wait: Wait) -> tuple[Any, ...]:
    """A wait's columns."""
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
        wait.target_run,
        wait.detail,
    )


# --- turns ---


def _turns(writing: Writing, landed: Sequence[bool]) -> list[TurnResult]:
    """Steps without closes or opens, the common kind, go in together; the rest one by one."""
    results: list[TurnResult] = []
    for turn, ours in zip(writing.pile.turns, landed, strict=True):
        results.append(_turn(writing, turn) if ours else TurnResult(landed=False))
    return results


def _turn(writing: Writing, turn: Turn) -> TurnResult:
    if turn.ends and writing.one("fence", (turn.run_id,)) is None:
        return TurnResult(landed=True)
    signalled = False
    if turn.signal is not None:
        signalled = _signal(writing, turn.signal.match_key, turn.signal.value)
    if turn.attempts:
        writing.many(
            "attempt",
            [
                (turn.run_id, one.step_id, one.occurrence, one.attempt, one.started, one.ended, one.error, one.retry_at)
                for one in turn.attempts
            ],
        )
    taken = _close(writing, turn) if turn.closes else frozenset[tuple[str, int]]()
    lost: list[tuple[str, int]] = []
    for step in turn.steps:
        key = (step.step_id, step.occurrence)
        if key in taken or not _record(writing, turn, step, signalled=signalled):
            lost.append(key)
    refused = tuple((wait.step_id, wait.occurrence) for wait in turn.opens if not _open(writing, turn.run_id, wait))
    then = turn.then
    if isinstance(then, Park):
        _park(writing, turn, then)
    elif isinstance(then, End):
        _end(writing, turn.run_id, then.status, then.value)
    return TurnResult(landed=True, lost=tuple(lost), refused=refused, signalled=signalled)


def _signal(writing: Writing, match_key: str, value: bytes) -> bool:
    row = writing.one("signal_wait", (match_key,))
    if row is None:
        return False
    run_id, step_id, occurrence = row
    opened = writing.one("take_wait", (run_id, int(StepKind.SIGNAL), step_id, occurrence))
    _record_outside(writing, run_id, StepRow(step_id, occurrence, StepKind.SIGNAL, True, value, 1, opened[0], writing.now))  # noqa: FBT003
    return True


def _close(writing: Writing, turn: Turn) -> frozenset[tuple[str, int]]:
    """Remove the waits that this turn resolves; the keys of those that somebody else had resolved before."""
    gone: set[tuple[str, int]] = set()
    for step_id, occurrence, kind in turn.closes:
        if writing.one("take_wait", (turn.run_id, int(kind), step_id, occurrence)) is None and kind is not StepKind.RUN:
            gone.add((step_id, occurrence))
    return frozenset(gone)


def _record(writing: Writing, turn: Turn, step: StepRow, *, signalled: bool) -> bool:
    value = (b"true" if signalled else b"false") if step.kind is StepKind.SEND_SIGNAL else step.value
    args = _step_args(turn.run_id, step, turn.epoch)
    writing.run("step", (*args[:5], value, *args[6:]))
    if writing.changed():
        return True
    stored = writing.one("stored_step", (turn.run_id, step.step_id, step.occurrence))
    return stored is not None and stored[0] == turn.epoch and stored[1] == value


def _open(writing: Writing, run_id: str, wait: Wait) -> bool:
    if wait.kind is StepKind.SIGNAL:
        other = writing.one("signal_wait", (wait.match_key,))
        if other is not None and tuple(other) != (run_id, wait.step_id, wait.occurrence):
            return False
    args = wait_args(run_id, wait)
    if wait.kind is StepKind.INVOKE:
        target = writing.stands_in.get(wait.target_run or "", wait.target_run or "")
        ended = writing.one("end_value", (target,))
        if ended is not None:
            child = (target, RunStatus(ended[0]), ended[1])
            _record_outside(writing, run_id, child_result(wait.step_id, wait.occurrence, wait.opened, writing.now, child))
            return True
        args = (*args[:11], target, args[12])
    writing.run("open_wait", args)
    return True


def _park(writing: Writing, turn: Turn, then: Park) -> None:
    row = writing.one(
        "park",
        (turn.inbox, writing.now, then.due, int(then.state), then.attempt, then.attempt_steps, writing.now, turn.run_id),
    )
    if row is None:
        return
    key1, key2, pool, due = row
    writing.freed += [key for key in (key1, key2) if key is not None]
    if due <= writing.now:
        writing.ready.add(pool)
