"""What a limit or a pause held back: a claim tells when it was let go, so that the time before isn't taken for a wait for a runner."""

from collections.abc import Awaitable, Callable

import pytest
from conformance.build import SECOND, T0, Well, asking, cancel, consume, done, park, run_id, start, tick, turn, wait

from stepwell.store.records import FOREVER, Limit, Park, Parked, StepKind, TriggerKind
from stepwell.store.registry import FunctionRow, PauseRow, ScheduleRow
from stepwell.store.results import Claimed

ONE = (Limit("f", 1),)
REPLACE = 2

Act = Callable[[Well, Claimed], Awaitable[object]]


async def full(well: Well, *others: int) -> Claimed:
    """The lease of run 1 under a full limit, for half a minute; it blocks these others."""
    await well.start(start(1, concurrency=("k",)))
    (first,) = (await well.claim(limits=ONE)).claimed
    await well.start(*(start(number, concurrency=("k",), due=T0 + number) for number in others))
    well.later(1)
    assert await well.claimed(limits=ONE) == []
    well.later(29)
    return first


async def ended(well: Well, first: Claimed) -> None:
    await well.commit(turns=(turn(first, then=done()),))


async def parked(well: Well, first: Claimed) -> None:
    await well.commit(turns=(turn(first, opens=(wait("w"),), then=park()),))


async def cancelled(well: Well, _first: Claimed) -> None:
    await well.commit(cancels=(cancel(1),))


async def replaced(well: Well, first: Claimed) -> None:
    row = ScheduleRow("s", "g", b"{}", created=T0, last_due=T0, next_due=T0 + SECOND)
    await well.store.register("tests", [FunctionRow(name, "r1", "p", "tests", b"{}") for name in "fg"], [row])
    await well.commit(ticks=(tick(T0 + SECOND, run_id=first.run_id),))
    newer = start(7, "g", trigger=TriggerKind.CRON, due=T0 + 3600 * SECOND)
    await well.commit(ticks=(tick(T0 + 2 * SECOND, run_id=newer.run_id, overlap=REPLACE),), starts=(newer,))


async def left(well: Well, _first: Claimed) -> None:
    await well.store.leave("A", well.now)
    await well.commit(cancels=(cancel(1),))


async def handed_back(well: Well, first: Claimed) -> None:
    assert await well.store.hand_back("A", [(first.run_id, first.epoch)], well.now) == 1
    await well.commit(cancels=(cancel(1),))


async def expired(well: Well, _first: Claimed) -> None:
    await well.store.expire_all()
    await well.enrol("B")
    await well.claim(0, "B", limits=ONE, sweep=True)
    await well.commit(cancels=(cancel(1),))


async def raised(well: Well, _first: Claimed) -> None:
    await well.claim(0, "B", limits=(Limit("f", 2),), sweep=True)


@pytest.mark.parametrize("act", [ended, parked, cancelled, replaced, left, handed_back, expired, raised])
async def test_a_claim_tells_when_a_limit_let_go(well: Well, act: Act) -> None:
    """Whatever makes room under a full limit: the claim of what it held back tells when that was, beside when it was due."""
    first = await full(well, 2)
    await act(well, first)
    let_go = well.now
    well.later(3)
    await well.enrol("B")
    (second,) = (await well.claim(runner="B", limits=(Limit("f", 2),))).claimed
    assert (second.run_id, second.due, second.lifted, second.claimable) == (run_id(2), T0 + 2, let_go, let_go)


async def test_a_claim_that_lifts_a_block_tells_so(well: Well) -> None:
    """A claim that finds room where it had found nothing to do lets go in the same act."""
    await full(well, 2)
    (second,) = (await well.claim(limits=(Limit("f", 2),))).claimed
    assert (second.due, second.claimable) == (T0 + 2, well.now)


async def test_a_slot_that_is_freed_is_taken_without_a_wait(well: Well) -> None:
    """Where the same pile frees a slot and claims, what gets it has waited for no runner."""
    first = await full(well, 2)
    result = await well.commit(turns=(turn(first, then=done()),), claim=asking(limits=ONE))
    assert [(one.run_id, well.now - one.claimable) for one in result.claimed] == [(run_id(2), 0)]


async def registered(well: Well) -> None:
    await well.store.register("o", [FunctionRow("f", "r1", "p", "o", b"{}")], [])


@pytest.mark.parametrize("swept", [True, False])
async def test_a_claim_tells_when_a_pause_let_go(well: Well, swept: bool) -> None:
    """Runs that were due before or fell due under a pause were let go by the resume, also where nobody looked meanwhile."""
    await registered(well)
    await well.start(start(1), start(2, due=T0 + 10 * SECOND), start(3, due=T0 + 700 * SECOND))
    await well.store.pause(PauseRow("f", T0, "ada"), well.now)
    well.later(300)
    if swept:
        await well.claim(0, sweep=True)
    well.later(300)
    await well.enrol("A")
    await well.store.resume("f", well.now)
    let_go = well.now
    well.later(4)
    assert [(one.run_id, one.claimable) for one in (await well.claim()).claimed] == [(run_id(1), let_go), (run_id(2), let_go)]
    well.later(100)
    await well.enrol("A")
    assert [(one.run_id, one.lifted) for one in (await well.claim()).claimed] == [(run_id(3), 0)]


async def test_a_late_claim_is_one(well: Well) -> None:
    """What nothing held back could be had since it was due, however long ago that is, though others were blocked meanwhile."""
    await full(well, 2)
    await well.start(start(3))
    (third,) = (await well.claim(limits=ONE)).claimed
    assert (third.run_id, third.lifted, well.now - third.claimable) == (run_id(3), 0, 30 * SECOND)


async def test_what_falls_due_anew_was_not_held_back(well: Well) -> None:
    """A block of before counts for nothing once a run slept, was woken, or put back."""
    first = await full(well, 2)
    result = await well.commit(turns=(turn(first, then=done()),), claim=asking(limits=ONE))
    (second,) = result.claimed
    nap, event_wait = wait("nap", StepKind.SLEEP, due=well.now + SECOND), wait("w")
    await well.commit(turns=(turn(second, opens=(nap, event_wait), then=Park(well.now + SECOND, Parked.SLEEPING)),))
    well.later(1)
    due = well.now
    well.later(5)
    (second,) = (await well.claim(limits=ONE)).claimed
    assert (second.due, second.lifted, second.claimable) == (due, 0, due)
    await well.commit(turns=(turn(second, opens=(), closes=(("nap", 0, StepKind.SLEEP),), then=park(FOREVER)),))
    well.later(5)
    await well.commit(consumes=(consume(second, "w"),))
    woken = well.now
    well.later(5)
    (second,) = (await well.claim(limits=ONE)).claimed
    assert (second.lifted, second.claimable) == (0, woken)


async def test_claims_keep_the_order_of_due_times(well: Well) -> None:
    """What was let go last and was due first is claimed first."""
    first = await full(well, 2)
    await ended(well, first)
    await well.start(start(3, due=T0 + SECOND))
    assert await well.claimed(limits=ONE) == [run_id(2), run_id(3)]


async def test_who_is_blocked_again_is_told_since_when_as_before(well: Well) -> None:
    """A run that is let go by one limit and blocked by the next is told to wait since it was queued."""
    limits = (Limit("f", 1, 1),)
    starts = [start(number, concurrency=keys) for number, keys in ((1, ("a", "x")), (2, ("b", "y")), (3, ("a", "y")))]
    await well.start(*starts)
    first, _second = (await well.claim(limits=limits)).claimed
    before = await well.store.run(run_id(3))
    assert before is not None
    well.later(30)
    result = await well.commit(turns=(turn(first, then=done()),), claim=asking(limits=limits))
    assert result.claimed == ()
    after = await well.store.run(run_id(3))
    assert after is not None
    assert (before.blocked_on, after.blocked_on) == ("a", "y")
    assert after.since == before.since
