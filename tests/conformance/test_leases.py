"""Leases: renewed by beats, ended by leaving, recovered by the sweep, counted where a run makes no progress."""

import asyncio
import threading

from conformance.build import SECOND, T0, Well, asking, cancel, done, park, run_id, start, step, turn, wait

from stepwell.engine.run import RunStatus
from stepwell.store.records import Parked, StepKind
from stepwell.store.results import Lost, Overdue
from stepwell.store.views import RunnerRow


async def test_a_beat_renews_the_lease(well: Well) -> None:
    """A beat makes the lease last from now on, and a runner that is gone is told so."""
    await well.start(start(1))
    well.later(59)
    assert await asyncio.to_thread(well.store.beat, "A", 60 * SECOND, well.now)
    well.later(59)
    assert (await well.claim(0, sweep=True)).recovered == 0
    assert await well.claimed() == [run_id(1)]
    assert not await asyncio.to_thread(well.store.beat, "nobody", 60 * SECOND, well.now)


async def test_a_beat_comes_from_any_thread(well: Well) -> None:
    """Beats may come from several threads at once, also while the event loop is blocked."""
    kept: list[bool] = []
    threads = [threading.Thread(target=lambda: kept.append(well.store.beat("A", SECOND, well.now))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kept == [True] * 4


async def test_an_enrolment_renews_whole(well: Well) -> None:
    """Enrolling again replaces what is known of a runner."""
    await well.store.enrol(RunnerRow("A", ("x",), ("h",), 3, 5 * SECOND, draining=True, broken=(("h", "r2", 'o"dd'),)))
    stats = await well.store.stats(well.now)
    assert RunnerRow("A", ("x",), ("h",), 3, well.now + 5 * SECOND, draining=True, broken=(("h", "r2", 'o"dd'),)) in stats.runners


async def test_the_sweep_frees_what_expired_leases_hold(well: Well) -> None:
    """A crashed runner's runs are due again at the sweep after its lease has run out, not before, and are recovered."""
    await well.start(start(1), start(2, pool="q"))
    await well.claim()
    well.later(59)
    await well.enrol("B")
    assert (await well.claim(0, "B", sweep=True)).recovered == 0
    well.later(1)
    swept = await well.claim(0, "B", sweep=True)
    assert (swept.recovered, swept.ready) == (2, ("p", "q"))
    assert swept.overdue == ()
    assert sorted(swept.lost, key=lambda one: one.run_id) == [Lost(run_id(n), "f", "lease_expired", T0) for n in (1, 2)]
    assert await well.store.held("A") == []
    claimed = (await well.claim(10, "B")).claimed
    assert [(one.run_id, one.epoch, one.recovered, one.due) for one in claimed] == [
        (run_id(1), 2, True, well.now),
        (run_id(2), 2, True, well.now),
    ]


async def test_a_sweep_and_a_claim_in_one_pile(well: Well) -> None:
    """What a sweep frees, its claim may take."""
    await well.running(1)
    well.later(60)
    await well.enrol("B")
    result = await well.claim(10, "B", sweep=True)
    assert (result.recovered, [one.run_id for one in result.claimed]) == (1, [run_id(1)])


async def test_without_a_sweep_nothing_is_recovered(well: Well) -> None:
    """A plain claim leaves expired leases alone."""
    await well.running(1)
    well.later(60)
    await well.enrol("B")
    assert await well.claimed(runner="B") == []


async def test_an_expired_runner_is_told(well: Well) -> None:
    """After the sweep an expired runner's lease row is gone, and its beat says so."""
    well.later(60)
    await well.enrol("B")
    await well.claim(0, "B", sweep=True)
    assert not await asyncio.to_thread(well.store.beat, "A", SECOND, well.now)


async def test_leaving_hands_everything_back(well: Well) -> None:
    """A runner that leaves gives its runs back at once, and nothing is counted against them."""
    await well.start(start(1), start(2))
    await well.claim()
    well.later(1)
    await well.store.leave("A", well.now)
    assert not await asyncio.to_thread(well.store.beat, "A", SECOND, well.now)
    row = await well.store.run(run_id(1))
    assert row is not None
    assert (row.status, row.due, row.since) == (RunStatus.QUEUED, well.now, well.now)
    result = await well.claim(10, "B", sweep=True)
    assert result.recovered == 0
    assert [(one.run_id, one.epoch, one.recovered) for one in result.claimed] == [(run_id(1), 2, False), (run_id(2), 2, False)]
    await well.store.leave("A", well.now)


async def test_expire_all_ends_every_lease(well: Well) -> None:
    """Ending all leases at once makes every held run recoverable by the next sweep."""
    await well.running(1)
    assert await well.store.expire_all() == 2
    await well.enrol("C")
    result = await well.claim(10, "C", sweep=True)
    assert (result.recovered, [one.run_id for one in result.claimed]) == (1, [run_id(1)])


# --- poison ---


async def crash(well: Well, number: int, *steps: str) -> bool:
    """Claim the run, record these steps, and die; whether the claim still got it."""
    await well.enrol("A")
    got = {one.run_id: one for one in (await well.claim(10)).claimed}.get(run_id(number))
    if got is None:
        return False
    if steps:
        await well.commit(turns=(turn(got, *(step(one) for one in steps)),))
    well.later(60)
    await well.enrol("B")
    assert (await well.claim(0, "B", sweep=True)).recovered == 1
    return True


async def test_a_run_that_kills_its_runners_is_parked(well: Well) -> None:
    """After five recoveries without progress a run is never claimed again and the sweep reports it as poison."""
    await well.start(start(1))
    assert [await crash(well, 1) for _ in range(6)] == [True] * 5 + [False]
    swept = await well.claim(10, "B", sweep=True)
    assert swept.claimed == ()
    assert swept.overdue == (Overdue(run_id(1), "f", "poison"),)
    assert (await well.commit(cancels=(cancel(1, status=RunStatus.FAILED),))).cancels == (RunStatus.FAILED,)
    assert (await well.claim(10, "B", sweep=True)).overdue == ()


async def test_progress_starts_the_count_anew(well: Well) -> None:
    """A recorded step since the last recovery means that the run gets on: the count begins again."""
    await well.start(start(1))
    assert [await crash(well, 1) for _ in range(4)] == [True] * 4
    assert await crash(well, 1, "a")
    assert [await crash(well, 1) for _ in range(5)] == [True] * 4 + [False]


async def test_a_clean_run_is_not_recovered(well: Well) -> None:
    """A run that was only parked and claimed again is not said to be recovered."""
    await well.parked(1, wait("a"), then=park(0, Parked.QUEUED))
    assert not (await well.resumed(1)).recovered


# --- deadlines ---


async def test_a_run_that_nobody_claimed_in_time(well: Well) -> None:
    """A run past its start deadline is reported by sweeps, and left as it is."""
    await well.start(start(1, start_by=T0 + 5 * SECOND, due=T0 + 100 * SECOND), start(2))
    well.later(4.999999)
    assert (await well.claim(0, sweep=True)).overdue == ()
    well.later(0.000001)
    assert (await well.claim(0)).overdue == ()
    assert (await well.claim(0, sweep=True)).overdue == (Overdue(run_id(1), "f", "start"),)
    assert await well.status(1) is RunStatus.QUEUED
    result = await well.commit(cancels=(cancel(1, only_unclaimed=True),), claim=asking(0, sweep=True))
    assert (result.cancels, result.overdue) == ((RunStatus.CANCELLED,), ())


async def test_a_claim_lifts_the_start_deadline(well: Well) -> None:
    """Once claimed, a run can't miss its start any more."""
    await well.start(start(1, start_by=T0 + 5 * SECOND))
    (claimed,) = (await well.claim()).claimed
    await well.commit(turns=(turn(claimed, then=park(0, Parked.QUEUED)),))
    well.later(10)
    assert (await well.claim(0, sweep=True)).overdue == ()


async def test_a_run_that_does_not_finish_in_time(well: Well) -> None:
    """A run is reported so long after its first claim, whether it is held, asleep or queued by then."""
    await well.start(*(start(number, finish_within=10 * SECOND) for number in (1, 2, 3)))
    well.later(3)
    first, second, _third = (await well.claim()).claimed
    nap = wait("nap", StepKind.SLEEP, due=T0 + 900 * SECOND)
    await well.commit(
        turns=(
            turn(first, opens=(nap,), then=park(T0 + 900 * SECOND, Parked.SLEEPING)),
            turn(second, then=park(0, Parked.QUEUED)),
        )
    )
    well.later(5)
    assert (await well.resumed(2)).epoch == 2
    well.later(4.999999)
    assert (await well.claim(0, sweep=True)).overdue == ()
    well.later(0.000001)
    overdue = (await well.claim(0, sweep=True)).overdue
    assert sorted(overdue, key=lambda one: one.run_id) == [Overdue(run_id(number), "f", "finish") for number in (1, 2, 3)]


async def test_a_run_that_ended_in_time(well: Well) -> None:
    """A run that has ended is past no deadline."""
    claimed = await well.running(1, finish_within=SECOND)
    await well.commit(turns=(turn(claimed, then=done()),))
    well.later(2)
    assert (await well.claim(0, sweep=True)).overdue == ()


async def test_runs_are_handed_back(well: Well) -> None:
    """A runner hands back what it holds and knows nothing of: claimable at once, uncounted; another epoch's run stays."""
    await well.start(start(1), start(2), start(3))
    await well.claim()
    assert await well.store.hand_back("A", [(run_id(1), 1), (run_id(2), 2), ("nothing", 1)], well.now) == 1
    assert await well.store.hand_back("B", [(run_id(3), 1)], well.now) == 0
    assert await well.store.held("A") == [(run_id(2), 1), (run_id(3), 1)]
    await well.enrol("B")
    [claimed] = (await well.claim(10, "B")).claimed
    assert (claimed.run_id, claimed.epoch, claimed.recovered) == (run_id(1), 2, False)


async def test_what_a_restart_frees_says_so(well: Well) -> None:
    """Runs of leases that were all ended at once are lost to a restart, with the last beat of their runner."""
    await well.start(start(1))
    await well.claim()
    well.later(7)
    await asyncio.to_thread(well.store.beat, "A", 60 * SECOND, well.now)
    beaten = well.now
    well.later(3)
    await well.store.expire_all()
    assert (await well.claim(0, "B", sweep=True)).lost == (Lost(run_id(1), "f", "restart", beaten),)
