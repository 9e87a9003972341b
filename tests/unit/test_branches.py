"""The branches of a run's code: nothing is decided while one of them may still move, and a branch that is gone is handed nothing."""

import asyncio

from stepwell.clock import ManualClock
from stepwell.engine.branches import SETTLE_HOPS, Branches
from stepwell.store.records import StepKind, StepRow

KEY = ("nap", 0)
ROW = StepRow(*KEY, StepKind.SLEEP, ok=True, value=b"null", attempts=1, started=0, ended=1)


class Still:
    """Counts how often all branches were said to stand still."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


async def turn(times: int) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


async def test_they_stand_still_once_the_loop_has_turned() -> None:
    """However often they are touched at once, it is said once, after the turns that a gather needs."""
    still = Still()
    branches = Branches(ManualClock(), still)
    branches.touch()
    branches.touch()
    await turn(SETTLE_HOPS)
    assert still.times == 0
    await turn(2)
    assert still.times == 1
    await turn(10)
    assert still.times == 1


async def test_a_touch_begins_the_count_anew() -> None:
    """While something moves in each turn of the loop, nothing is decided."""
    still = Still()
    branches = Branches(ManualClock(), still)
    for _ in range(20):
        branches.touch()
        await turn(1)
    assert still.times == 0
    await turn(SETTLE_HOPS + 2)
    assert still.times == 1


async def test_only_the_last_instant_that_was_named_counts() -> None:
    """An instant takes the place of the one before; disarmed, there is none."""
    still, clock = Still(), ManualClock()
    branches = Branches(clock, still)
    branches.touch_at(10)
    branches.touch_at(20)
    await clock.advance_to(15)
    await turn(SETTLE_HOPS + 2)
    assert still.times == 0
    await clock.advance_to(20)
    await turn(SETTLE_HOPS + 2)
    assert still.times == 1
    branches.touch_at(30)
    branches.disarm()
    await clock.advance_to(40)
    await turn(SETTLE_HOPS + 2)
    assert still.times == 1


async def test_a_suspended_branch_gets_the_row() -> None:
    """It goes on with what is handed over under its key, and is suspended no more."""
    branches = Branches(ManualClock(), Still())
    waiting = asyncio.create_task(branches.suspend(KEY))
    await turn(1)
    branches.hand_over(KEY, ROW)
    assert await waiting is ROW
    assert branches.suspended == {}


async def test_a_branch_that_was_cancelled_this_moment_is_handed_nothing() -> None:
    """Code may give a branch up (`asyncio.timeout` around it) in the very turn of the loop in which its wait is over."""
    branches = Branches(ManualClock(), Still())
    waiting = asyncio.create_task(branches.suspend(KEY))
    await turn(1)
    waiting.cancel()
    assert KEY in branches.suspended
    branches.hand_over(KEY, ROW)
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert branches.suspended == {}
