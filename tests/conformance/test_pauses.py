"""Pauses: what somebody paused waits, whatever wakes it, and goes on when it is resumed; everything else goes on as before."""

import pytest_asyncio
from conformance.build import SECOND, T0, Well, asking, consume, done, park, run_id, start, turn, wait

from stepwell.store.records import Limit, Parked, StepKind
from stepwell.store.registry import FunctionRow, PauseRow

PAUSE = PauseRow("f", T0, "ada", "bad deploy")


@pytest_asyncio.fixture
async def registered(well: Well) -> Well:
    """Both functions are registered: where a function's runs lie is known by that."""
    await well.store.register("o", [FunctionRow(name, "r1", "p", "o", b"{}") for name in ("f", "g")], [])
    return well


async def sweep(well: Well, room: int = 0) -> list[str]:
    return [one.run_id for one in (await well.claim(room, sweep=True)).claimed]


async def test_what_is_paused_is_not_claimed(registered: Well) -> None:
    """Queued runs of a paused function and those that start later are not claimed, by whomever; another function's are."""
    well = registered
    await well.start(start(1), start(2, "g"))
    assert await well.store.pause(PAUSE)
    await well.start(start(3), start(4, "g"))
    assert await well.claimed() == [run_id(2), run_id(4)]
    assert await sweep(well, 10) == []
    assert await well.claimed(runner="B") == []
    for number in (1, 3):
        row = await well.store.run(run_id(number))
        assert row is not None
        assert (row.blocked_on, row.status.value) == ("!f", "queued")


async def test_a_resumed_function_goes_on(registered: Well) -> None:
    """Resuming lets every run go, in the order of their due times, and tells whoever asks that there is something to claim."""
    well = registered
    await well.store.pause(PAUSE)
    await well.start(start(1), start(2, due=T0 - 5), start(3, due=T0 + SECOND))
    await sweep(well)
    assert await well.store.resume("f")
    assert await well.claimed() == [run_id(2), run_id(1)]
    well.later(1)
    assert await well.claimed() == [run_id(3)]


async def test_a_pause_is_told_and_moves_the_version(registered: Well) -> None:
    """The registry says who paused what, since when and why; each change moves its version, one that is there already doesn't."""
    store = registered.store
    before = (await store.registry()).version
    assert await store.pause(PAUSE)
    registry = await store.registry()
    assert (registry.pauses, registry.version) == ((PAUSE,), before + 1)
    assert not await store.pause(PauseRow("f", T0 + 1, "eve", source="manifest"))
    assert (await store.registry()).pauses == (PAUSE,)
    assert await store.resume("f")
    assert not await store.resume("f")
    registry = await store.registry()
    assert (registry.pauses, registry.version) == ((), before + 2)


async def test_what_runs_goes_on_to_its_rest(registered: Well) -> None:
    """An execution under way ends, or parks and isn't claimed again when it is woken; another one's wait is resolved meanwhile."""
    well = registered
    one, two = await well.running(1), await well.running(2)
    await well.store.pause(PAUSE)
    await well.commit(turns=(turn(one, then=done()), turn(two, opens=(wait("w"),), then=park())))
    assert (await well.store.run(run_id(1))).status.value == "completed"
    await well.commit(consumes=(consume(two, "w"),))
    assert await well.claimed() == []
    assert await sweep(well, 10) == []
    await well.store.resume("f")
    assert await well.claimed() == [run_id(2)]


async def test_sleeps_that_end_meanwhile_wait_too(registered: Well) -> None:
    """A run that falls due while its function is paused is blocked by the next sweep, and by no claim before."""
    well = registered
    one = await well.running(1)
    nap = wait("nap", StepKind.SLEEP, due=T0 + SECOND)
    await well.commit(turns=(turn(one, opens=(nap,), then=park(T0 + SECOND, Parked.SLEEPING)),))
    await well.store.pause(PAUSE)
    assert (await well.store.run(run_id(1))).blocked_on is None
    well.later(2)
    assert await well.claimed() == []
    await sweep(well)
    assert (await well.store.run(run_id(1))).blocked_on == "!f"
    await well.store.resume("f")
    assert await well.claimed() == [run_id(1)]


async def test_a_pause_and_a_limit_do_not_mix(registered: Well) -> None:
    """Freed slots and swept blocks lift no pause; after it the limit holds as before."""
    well = registered
    limit = (Limit("f", 1),)
    await well.start(*(start(number, concurrency=("f",)) for number in (1, 2, 3)))
    (one,) = (await well.claim(1, limits=limit)).claimed
    assert await well.claimed(limits=limit) == []
    await well.store.pause(PAUSE)
    await well.commit(turns=(turn(one, then=done()),), claim=asking(limits=limit, sweep=True))
    assert await well.claimed(limits=limit, sweep=True) == []
    await well.store.resume("f")
    assert len(await well.claimed(limits=limit)) == 1


async def test_blocked_runs_of_paused_functions_are_not_counted_as_blocked(registered: Well) -> None:
    """What a pause holds is not what a limit blocks."""
    well = registered
    await well.start(start(1))
    await well.store.pause(PAUSE)
    (stats,) = (await well.store.stats(well.now)).functions
    assert (stats.blocked, stats.queued_due, stats.oldest_blocked_age) == (0, 0, 0)


async def test_what_a_pause_holds_is_neither_due_nor_overdue(registered: Well) -> None:
    """Runs of a paused function whose time has come are counted as held, before and after a sweep; resumed they are due again."""
    well = registered
    one = await well.running(1)
    await well.commit(turns=(turn(one, opens=(wait("nap", StepKind.SLEEP, due=T0),), then=park(T0, Parked.SLEEPING)),))
    await well.start(start(2), start(3, due=T0 + 60 * SECOND))
    well.later(5)
    due = await well.store.stats(well.now)
    assert (due.functions[0].paused, due.functions[0].revision_due, len(due.overdue)) == (0, (("r1", 2, 1),), 1)
    await well.store.pause(PAUSE)
    for _ in range(2):
        stats = await well.store.stats(well.now)
        (held,) = stats.functions
        assert (held.paused, held.queued_due, held.queued_later, held.oldest_due_age) == (2, 0, 1, 0)
        assert (held.revision_due, stats.overdue) == ((("r1", 0, 1),), ())
        assert await sweep(well) == []
    await well.store.resume("f")
    await sweep(well)
    assert (await well.store.stats(well.now)).functions == due.functions
