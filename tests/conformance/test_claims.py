"""Claims: what is due, in order, to whom it may go, and the news of what is held."""

import asyncio

from conformance.build import DAY, FOREVER, SECOND, T0, Well, asking, cancel, consume, done, park, run_id, start, turn, wait

from stepwell.store.records import Claim, Parked, StepKind, TriggerKind
from stepwell.store.results import Claimed, News


async def test_a_claim_says_all_that_an_execution_needs(well: Well) -> None:
    """A claimed run comes with its function, revision, epoch, input and the due time it had."""
    made = start(1, due=T0 + 1, created=T0 - 9, input=b'[{"id":"\xc3\xa9"}]', revision="r9", trigger=TriggerKind.MANUAL)
    await well.start(made)
    well.later(1)
    result = await well.claim()
    assert result.claimed == (
        Claimed(run_id(1), "f", "r9", 1, 0, 0, 0, T0 + 1, T0 - 9, TriggerKind.MANUAL, b'[{"id":"\xc3\xa9"}]', recovered=False),
    )
    assert result.claimed[0].fresh
    row = await well.store.run(run_id(1))
    assert row is not None
    assert (row.started, row.since, row.runner_id) == (well.now, well.now, "A")


async def test_the_oldest_due_comes_first(well: Well) -> None:
    """Runs are claimed by due time, then by id, over all pools, and no more than there is room for."""
    await well.start(start(3, due=T0), start(1, due=T0 + 2, pool="q"), start(2, due=T0 + 1), start(4, due=T0 - 5, pool="q"))
    well.later(1)
    assert await well.claimed(2) == [run_id(4), run_id(3)]
    assert await well.claimed(1) == [run_id(2)]
    assert await well.claimed(0) == []
    assert await well.claimed(5) == [run_id(1)]
    assert await well.claimed(5) == []


async def test_ties_are_claimed_by_id(well: Well) -> None:
    """Runs that are due at one instant are claimed in the order of their ids."""
    await well.start(start(2), start(3), start(1))
    assert await well.claimed(2) == [run_id(1), run_id(2)]


async def test_a_claim_is_for_its_pools_and_functions(well: Well) -> None:
    """A runner gets runs of the pools and functions that it asks for, and of no others."""
    await well.start(start(1), start(2, "g"), start(3, pool="q"), start(4, pool="other"))
    only = await well.commit(claim=Claim("A", ("p",), ("g",), 10))
    assert [one.run_id for one in only.claimed] == [run_id(2)]
    assert await well.claimed() == [run_id(1), run_id(3)]
    assert (await well.commit(claim=Claim("A", (), ("f",), 10))).claimed == ()


async def test_a_run_is_claimed_once(well: Well) -> None:
    """Many claims at once never get one run twice."""
    await well.start(*(start(number) for number in range(40)))
    results = await asyncio.gather(*(well.claim(7, "AB"[number % 2]) for number in range(8)))
    got = [one.run_id for result in results for one in result.claimed]
    assert sorted(got) == [run_id(number) for number in range(40)]


async def test_a_runner_without_a_lease_gets_nothing(well: Well) -> None:
    """A runner that never enrolled, whose lease has run out, or that is draining gets nothing."""
    await well.start(start(1))
    assert await well.claimed(runner="nobody") == []
    await well.enrol("C", draining=True)
    assert await well.claimed(runner="C") == []
    await well.enrol("D", lease=SECOND)
    well.later(1)
    assert await well.claimed(runner="D") == []
    assert await well.claimed(runner="B") == [run_id(1)]


async def test_each_claim_is_an_epoch(well: Well) -> None:
    """Every claim of a run raises its epoch; only the first is fresh, and `started` stays what it was."""
    for epoch in (1, 2, 3):
        if epoch == 1:
            claimed = await well.running(1)
        else:
            claimed = await well.resumed(1)
        assert (claimed.epoch, claimed.fresh) == (epoch, epoch == 1)
        await well.commit(turns=(turn(claimed, then=park(0, Parked.QUEUED)),))
        well.later(1)
    row = await well.store.run(run_id(1))
    assert row is not None
    assert row.started == T0


async def test_held_tells_what_was_claimed(well: Well) -> None:
    """A runner that doesn't know whether its claim landed can ask what it holds."""
    await well.start(start(1), start(2), start(3))
    await well.claim(2)
    assert await well.store.held("A") == [(run_id(1), 1), (run_id(2), 1)]
    assert await well.store.held("B") == []


async def test_next_due_is_the_nearest(well: Well) -> None:
    """A claim tells when the next run of its pools is due; what is held, due already or of other pools doesn't count."""
    assert (await well.claim()).next_due == FOREVER
    await well.start(
        start(1, due=T0 + 9 * SECOND), start(2, due=T0 + 5 * SECOND), start(3), start(4, due=T0 + SECOND, pool="other")
    )
    assert (await well.claim(0)).next_due == T0 + 5 * SECOND
    well.later(5)
    assert (await well.claim()).next_due == T0 + 9 * SECOND


async def test_news_of_held_runs(well: Well) -> None:
    """A watched run is news when its inbox has grown, and -1 when it is no longer the runner's under that epoch."""
    same, grown, gone, ended, parked = [await well.running(number) for number in range(1, 6)]
    opens = {number: (wait("a"),) for number in (1, 2)}
    await well.commit(turns=tuple(turn(one, opens=opens[1]) for one in (same, grown)))
    await well.commit(
        consumes=(consume(grown, "a"),),
        cancels=(cancel(3),),
        turns=(turn(ended, then=done()), turn(parked, opens=(wait("a"),), then=park())),
    )
    watch = [(one, 0) for one in (same, grown, gone, ended, parked)]
    assert sorted(await well.news(*watch), key=lambda one: one.run_id) == [
        News(grown.run_id, 1),
        News(gone.run_id, -1),
        News(ended.run_id, -1),
        News(parked.run_id, -1),
    ]
    assert await well.news((same, 0), (grown, 1)) == []
    assert [one.inbox for one in await well.news((same, 0), runner="B")] == [-1]


async def test_a_claim_sees_its_own_pile(well: Well) -> None:
    """What a pile's turns and events make due may be claimed by it."""
    waiting = await well.parked(1, wait("a"))
    ending = await well.running(2)
    result = await well.commit(turns=(turn(ending, then=done()),), consumes=(consume(waiting, "a"),), claim=asking())
    assert [(one.run_id, one.inbox) for one in result.claimed] == [(run_id(1), 1)]


async def test_a_timer_is_never_early(well: Well) -> None:
    """A sleeping run is claimed at its due time, to the microsecond, and comes with that due time."""
    nap = T0 + 366 * DAY
    claimed = await well.running(1)
    await well.commit(turns=(turn(claimed, opens=(wait("nap", StepKind.SLEEP, due=nap),), then=park(nap, Parked.SLEEPING)),))
    well.later(366 * 86_400 - 0.000001)
    await well.enrol("A")
    assert await well.claimed() == []
    well.later(0.000001)
    assert [one.due for one in (await well.claim()).claimed] == [nap]
