"""What a well promises, as a model small enough to be read: it sees what was asked, what was answered, and the rows since.

G3 a function runs once for an event; G5 a recorded step never changes; G6 a fenced turn changes nothing; G10 of an event and a
timeout exactly one ends a wait; G12 a key never has more live leases than its limit. And no wake is lost between a park and an event.
"""

from collections import Counter
from typing import Any

from model.picture import Picture

from stepwell.store.records import End, EventFate, Park, Pile, StepKind
from stepwell.store.results import PileResult

Key = tuple[str, str, int]
RETRY, LISTENER = int(StepKind.RUN), int(StepKind.CANCEL)


class Promises:
    """All that was seen of one well so far."""

    def __init__(self) -> None:
        self._steps: dict[Key, Any] = {}
        self._runs: dict[tuple[str, str], str] = {}
        self._waits: set[Key] = set()
        self._forgetting = False

    def forget(self) -> None:
        """Retention: what is gone at the next look is gone."""
        self._forgetting = True

    def check(self, rows: Picture, now: int, limits: dict[str, int]) -> None:
        """Look at the rows, after any operation."""
        self._once_per_event(rows)
        self._steps_stay(rows)
        self._waits_end_once(rows)
        self._limits_hold(rows, now, limits)
        self._forgetting = False

    def judge(self, pile: Pile, result: PileResult, before: Picture, after: Picture) -> None:
        """Look at what a pile was answered with."""
        self._events_decide(pile, result, before, after)
        self._fenced_or_recorded(pile, result, before, after)
        self._no_wake_is_lost(pile, result, after)

    def _once_per_event(self, rows: Picture) -> None:
        """G3."""
        if self._forgetting:
            kept = {row.id for row in rows["event_ids"]}
            self._runs = {key: run for key, run in self._runs.items() if key[1] in kept}
        skipped = {row.run_id for row in rows["ends"] if row.status == "skipped"}
        functions = {row.run_id: row.function_id for row in rows["runs"] if row.rerun_of is None and row.run_id not in skipped}
        for row in rows["run_events"]:
            if row.run_id in functions:
                first = self._runs.setdefault((functions[row.run_id], row.event_id), row.run_id)
                assert first == row.run_id, f"{first} and {row.run_id} are runs of one function for {row.event_id}"

    def _events_decide(self, pile: Pile, result: PileResult, before: Picture, after: Picture) -> None:
        """G3: what an event starts is there after it was accepted, and never without that."""
        known = {row.id for row in before["event_ids"]}
        runs = {row.run_id for row in after["runs"]}
        old = {row.run_id for row in before["runs"]}
        for event, fate in zip(pile.events, result.events, strict=True):
            assert fate is not EventFate.ACCEPTED or event.id not in known
            known |= {event.id} if fate is EventFate.ACCEPTED else set()
        for start, told in zip(pile.starts, result.starts, strict=True):
            if start.event >= 0 and result.events[start.event] is not EventFate.ACCEPTED and start.run_id not in old:
                assert not told.landed
                assert start.run_id not in runs
            elif told.landed or told.skipped:
                assert start.run_id in runs

    def _steps_stay(self, rows: Picture) -> None:
        """G5."""
        now = {(row.run_id, row.step_id, row.occurrence): row for row in rows["steps"]}
        if self._forgetting:
            runs = {row.run_id for row in rows["runs"]}
            self._steps = {key: row for key, row in self._steps.items() if key[0] in runs}
        for key, row in self._steps.items():
            assert now.get(key) == row, f"{row} has become {now.get(key)}"
        self._steps = now

    def _fenced_or_recorded(self, pile: Pile, result: PileResult, before: Picture, after: Picture) -> None:
        """G6, and of each step of a turn that landed: it is what is stored, or it is lost."""
        leased = {row.run_id: row.epoch for row in before["queue"] if row.runner_id is not None}
        ended = {row.run_id: (row.epoch, row.status, row.value) for row in before["ends"]}
        stored = {(row.run_id, row.step_id, row.occurrence): (row.epoch, row.value) for row in after["steps"]}
        over: set[tuple[str, int]] = set()
        for turn, told in zip(pile.turns, result.turns, strict=True):
            lease, follows = (turn.run_id, turn.epoch), (turn.run_id, turn.epoch) in over
            if turn.then is not None:
                over.add(lease)
            if follows:
                assert not told.landed, f"{turn} came after its own run's park or end"
            elif leased.get(turn.run_id) != turn.epoch:
                again = isinstance(turn.then, End) and ended.get(turn.run_id) == _last_word(turn.epoch, turn.then)
                assert told.landed == again, f"{turn} was committed without a lease"
            if not told.landed or leased.get(turn.run_id) != turn.epoch:
                continue
            for step in turn.steps:
                value = step.value if step.kind is not StepKind.SEND_SIGNAL else str(told.signalled).lower().encode()
                lost = (step.step_id, step.occurrence) in told.lost
                assert lost == (stored.get((turn.run_id, step.step_id, step.occurrence)) != (turn.epoch, value.decode()))
        alone = Pile(turns=pile.turns, registry_version=pile.registry_version, now=pile.now, system_events=pile.system_events)
        if pile.turns and pile == alone and result.fenced == len(pile.turns):
            assert before == after, "a pile of fenced turns has changed something"

    def _no_wake_is_lost(self, pile: Pile, result: PileResult, after: Picture) -> None:
        """A run that parks without having seen what came for it is due at once."""
        parked = {row.run_id: row for row in after["queue"] if row.runner_id is None}
        for turn, told in zip(pile.turns, result.turns, strict=True):
            row = parked.get(turn.run_id)
            if told.landed and isinstance(turn.then, Park) and row is not None and row.inbox > turn.inbox:
                assert row.due <= result.now, f"{row} sleeps on"

    def _waits_end_once(self, rows: Picture) -> None:
        """G10."""
        live = {row.run_id for row in rows["queue"]}
        opened = {(row.run_id, row.step_id, row.occurrence) for row in rows["waits"] if row.kind not in (RETRY, LISTENER)}
        recorded = {(row.run_id, row.step_id, row.occurrence) for row in rows["steps"]}
        both = opened & recorded
        assert not both, f"{both} have been resolved and still wait"
        neither = {key for key in self._waits - opened - recorded if key[0] in live}
        assert not neither, f"{neither} wait no more, and nothing was recorded"
        self._waits = opened

    def _limits_hold(self, rows: Picture, now: int, limits: dict[str, int]) -> None:
        """G12."""
        alive = {row.runner_id for row in rows["runners"] if row.expires > now}
        held = Counter(key for row in rows["queue"] if row.runner_id in alive for key in {row.key1, row.key2} - {None})
        over = {key: many for key, many in held.items() if many > limits.get(key, many)}
        assert not over, f"{over} leases; the limits are {limits}"


def _last_word(epoch: int, then: End) -> tuple[int, str, str]:
    return epoch, then.status.value, then.value.decode()
