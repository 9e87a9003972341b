"""A run's journal in memory: what the next turn carries, what closes a wait, and what is not certain before the store's answer."""

from dataclasses import replace

import pytest

from stepwell import values
from stepwell.engine.journal import KnownJournal, Unwritten
from stepwell.engine.outcome import time_over
from stepwell.errors import TooLarge
from stepwell.store.records import FOREVER, AttemptRow, Parked, StepKind, StepRow, TriggerKind, Wait
from stepwell.store.results import Claimed, Journal

CLAIMED = Claimed("run-1", "f", "r", 1, 0, 0, 0, 0, 0, TriggerKind.EVENT, b"[]", recovered=False)
NAP = Wait(StepKind.SLEEP, "nap", 0, 50, 10)
KEY = ("nap", 0)


def journal(*opened: Wait) -> KnownJournal:
    """A journal with waits that no turn has carried yet."""
    made = KnownJournal(CLAIMED)
    for wait in opened:
        made.open_wait(wait)
    return made


def written(made: KnownJournal) -> KnownJournal:
    """The same after a turn has taken what was there."""
    made.unwritten = Unwritten()
    return made


def result(step_id: str, value: bytes = b"1") -> StepRow:
    return StepRow(step_id, 0, StepKind.RUN, ok=True, value=value, attempts=1, started=0, ended=1)


def test_a_wait_that_is_over_before_it_was_written_was_never_there() -> None:
    """What no turn has carried is neither opened nor closed by the next one."""
    made = journal(NAP)
    made.remember(time_over(NAP, 50))
    assert (made.unwritten.opens, made.unwritten.closes, list(made.waits)) == ([], [], [])
    assert [row.step_id for row in made.unwritten.steps] == ["nap"]


def test_a_wait_that_the_store_has_is_closed_by_its_result() -> None:
    """The turn that carries a result closes the wait that an earlier turn opened."""
    made = written(journal(NAP))
    made.remember(time_over(NAP, 50))
    assert made.unwritten.closes == [("nap", 0, StepKind.SLEEP)]


def test_a_retry_is_closed_if_any_of_its_waits_was_written() -> None:
    """The wait for a second attempt is in the store although that for the third never got there."""
    first = Wait(StepKind.RUN, "step", 0, 50, 10, attempt=1)
    made = written(journal(first))
    made.open_wait(replace(first, due=90, attempt=2))
    made.remember(result("step"))
    assert (made.unwritten.opens, made.unwritten.closes) == ([], [("step", 0, StepKind.RUN)])


def test_a_time_out_is_not_known_before_it_is_certain() -> None:
    """An event may have come first: the code may learn nothing, and the wait is not due a second time."""
    paid = Wait(StepKind.EVENT, "paid", 0, 50, 10)
    made = written(journal(paid, NAP))
    assert made.over([("paid", 0), KEY], 50) == [("paid", 0), KEY]
    made.time_out(("paid", 0), time_over(paid, 50))
    assert ("paid", 0) not in made.memo
    assert made.over([("paid", 0), KEY], 50) == [KEY]
    assert made.earliest([("paid", 0)]) == FOREVER
    assert made.unwritten.closes == [("paid", 0, StepKind.EVENT)]


def test_a_refused_turn_takes_what_came_after_it_along() -> None:
    """Nothing of what the store refused is known any more, and nothing that was recorded meanwhile."""
    made = journal()
    made.remember(result("kept"))
    written(made)
    made.remember(result("refused"))
    refused = made.unwritten.steps
    written(made)
    made.remember(result("later"))
    made.take_back(refused)
    assert list(made.memo) == [("kept", 0)]
    assert not made.unwritten


def test_what_is_loaded_is_neither_written_again_nor_a_listener() -> None:
    """A run that comes from elsewhere has its results and waits; what would cancel it is the store's business."""
    made = journal()
    made.load(Journal("run-1", 0, (result("a", b"12"),), (NAP, Wait(StepKind.CANCEL, "", 0, FOREVER, 0))))
    assert (list(made.memo), list(made.waits), made.size) == ([("a", 0)], [KEY], 4)
    assert not made.unwritten


def test_a_run_is_waiting_if_any_branch_waits_for_something_from_outside() -> None:
    """Events, signals and runs outweigh sleeps, sleeps outweigh retries."""
    event, retry = Wait(StepKind.EVENT, "e", 0, 50, 10), Wait(StepKind.RUN, "r", 0, 50, 10)
    made = journal(NAP, event, retry)
    assert made.parked_as([KEY, ("e", 0), ("r", 0)]) is Parked.WAITING
    assert made.parked_as([KEY, ("r", 0)]) is Parked.SLEEPING
    assert made.parked_as([("r", 0)]) is Parked.QUEUED


def test_a_failed_attempt_is_counted_with_its_next_one() -> None:
    """A step's attempt has a time and, if it is made again, a pause; code between steps has no time."""
    unwritten = Unwritten()
    unwritten.fail(AttemptRow("step", 0, 0, 1_000_000, 3_000_000, b"{}", 8_000_000), TimeoutError())
    unwritten.fail(AttemptRow("step", 0, 1, 8_000_000, 9_000_000, b"{}", None), ValueError())
    unwritten.fail(AttemptRow("", 0, 0, 0, 9_000_000, b"{}", 10_000_000), ValueError())
    assert unwritten.tried == [("step", "timeout", 2.0), ("step", "error", 1.0), ("", "error", None)]
    assert unwritten.retried == [("step", "TimeoutError", 5.0, 2.0), ("", "ValueError", 1.0, 0.0)]


def test_a_run_has_room_for_so_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded and open steps count alike."""
    monkeypatch.setattr(values, "MAX_STEPS", 2)
    made = journal(NAP)
    made.room_for_step()
    made.remember(result("a"))
    with pytest.raises(TooLarge, match="run run-1 has 2 steps"):
        made.room_for_step()
