"""A pile as the arguments of `commit_pile`: parallel arrays, null where a kind is absent. Pure.

Places count from 1, 0 stands for none; the names of the columns are those of migrations/0008_commit_pile.sql.
"""

from collections.abc import Sequence
from typing import Any

import orjson

from stepwell.store.records import (
    AttemptRow,
    Claim,
    End,
    EventRow,
    Park,
    Pile,
    Signal,
    Start,
    StepKind,
    StepRow,
    Tick,
    Turn,
    Wait,
)

Args = list[Any]

ARGUMENTS = 85
"""How many `commit_pile` takes."""


def encode(pile: Pile, now: int | None) -> Args:
    """The arguments, in order."""
    turns = _Turns()
    for place, turn in enumerate(pile.turns, 1):
        turns.add(place, turn)
    for start in pile.starts:
        for wait in start.cancel_on:
            turns.open(0, start.run_id, wait)
    ends = bool(turns.ends[0] or pile.cancels)
    return [
        pile.registry_version,
        bool(pile.events or pile.starts or ends),
        now,
        pile.system_events,
        pile.match_keys or None,
        *turns.args(_also(pile)),
        *_events(pile.events),
        *_starts(pile.starts),
        *_decisions(pile),
        *_consumes(pile),
        *_cancels(pile),
        *_ticks(pile.ticks),
        pile.wakes or None,
        pile.outbox_done or None,
        *_claim(pile.claim),
    ]


class _Turns:
    """The columns of all turns, filled row by row; one list a column, for this is the hot path."""

    def __init__(self) -> None:
        self.run_ids: list[str] = []
        self.epochs: list[int] = []
        self.over: dict[str, int] = {}
        self.steps: tuple[list[Any], ...] = ([], [], [], [], [], [], [], [], [])
        self.closes: tuple[list[int], ...] = ([], [], [], [])
        self.closed_steps: list[str] = []
        self.ends: tuple[list[Any], ...] = ([], [], [])
        self.parks: tuple[list[int], ...] = ([], [], [], [], [], [])
        self.open_ints: tuple[list[int], ...] = ([], [], [], [], [], [])
        self.open_texts: tuple[list[str | None], ...] = ([], [], [], [], [], [])
        self.open_bytes: tuple[list[bytes | None], ...] = ([], [])
        self.attempt_ints: tuple[list[int | None], ...] = ([], [], [], [], [], [])
        self.attempt_steps: list[str] = []
        self.attempt_errors: list[bytes] = []
        self.signals: tuple[list[Any], ...] = ([], [], [], [])

    def add(self, place: int, turn: Turn) -> None:
        self.run_ids.append(turn.run_id)
        # What follows its own run's park or end in one pile is fenced by an epoch that no run has.
        self.epochs.append(turn.epoch if self.over.get(turn.run_id) != turn.epoch else -1)
        if turn.steps:
            self._step(place, turn.steps)
        if turn.closes:
            self._close(place, turn)
        for wait in turn.opens:
            self.open(place, turn.run_id, wait)
        for attempt in turn.attempts:
            self._attempt(place, attempt)
        if turn.signal is not None:
            self._signal(place, turn, turn.signal)
        then = turn.then
        if then is not None:
            self.over[turn.run_id] = turn.epoch
        if type(then) is End:
            of, status, value = self.ends
            of.append(place)
            status.append(then.status)
            value.append(then.value)
        elif type(then) is Park:
            for column, number in zip(
                self.parks, (place, then.due, then.state, then.attempt, then.attempt_steps, turn.inbox), strict=True
            ):
                column.append(number)

    def _step(self, place: int, steps: Sequence[StepRow]) -> None:
        of, ids, occurrences, kinds, oks, values, attempts, started, ended = self.steps
        for step in steps:
            of.append(place)
            ids.append(step.step_id)
            occurrences.append(step.occurrence)
            kinds.append(step.kind)
            oks.append(step.ok)
            values.append(step.value)
            attempts.append(step.attempts)
            started.append(step.started)
            ended.append(step.ended)

    def _close(self, place: int, turn: Turn) -> None:
        first = len(self.steps[0]) - len(turn.steps)
        of, kinds, occurrences, steps = self.closes
        for step_id, occurrence, kind in turn.closes:
            of.append(place)
            kinds.append(kind)
            occurrences.append(occurrence)
            steps.append(
                next(
                    (
                        first + at
                        for at, step in enumerate(turn.steps, 1)
                        if step.step_id == step_id and step.occurrence == occurrence and step.kind == kind
                    ),
                    0,
                )
            )
            self.closed_steps.append(step_id)

    def open(self, place: int, run_id: str, wait: Wait) -> None:
        for column, number in zip(
            self.open_ints, (place, wait.kind, wait.occurrence, wait.due, wait.opened, wait.attempt), strict=True
        ):
            column.append(number)
        for column, text in zip(
            self.open_texts, (run_id, wait.step_id, wait.name, wait.match_key, wait.residual, wait.target_run), strict=True
        ):
            column.append(text)
        self.open_bytes[0].append(wait.context)
        self.open_bytes[1].append(wait.detail)

    def _attempt(self, place: int, attempt: AttemptRow) -> None:
        for column, number in zip(
            self.attempt_ints,
            (place, attempt.occurrence, attempt.attempt, attempt.started, attempt.ended, attempt.retry_at),
            strict=True,
        ):
            column.append(number)
        self.attempt_steps.append(attempt.step_id)
        self.attempt_errors.append(attempt.error)

    def _signal(self, place: int, turn: Turn, signal: Signal) -> None:
        first = len(self.steps[0]) - len(turn.steps)
        step = next((first + at for at, step in enumerate(turn.steps, 1) if step.kind is StepKind.SEND_SIGNAL), 0)
        for column, item in zip(self.signals, (place, signal.match_key, signal.value, step), strict=True):
            column.append(item)

    def args(self, also: list[str] | None) -> Args:
        steps = self.steps if self.steps[0] else (None,) * 9
        ends = self.ends if self.ends[0] else (None,) * 3
        parks = self.parks if self.parks[0] else (None,) * 6
        signals = self.signals if self.signals[0] else (None,) * 4
        opened = bool(self.open_texts[0])
        return [
            self.run_ids or None,
            self.epochs or None,
            also,
            *steps,
            self.closes if self.closed_steps else None,
            self.closed_steps or None,
            *ends,
            *parks,
            self.open_ints if opened else None,
            self.open_texts if opened else None,
            self.open_bytes if opened else None,
            self.attempt_ints if self.attempt_steps else None,
            self.attempt_steps or None,
            self.attempt_errors or None,
            *signals,
        ]


def _also(pile: Pile) -> list[str] | None:
    """Runs besides the turns' own whose queue rows the pile will want, so that all are locked at once and in order."""
    runs = [consume.run_id for consume in pile.consumes]
    runs.extend(cancel.run_id for cancel in pile.cancels)
    runs.extend(pile.wakes)
    for turn in pile.turns:
        runs.extend(wait.target_run for wait in turn.opens if wait.target_run is not None)
    return runs or None


def _events(events: Sequence[EventRow]) -> Args:
    if not events:
        return [None] * 7
    turns = [event.turn + 1 for event in events]
    ticks = [event.tick + 1 for event in events]
    return [
        [event.id for event in events],
        [event.name for event in events],
        [event.data for event in events],
        [event.body_hash for event in events],
        [event.ts for event in events],
        turns if any(turns) else None,
        ticks if any(ticks) else None,
    ]


def _starts(starts: Sequence[Start]) -> Args:
    if not starts:
        return [None] * 16
    events = [start.event + 1 for start in starts]
    turns = [start.turn + 1 for start in starts]
    leases = [start.lease_to for start in starts]
    return [
        [start.run_id for start in starts],
        [start.function_id for start in starts],
        [start.revision for start in starts],
        [start.pool for start in starts],
        [start.trigger for start in starts],
        [start.input for start in starts],
        [start.created for start in starts],
        [start.due for start in starts],
        events if any(events) else None,
        turns if any(turns) else None,
        leases if any(leases) else None,
        *_start_extras(starts),
        [_json_list(start.event_ids) for start in starts],
        [place for place, start in enumerate(starts, 1) for _ in start.event_ids],
        [event_id for start in starts for event_id in start.event_ids],
    ]


def _start_extras(starts: Sequence[Start]) -> Args:
    texts: tuple[list[str | None], ...] = ([], [], [], [])
    ints: tuple[list[int | None], ...] = ([], [], [], [])
    some_text = some_int = False
    for start in starts:
        keys = start.concurrency
        first = keys[0] if keys else None
        second = keys[1] if len(keys) > 1 else None
        for column, text in zip(texts, (first, second, start.idempotency_key, start.rerun_of), strict=True):
            column.append(text)
        for column, number in zip(
            ints, (start.priority, start.idempotency_until, start.start_by, start.finish_within), strict=True
        ):
            column.append(number)
        some_text = some_text or bool(keys) or start.idempotency_key is not None or start.rerun_of is not None
        some_int = some_int or bool(start.priority or start.idempotency_until) or start.start_by is not None
        some_int = some_int or start.finish_within is not None
    return [texts if some_text else None, ints if some_int or some_text else None]


def _json_list(ids: tuple[str, ...]) -> str:
    return orjson.dumps(ids).decode()


def _decisions(pile: Pile) -> Args:
    if not pile.decisions:
        return [None, None]
    return [
        [decision.event + 1 for decision in pile.decisions],
        (
            [decision.function_id for decision in pile.decisions],
            [decision.decision for decision in pile.decisions],
            [decision.detail for decision in pile.decisions],
        ),
    ]


def _consumes(pile: Pile) -> Args:
    if not pile.consumes:
        return [None, None, None]
    return [
        (
            [consume.event + 1 for consume in pile.consumes],
            [consume.kind for consume in pile.consumes],
            [consume.occurrence for consume in pile.consumes],
        ),
        ([consume.run_id for consume in pile.consumes], [consume.step_id for consume in pile.consumes]),
        [consume.value for consume in pile.consumes],
    ]


def _cancels(pile: Pile) -> Args:
    if not pile.cancels:
        return [None] * 5
    return [
        [cancel.run_id for cancel in pile.cancels],
        [cancel.value for cancel in pile.cancels],
        [cancel.status for cancel in pile.cancels],
        [cancel.event + 1 for cancel in pile.cancels],
        [cancel.only_unclaimed for cancel in pile.cancels],
    ]


def _ticks(ticks: Sequence[Tick]) -> Args:
    if not ticks:
        return [None, None]
    return [
        ([tick.schedule_id for tick in ticks], [tick.reason for tick in ticks], [tick.run_id for tick in ticks]),
        (
            [tick.due for tick in ticks],
            [tick.outcome for tick in ticks],
            [tick.next_due for tick in ticks],
            [tick.overlap for tick in ticks],
        ),
    ]


def _claim(claim: Claim | None) -> Args:
    if claim is None:
        return [None] * 10
    return [
        claim.runner_id,
        claim.pools,
        claim.functions,
        claim.room,
        claim.sweep,
        [limit.function_id for limit in claim.limits],
        [limit.first for limit in claim.limits],
        [limit.second for limit in claim.limits],
        [run_id for run_id, _epoch, _inbox in claim.watch] or None,
        ([epoch for _run, epoch, _inbox in claim.watch], [inbox for _run, _epoch, inbox in claim.watch]) if claim.watch else None,
    ]
