"""Fences: a runner that lost its lease can change nothing, and is told."""

from conformance.build import (
    Well,
    cancel,
    close,
    consume,
    done,
    event,
    park,
    run_id,
    start,
    step,
    turn,
    wait,
)

from stepwell.engine.run import RunStatus
from stepwell.store.records import AttemptRow, EventFate, Parked, Signal, StepKind, TriggerKind
from stepwell.store.results import Claimed


async def taken_over(well: Well) -> tuple[Claimed, Claimed]:
    """A run whose first runner lost its lease to a second: the zombie's claim, and the owner's."""
    zombie = await well.running(1)
    well.later(61)
    await well.enrol("B")
    await well.claim(0, "B", sweep=True)
    owner = await well.resumed(1, "B")
    assert owner.epoch == zombie.epoch + 1
    await well.enrol("A")
    return zombie, owner


async def test_a_zombie_records_nothing(well: Well) -> None:
    """A turn of an epoch that is no longer the run's writes none of its parts and is counted."""
    zombie, _owner = await taken_over(well)
    before = await well.picture()
    result = await well.commit(
        turns=(
            turn(
                zombie,
                step("a"),
                step("nap", b"null", StepKind.SLEEP),
                closes=(close("nap", StepKind.SLEEP),),
                opens=(wait("b", match_key="k"), wait("sig", StepKind.SIGNAL, match_key="s")),
                attempts=(AttemptRow("a", 0, 1, 1, 2, b"{}", None),),
                then=done(),
            ),
        )
    )
    assert (result.turns[0].landed, result.fenced) == (False, 1)
    assert await well.picture() == before


async def test_a_zombie_parks_nothing(well: Well) -> None:
    """A zombie's park leaves the lease with its owner."""
    zombie, owner = await taken_over(well)
    result = await well.commit(turns=(turn(zombie, then=park(0, Parked.QUEUED)),))
    assert not result.turns[0].landed
    assert await well.store.held("B") == [(owner.run_id, owner.epoch)]


async def test_a_zombie_sends_nothing(well: Well) -> None:
    """Events, starts and signals that a fenced turn guards do not happen."""
    zombie, _owner = await taken_over(well)
    listener = await well.running(2)
    await well.commit(turns=(turn(listener, opens=(wait("hear", StepKind.SIGNAL, match_key="s"),)),))
    result = await well.commit(
        turns=(turn(zombie, step("tell", b"true", StepKind.SEND_SIGNAL), signal=Signal("s", b"1")),),
        events=(event("sent", turn=0),),
        starts=(start(3, turn=0, trigger=TriggerKind.INVOKE), start(4, event=0)),
    )
    assert result.events == (EventFate.REFUSED,)
    assert [one.landed for one in result.starts] == [False, False]
    assert await well.store.event("sent") is None
    assert await well.status(3) is None
    assert await well.status(4) is None
    assert await well.waits(2) == ["hear"]
    assert await well.journal(1) == []


async def test_only_the_zombies_turn_is_fenced(well: Well) -> None:
    """A zombie's turn in a pile does no harm to the others in it."""
    zombie, _owner = await taken_over(well)
    fine = await well.running(2)
    result = await well.commit(
        turns=(turn(zombie, step("a")), turn(fine, step("a"))), events=(event("one", turn=0), event("two", turn=1))
    )
    assert [one.landed for one in result.turns] == [False, True]
    assert result.events == (EventFate.REFUSED, EventFate.ACCEPTED)
    assert result.fenced == 1
    assert await well.journal(2) == [("a", b"1")]


async def test_a_parked_run_takes_no_turn(well: Well) -> None:
    """Once the lease was given back, the same epoch writes nothing more."""
    claimed = await well.running(1)
    await well.commit(turns=(turn(claimed, opens=(wait("a"),), then=park()),))
    result = await well.commit(turns=(turn(claimed, step("b")),))
    assert (result.turns[0].landed, result.fenced) == (False, 1)
    assert await well.journal(1) == []


async def test_a_swept_run_takes_no_turn(well: Well) -> None:
    """Once the sweep has freed a run, its old epoch writes nothing, though nobody has claimed it yet."""
    claimed = await well.running(1)
    well.later(61)
    await well.enrol("B")
    assert (await well.claim(0, "B", sweep=True)).recovered == 1
    result = await well.commit(turns=(turn(claimed, step("a")),))
    assert (result.turns[0].landed, result.fenced) == (False, 1)


async def test_an_expired_lease_that_nobody_swept_still_holds(well: Well) -> None:
    """Recovery, not the clock, ends a lease: until the sweep frees the run its owner may write."""
    claimed = await well.running(1)
    well.later(61)
    result = await well.commit(turns=(turn(claimed, step("a")),))
    assert result.turns[0].landed
    assert (await well.news((claimed, 0))) == []
    await well.enrol("A")


async def test_a_run_that_never_was_takes_no_turn(well: Well) -> None:
    """A turn for a run that doesn't exist lands nowhere."""
    claimed = await well.running(1)
    from dataclasses import replace

    result = await well.commit(turns=(turn(replace(claimed, run_id=run_id(9)), step("a"), then=done()),))
    assert (result.turns[0].landed, result.fenced) == (False, 1)
    assert await well.status(9) is None


async def test_a_run_that_this_pile_cancels_records_nothing_more(well: Well) -> None:
    """A turn in the pile that cancels its run is fenced: the cancellation is the last word."""
    claimed = await well.running(1)
    result = await well.commit(turns=(turn(claimed, step("a"), opens=(wait("b"),), then=done()),), cancels=(cancel(1),))
    assert result.cancels == (RunStatus.CANCELLED,)
    assert (result.turns[0].landed, result.fenced) == (False, 1)
    assert await well.journal(1) == []
    assert await well.status(1) is RunStatus.CANCELLED


async def test_what_others_record_has_the_epoch_of_the_run(well: Well) -> None:
    """A step that an event records while the run is parked stands under the run's epoch, and a later epoch keeps it."""
    claimed = await well.parked(1, wait("a"))
    await well.commit(consumes=(consume(claimed, "a", b"7"),))
    again = await well.resumed(1)
    result = await well.commit(turns=(turn(again, step("a", b"8", StepKind.EVENT), inbox=1),))
    assert result.turns[0].lost == (("a", 0),)
    assert await well.journal(1) == [("a", b"7")]


async def test_the_fence_counts_each_turn(well: Well) -> None:
    """Every fenced turn of a pile is counted."""
    claimed = [await well.running(number) for number in (1, 2, 3)]
    well.later(61)
    await well.enrol("B")
    await well.claim(0, "B", sweep=True)
    result = await well.commit(turns=tuple(turn(one, step("a")) for one in claimed))
    assert result.fenced == 3
