"""Cancels: the last word for a live run, whatever it is doing."""

import pytest
from conformance.build import SECOND, Well, asking, cancel, done, error, event, park, run_id, start, step, turn, wait

from stepwell.engine.run import RunStatus
from stepwell.store.records import Limit, StepKind
from stepwell.store.results import News


async def test_a_queued_run_is_cancelled(well: Well) -> None:
    """A queued run ends as cancelled with the error given, and is never claimed."""
    await well.start(start(1))
    well.later(1)
    result = await well.commit(cancels=(cancel(1),))
    assert (result.cancels, result.touched) == ((RunStatus.CANCELLED,), ())
    row = await well.store.run(run_id(1))
    assert row is not None
    assert (row.status, row.value, row.ended, row.due) == (RunStatus.CANCELLED, error("cancelled"), well.now, None)
    assert await well.claimed() == []


async def test_a_waiting_run_is_cancelled(well: Well) -> None:
    """A waiting run ends as cancelled, and its waits and listeners are gone."""
    await well.parked(1, wait("a", match_key="k"), cancel_on=(wait("", StepKind.CANCEL, match_key="c"),))
    await well.commit(cancels=(cancel(1),))
    assert await well.waits(1) == []
    assert (await well.commit(match_keys=("k", "c"))).candidates == ()


async def test_a_held_run_is_cancelled(well: Well) -> None:
    """A held run is cancelled at once: its holder is told, and its later writes land nowhere."""
    claimed = await well.running(1)
    result = await well.commit(cancels=(cancel(1),))
    assert (result.cancels, result.touched) == ((RunStatus.CANCELLED,), (run_id(1),))
    assert await well.news((claimed, 0)) == [News(run_id(1), -1)]
    late = await well.commit(turns=(turn(claimed, step("a"), then=done()),))
    assert (late.turns[0].landed, late.fenced) == (False, 1)
    assert await well.journal(1) == []


async def test_a_run_that_has_ended_stays_as_it_is(well: Well) -> None:
    """A cancel of a run that has ended answers with how it did, and one of an unknown run with nothing."""
    claimed = await well.running(1)
    await well.commit(turns=(turn(claimed, then=done()),))
    result = await well.commit(cancels=(cancel(1), cancel(9)))
    assert result.cancels == (RunStatus.COMPLETED, None)
    row = await well.store.run(run_id(1))
    assert row is not None
    assert row.value == b'"done"'


async def test_a_resent_cancel_is_the_same(well: Well) -> None:
    """A cancel that is sent again changes nothing and answers the same."""
    await well.start(start(1))
    pile = {"cancels": (cancel(1), cancel(1))}
    first = await well.commit(**pile)
    before = await well.picture()
    well.later(1)
    assert (await well.commit(**pile)).cancels == first.cancels == (RunStatus.CANCELLED, RunStatus.CANCELLED)
    assert await well.picture() == before


async def test_a_poisoned_run_is_failed(well: Well) -> None:
    """A cancel may end a run as failed."""
    await well.start(start(1))
    result = await well.commit(cancels=(cancel(1, status=RunStatus.FAILED),))
    assert result.cancels == (RunStatus.FAILED,)
    assert await well.status(1) is RunStatus.FAILED


async def test_only_a_run_that_was_never_claimed(well: Well) -> None:
    """A start's time-out ends only a run that nobody ever claimed; another answers with what it is doing."""
    await well.start(start(1))
    await well.running(2)
    await well.parked(3, wait("a"))
    await well.parked(4, wait("a", StepKind.SLEEP, due=well.now + SECOND), then=park(well.now + SECOND))
    asked = tuple(cancel(number, only_unclaimed=True) for number in (1, 2, 3))
    await well.start(start(5))
    result = await well.commit(cancels=(*asked, cancel(5, only_unclaimed=True)))
    assert result.cancels[1:] == (RunStatus.RUNNING, RunStatus.WAITING, RunStatus.CANCELLED)


@pytest.mark.parametrize("guarded", [True, False])
async def test_an_event_cancels(well: Well, guarded: bool) -> None:
    """A cancel that an event guards happens with it, and one without a guard by itself."""
    await well.start(start(1))
    result = await well.commit(events=(event("gone"),), cancels=(cancel(1, event=0 if guarded else -1),))
    assert result.cancels == (RunStatus.CANCELLED,)


async def test_a_cancel_is_noted_for_the_system_events(well: Well) -> None:
    """A cancelled run goes to the outbox where somebody listens."""
    await well.start(start(1), start(2))
    await well.commit(cancels=(cancel(1),), system_events=True)
    await well.commit(cancels=(cancel(2),))
    assert (await well.claim(0, sweep=True)).outbox == (run_id(1),)


async def test_a_cancel_frees_its_slot(well: Well) -> None:
    """A held run that is cancelled frees its concurrency slot for the next."""
    limits = (Limit("f", 1),)
    await well.start(start(1, concurrency=("k",)), start(2, concurrency=("k",)))
    assert await well.claimed(limits=limits) == [run_id(1)]
    result = await well.commit(cancels=(cancel(1),), claim=asking(limits=limits))
    assert [one.run_id for one in result.claimed] == [run_id(2)]
