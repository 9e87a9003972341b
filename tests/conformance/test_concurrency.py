"""Concurrency: never more leases under a key than its limit, and no slot is lost."""

import asyncio
from typing import Any

import pytest
from conformance.build import SECOND, Well, asking, consume, done, park, run_id, start, turn, wait

from stepwell.engine.run import RunStatus
from stepwell.store.records import Limit
from stepwell.store.results import Claimed

ONE = (Limit("f", 1),)
TWO = (Limit("f", 2),)


def keyed(number: int, *keys: str, function: str = "f", **more: Any) -> Any:
    """A start under concurrency keys."""
    return start(number, function, concurrency=keys or ("k",), **more)


async def finish(well: Well, claimed: Claimed, **more: Any) -> list[str]:
    """End a run and claim in the same pile; what that got."""
    result = await well.commit(turns=(turn(claimed, then=done()),), claim=asking(**more))
    return [one.run_id for one in result.claimed]


async def test_a_limit_holds(well: Well) -> None:
    """No more runs of a key are leased than its limit; the rest is blocked on the key and says so."""
    await well.start(*(keyed(number) for number in range(1, 6)))
    assert await well.claimed(limits=TWO) == [run_id(1), run_id(2)]
    assert await well.claimed(limits=TWO, runner="B") == []
    assert await well.store.key_holders("k") == [run_id(1), run_id(2)]
    row = await well.store.run(run_id(3))
    assert row is not None
    assert (row.blocked_on, row.status) == ("k", RunStatus.QUEUED)


async def test_keys_count_by_themselves(well: Well) -> None:
    """Each key has its own slots, and runs without one need none."""
    await well.start(keyed(1, "a"), keyed(2, "a"), keyed(3, "b"), start(4), keyed(5, "b"))
    assert await well.claimed(limits=ONE) == [run_id(1), run_id(3), run_id(4)]


async def test_a_blocked_run_does_not_hide_the_others(well: Well) -> None:
    """A claim goes past runs whose key is full to those that have room, within the same pile."""
    await well.start(*(keyed(number, "full") for number in range(1, 12)), start(99))
    assert await well.claimed(2, limits=ONE) == [run_id(1), run_id(99)]


async def test_an_end_frees_the_slot(well: Well) -> None:
    """When a run ends, the oldest due of those that its key blocked is claimable, in the same pile."""
    await well.start(keyed(1), keyed(2, due=0), keyed(3, due=5), keyed(4, due=3))
    (first,) = (await well.claim(1, limits=ONE)).claimed
    assert first.run_id == run_id(2)
    assert await well.claimed(limits=ONE) == []
    assert await finish(well, first, limits=ONE) == [run_id(4)]


async def test_a_park_frees_the_slot(well: Well) -> None:
    """A run that waits holds no slot, and needs one again before it goes on."""
    await well.start(keyed(1), keyed(2))
    (first,) = (await well.claim(limits=ONE)).claimed
    result = await well.commit(turns=(turn(first, opens=(wait("a"),), then=park()),), claim=asking(limits=ONE))
    assert [one.run_id for one in result.claimed] == [run_id(2)]
    await well.commit(consumes=(consume(first, "a"),))
    assert await well.claimed(limits=ONE) == []
    assert await finish(well, result.claimed[0], limits=ONE) == [run_id(1)]


async def test_a_freed_slot_makes_its_pool_ready(well: Well) -> None:
    """When a slot is freed, the pool of the run that gets it has something to claim."""
    await well.start(keyed(1), keyed(2, pool="q"))
    (first,) = (await well.claim(limits=ONE)).claimed
    await well.claim(limits=ONE)
    result = await well.commit(turns=(turn(first, then=done()),))
    assert result.ready == ("q",)


async def test_an_expiry_frees_the_slot(well: Well) -> None:
    """A crashed runner's slots are free again once the sweep has recovered its runs; its own run is first in line."""
    await well.start(keyed(1), keyed(2))
    assert await well.claimed(limits=ONE) == [run_id(1)]
    assert await well.claimed(limits=ONE, runner="B") == []
    well.later(61)
    await well.enrol("B")
    assert await well.claimed(limits=ONE, runner="B", sweep=True) == [run_id(2)]
    assert await well.store.key_holders("k") == [run_id(2)]


async def test_a_leave_frees_the_slot(well: Well) -> None:
    """A runner that leaves frees its slots at once: another gets one of the runs, and then the other."""
    await well.start(keyed(1), keyed(2))
    assert await well.claimed(limits=ONE) == [run_id(1)]
    assert await well.claimed(limits=ONE, runner="B") == []
    await well.store.leave("A", well.now)
    assert await well.store.key_holders("k") == []
    (first,) = (await well.claim(limits=ONE, runner="B")).claimed
    assert len(await finish(well, first, limits=ONE, runner="B")) == 1


async def test_two_keys(well: Well) -> None:
    """A run with two keys needs a slot of both, and is blocked on the first that is full."""
    limits = (Limit("f", 2, 1),)
    await well.start(keyed(1, "a", "x"), keyed(2, "a", "x"), keyed(3, "a", "y"), keyed(4, "a", "z"))
    assert await well.claimed(limits=limits) == [run_id(1), run_id(3)]
    blocked = [await well.store.run(run_id(number)) for number in (2, 4)]
    assert [one.blocked_on for one in blocked if one is not None] == ["x", "a"]
    assert await well.store.key_holders("x") == [run_id(1)]
    assert await well.store.key_holders("a") == [run_id(1), run_id(3)]


async def test_two_keys_are_freed(well: Well) -> None:
    """A run that is blocked on one of two keys goes on once both have room."""
    limits = (Limit("f", 2, 1),)
    await well.start(keyed(1, "a", "x"), keyed(2, "a", "x"), keyed(3, "a", "y"))
    first, third = (await well.claim(limits=limits)).claimed
    assert await finish(well, third, limits=limits) == []
    assert await finish(well, first, limits=limits) == [run_id(2)]


async def test_a_key_that_two_functions_share(well: Well) -> None:
    """Leases of all functions count under a key that they share, as first key or as second."""
    limits = (Limit("f", 1, 0), Limit("g", 5, 1))
    await well.start(keyed(1, "shared"), start(2, "g", concurrency=("own", "shared")))
    assert await well.claimed(limits=limits) == [run_id(1)]
    row = await well.store.run(run_id(2))
    assert row is not None
    assert row.blocked_on == "shared"


async def test_each_function_has_its_own_limit_of_a_shared_key(well: Well) -> None:
    """Of two functions that share a key, each run is held to its own function's limit, whichever is looked at first."""
    limits = (Limit("f", 3), Limit("g", 1))
    await well.start(*(keyed(number, function="fgfgf"[number - 1]) for number in range(1, 6)))
    assert await well.claimed(limits=limits) == [run_id(1), run_id(3), run_id(5)]
    assert await well.store.key_holders("k") == [run_id(1), run_id(3), run_id(5)]
    await well.start(*(keyed(number, "l", function="gfgff"[number - 6]) for number in range(6, 11)))
    assert await well.claimed(limits=limits) == [run_id(6), run_id(7), run_id(9)]


async def test_each_function_has_its_own_limit_of_a_shared_second_key(well: Well) -> None:
    """The same where the key is one function's first and the other's second, and where leases were there before."""
    limits = (Limit("f", 2), Limit("g", 9, 4))
    starts = [keyed(number) for number in (1, 2, 3)] + [start(number, "g", concurrency=("own", "k")) for number in (4, 5, 6)]
    await well.start(*starts[:1])
    assert await well.claimed(limits=limits) == [run_id(1)]
    await well.start(*starts[1:])
    assert await well.claimed(limits=limits) == [run_id(2), run_id(4), run_id(5)]
    blocked = [await well.store.run(run_id(number)) for number in (3, 6)]
    assert [one.blocked_on for one in blocked if one is not None] == ["k", "k"]


@pytest.mark.parametrize("limits", [(), (Limit("f", 0),), (Limit("g", 1),)])
async def test_no_limit(well: Well, limits: tuple[Limit, ...]) -> None:
    """Without a limit, or with 0, a key blocks nobody."""
    await well.start(*(keyed(number) for number in range(1, 5)))
    assert len(await well.claimed(limits=limits)) == 4


async def test_a_raised_limit_lets_more_in(well: Well) -> None:
    """When a limit was raised, the next sweep unblocks what has room now."""
    await well.start(*(keyed(number) for number in range(1, 5)))
    assert await well.claimed(limits=ONE) == [run_id(1)]
    assert await well.claimed(limits=(Limit("f", 3),), sweep=True) == [run_id(2), run_id(3)]


async def test_a_slot_whose_heir_was_cancelled_is_not_lost(well: Well) -> None:
    """A blocked run that got a slot and was cancelled before its claim leaves it to the next."""
    from conformance.build import cancel

    await well.start(keyed(1), keyed(2), keyed(3))
    (first,) = (await well.claim(limits=ONE)).claimed
    await well.commit(turns=(turn(first, then=done()),))
    await well.commit(cancels=(cancel(2),))
    assert await well.claimed(limits=ONE, sweep=True) == [run_id(3)]


async def test_claims_race_for_slots(well: Well) -> None:
    """Many claims at once never lease more than the limit."""
    await well.start(*(keyed(number) for number in range(30)))
    limits = (Limit("f", 4),)
    results = await asyncio.gather(*(well.claim(3, "AB"[number % 2], limits=limits) for number in range(10)))
    assert sum(len(one.claimed) for one in results) == 4
    assert len(await well.store.key_holders("k")) == 4


async def test_holders_have_live_leases(well: Well) -> None:
    """A lease that has run out is no holder of its key."""
    await well.start(keyed(1))
    await well.claim(limits=ONE)
    well.later(61)
    assert await well.store.key_holders("k") == []
    await well.store.expire_all()
    await well.enrol("B", 60 * SECOND)
    await well.claim(0, "B", sweep=True)
