"""Waits for events: found by their key, taken once, and their runs woken."""

import asyncio

from conformance.build import FOREVER, SECOND, T0, Well, cancel, consume, done, event, park, run_id, start, step, turn, wait

from stepwell.engine.run import RunStatus
from stepwell.store.records import Consume, EventFate, StepKind
from stepwell.store.results import Candidate, News, TurnResult


async def test_waits_with_a_key_are_candidates(well: Well) -> None:
    """Where an open wait or cancel listener has one of the keys, nothing lands and the pile gets them whole."""
    waiting = wait("paid", name="order/paid", match_key="k1", residual="event.data.n > 1", context=b'{"id":"e"}', due=T0 + 9)
    listener = wait("", StepKind.CANCEL, name="order/gone", match_key="k2", opened=T0)
    claimed = await well.parked(1, waiting)
    await well.start(start(2, cancel_on=(listener,)))
    pile = {"events": (event("e"),), "starts": (start(3, event=0),)}
    result = await well.commit(match_keys=("k0", "k1", "k2", "k1"), **pile)
    assert sorted(result.candidates, key=lambda one: one.run_id) == [
        Candidate(claimed.run_id, waiting),
        Candidate(run_id(2), listener),
    ]
    assert (result.events, result.starts) == ((), ())
    assert await well.store.event("e") is None
    decided = await well.commit(**pile, consumes=(consume(claimed, "paid", event=0),))
    assert (decided.events, decided.starts[0].landed) == ((EventFate.ACCEPTED,), True)
    assert await well.journal(1) == [("paid", b'{"id":"e"}')]


async def test_without_candidates_the_pile_lands(well: Well) -> None:
    """Where no open wait has one of the keys, the pile lands at once."""
    await well.parked(1, wait("paid", match_key="k1"))
    result = await well.commit(match_keys=("k2",), events=(event("e"),))
    assert (result.candidates, result.events) == ((), (EventFate.ACCEPTED,))


async def test_an_event_wakes_a_parked_run(well: Well) -> None:
    """An event takes the wait, is recorded as its step from the time the wait was opened, and the run is due now."""
    await well.parked(1, wait("paid"))
    well.later(7)
    result = await well.commit(events=(event("e"),), consumes=(Consume(0, run_id(1), StepKind.EVENT, "paid", 0, b'{"id":"e"}'),))
    assert (result.ready, result.touched) == (("p",), ())
    (recorded,) = await well.store.steps(run_id(1))
    assert recorded.step == step("paid", b'{"id":"e"}', StepKind.EVENT, started=T0 + 1, ended=well.now)
    assert await well.waits(1) == []
    row = await well.store.run(run_id(1))
    assert row is not None
    assert row.due == well.now
    again = await well.resumed(1)
    assert (again.inbox, again.epoch) == (1, 2)


async def test_an_event_for_a_run_that_is_due_leaves_its_due_time(well: Well) -> None:
    """A run that is due already keeps its place in the queue when an event comes for it."""
    claimed = await well.running(1)
    await well.commit(turns=(turn(claimed, opens=(wait("a"), wait("b")), then=park(0)),))
    well.later(5)
    await well.commit(consumes=(consume(claimed, "a"),))
    row = await well.store.run(run_id(1))
    assert row is not None
    assert row.due == T0


async def test_an_event_touches_a_held_run(well: Well) -> None:
    """An event for a run that somebody holds is recorded, makes nothing claimable, and its holder is told."""
    claimed = await well.running(1)
    await well.commit(turns=(turn(claimed, opens=(wait("paid"),)),))
    result = await well.commit(consumes=(consume(claimed, "paid"),))
    assert (result.ready, result.touched) == ((), (run_id(1),))
    assert await well.news((claimed, 0)) == [News(run_id(1), 1)]
    assert await well.news((claimed, 1)) == []
    journal = (await well.store.journals([run_id(1)]))[run_id(1)]
    assert (journal.inbox, [one.step_id for one in journal.steps]) == (1, ["paid"])


async def test_a_wait_is_taken_once(well: Well) -> None:
    """Of two events for one wait in a pile the first is its result, and a later one finds nothing."""
    claimed = await well.parked(1, wait("paid"))
    await well.commit(consumes=(consume(claimed, "paid", b"1"), consume(claimed, "paid", b"2")))
    await well.commit(consumes=(consume(claimed, "paid", b"3"),))
    assert await well.journal(1) == [("paid", b"1")]
    assert (await well.resumed(1)).inbox == 1


async def test_events_race_for_a_wait(well: Well) -> None:
    """Of many piles at once that give an event to one wait, exactly one wins."""
    claimed = await well.parked(1, wait("paid"))
    await asyncio.gather(*(well.commit(consumes=(consume(claimed, "paid", str(number).encode()),)) for number in range(8)))
    assert len(await well.journal(1)) == 1
    assert (await well.resumed(1)).inbox == 1


async def test_an_event_and_a_timeout_race(well: Well) -> None:
    """Of an event and the time-out of its wait, committed at once, exactly one is recorded."""
    for number in range(1, 6):
        claimed = await well.running(number)
        await well.commit(turns=(turn(claimed, opens=(wait("paid"),)),))
        late = turn(claimed, step("paid", b"null", StepKind.EVENT), closes=(("paid", 0, StepKind.EVENT),))
        _woken, timed_out = await asyncio.gather(
            well.commit(consumes=(consume(claimed, "paid", b"1"),)), well.commit(turns=(late,))
        )
        won = timed_out.turns[0] == TurnResult(landed=True)
        assert await well.journal(number) == [("paid", b"null" if won else b"1")]


async def test_several_waits_of_one_run(well: Well) -> None:
    """Events for several waits of one run in a pile are all recorded, and its inbox grows by each."""
    claimed = await well.parked(1, wait("a"), wait("b"), wait("c"))
    await well.commit(consumes=(consume(claimed, "a", b"1"), consume(claimed, "c", b"3")))
    assert sorted(await well.journal(1)) == [("a", b"1"), ("c", b"3")]
    assert await well.waits(1) == ["b"]
    assert (await well.resumed(1)).inbox == 2


async def test_an_event_that_was_not_accepted_wakes_nobody(well: Well) -> None:
    """A duplicate takes no wait and cancels no run."""
    claimed = await well.parked(1, wait("paid"))
    await well.commit(events=(event("e"),))
    result = await well.commit(events=(event("e"),), consumes=(consume(claimed, "paid", event=0),), cancels=(cancel(1, event=0),))
    assert (result.events, result.cancels) == ((EventFate.DUPLICATE,), (None,))
    assert await well.waits(1) == ["paid"]
    assert await well.status(1) is RunStatus.WAITING


async def test_an_event_for_a_run_that_has_ended(well: Well) -> None:
    """An event for a wait of a run that has ended changes nothing."""
    claimed = await well.running(1)
    await well.commit(turns=(turn(claimed, opens=(wait("paid"),), then=done()),))
    before = await well.picture()
    assert (await well.commit(consumes=(consume(claimed, "paid"),))).ready == ()
    assert await well.picture() == before


async def test_an_event_can_not_satisfy_the_wait_it_started(well: Well) -> None:
    """The event that starts a run is no candidate for a wait that the same pile opens: waits are matched before."""
    claimed = await well.running(1)
    result = await well.commit(match_keys=("k",), events=(event("e"),), turns=(turn(claimed, opens=(wait("a", match_key="k"),)),))
    assert result.candidates == ()
    assert await well.waits(1) == ["a"]


async def test_a_wake_makes_a_run_due(well: Well) -> None:
    """A run that somebody wants to go on is due now where nobody holds it, with nothing new in its inbox."""
    await well.parked(1, wait("nap", StepKind.SLEEP, due=T0 + 60 * SECOND), then=park(T0 + 60 * SECOND))
    held = await well.running(2)
    well.later(1)
    result = await well.commit(wakes=(run_id(1), run_id(2), run_id(9)))
    assert result.ready == ("p",)
    row = await well.store.run(run_id(1))
    assert row is not None
    assert row.due == well.now
    assert await well.store.held("A") == [(held.run_id, held.epoch)]
    assert (await well.resumed(1)).inbox == 0


async def test_a_wake_counts_before_the_claim(well: Well) -> None:
    """A run that is woken in a pile can be claimed by it."""
    await well.parked(1, wait("a", due=FOREVER))
    from conformance.build import asking

    result = await well.commit(wakes=(run_id(1),), claim=asking())
    assert [one.run_id for one in result.claimed] == [run_id(1)]
