"""Clocks: real time follows the store's, manual time moves when a test says so."""

import asyncio
import random
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.clock import FAR, SECOND, WINDOW, WITNESSES, ManualClock, SystemClock, from_datetime, rfc3339, to_datetime

NOW = from_datetime(datetime(2026, 11, 23, 9, 0, tzinfo=UTC))


class Machine:
    """A machine whose monotonic and wall clocks a test sets, in µs."""

    def __init__(self, wall: int = NOW) -> None:
        self.up = 1000 * SECOND
        self.wall = wall
        self.clock = SystemClock(lambda: self.up * 1000, lambda: self.wall * 1000)

    def passes(self, length: int) -> None:
        self.up += length


# --- real time ---


def test_before_the_store_has_answered_the_wall_clock_is_followed() -> None:
    """The first instant is this machine's, and it moves with the monotonic clock."""
    machine = Machine()
    assert machine.clock.now() == NOW
    machine.wall += 3600 * SECOND
    machine.passes(5)
    assert machine.clock.now() == NOW + 5
    assert machine.clock.pinned() is None
    assert abs(SystemClock().now() - from_datetime(datetime.now(UTC))) < 60 * SECOND


@pytest.mark.parametrize("wrong", [-86_400, -2, 2, 86_400])
def test_the_first_answer_of_the_store_mends_a_wrong_wall_clock(wrong: int) -> None:
    """However wrong this machine's clock is, from the first answer on the store's counts, ahead or back."""
    machine = Machine(NOW + wrong * SECOND)
    machine.clock.now()
    machine.clock.observe(NOW)
    assert machine.clock.now() == NOW
    machine.passes(7)
    assert machine.clock.now() == NOW + 7


@given(st.randoms(use_true_random=False), st.integers(-SECOND, SECOND))
def test_late_answers_neither_hold_time_back_nor_turn_it_back(chance: random.Random, start: int) -> None:
    """With answers that took up to 50 ms, time never goes back and lags behind the store's by the quickest answer at most."""
    machine, true, before = Machine(NOW + start), NOW, 0
    quickest: int | None = None
    for _ in range(200):
        step = chance.randrange(1, 2 * SECOND)
        machine.passes(step)
        true += step
        took = min(chance.randrange(50_000), step)
        quickest = took if quickest is None else min(quickest, took)
        machine.clock.observe(true - took)
        now = machine.clock.now()
        assert now >= before
        if before <= true:
            assert now <= true
        before = now
    assert true - 50_000 <= before <= max(true, NOW + start + 50_000)


@pytest.mark.parametrize("drift", [-200, 200])
def test_clocks_that_drift_apart_are_followed_both_ways(drift: int) -> None:
    """A machine that runs 200 ppm fast or slow stays within what two windows let it drift."""
    machine, true = Machine(), NOW
    for second in range(3600):
        machine.passes(SECOND + drift)
        true += SECOND
        machine.clock.observe(true)
        assert abs(machine.clock.now() - true) <= 2 * WINDOW // SECOND * abs(drift) + abs(drift), second


def test_an_answer_that_comes_very_late_changes_nothing() -> None:
    """Answers that lay in the socket while user code held the loop for a minute don't turn time back."""
    machine = Machine()
    machine.clock.observe(NOW)
    machine.passes(60 * SECOND)
    for _ in range(WITNESSES - 1):
        machine.clock.observe(NOW + SECOND)
    assert machine.clock.now() == NOW + 60 * SECOND
    machine.clock.observe(NOW + 60 * SECOND)
    machine.clock.observe(NOW)
    assert machine.clock.now() == NOW + 60 * SECOND


@pytest.mark.parametrize("step", [-3600 * SECOND, 3600 * SECOND])
def test_a_store_whose_clock_was_set_is_followed(step: int) -> None:
    """After a failover to a machine with another clock, time is the new one's as soon as that is certain."""
    machine = Machine()
    for _ in range(10):
        machine.passes(SECOND)
        machine.clock.observe(NOW + machine.up)
    for _ in range(WITNESSES):
        machine.passes(SECOND)
        machine.clock.observe(NOW + machine.up + step)
    assert machine.clock.now() == NOW + machine.up + step


def test_time_does_not_go_back_between_threads() -> None:
    """A thread that was overtaken while it read the machine's clock is told what the other was told, and leaves that standing."""
    machine, told = Machine(), list[int]()

    def overtaken() -> int:
        read = machine.up
        if not told:
            machine.passes(SECOND)
            told.append(0)
            told[0] = machine.clock.now()
        return read * 1000

    machine.clock = SystemClock(overtaken, lambda: machine.wall * 1000)
    told.clear()
    assert machine.clock.now() == told[0]
    assert machine.clock.now() == told[0]


async def test_a_real_call_is_never_early_and_can_be_taken_back() -> None:
    """A call comes at its instant or after it; one that is past comes at once; one taken back or FAR never."""
    clock = SystemClock()
    came: list[tuple[str, int]] = []
    begin = clock.now()
    clock.call_at(begin + 3000, lambda: came.append(("soon", clock.now())))
    clock.call_at(begin - 1, lambda: came.append(("past", clock.now())))
    clock.call_at(begin + 1000, lambda: came.append(("taken back", 0)))()
    clock.call_at(begin - 1000, lambda: came.append(("taken back", 0)))()
    clock.call_at(FAR, lambda: came.append(("never", 0)))()
    await clock.sleep_until(begin + 5000)
    assert clock.now() >= begin + 5000
    assert [name for name, _at in came] == ["past", "soon"]
    assert came[1][1] >= begin + 3000


async def test_a_call_waits_on_when_the_store_turns_out_to_be_behind() -> None:
    """A call that rings early, since the clock was set back meanwhile, is made again for the rest."""
    machine = Machine()
    done = asyncio.Event()
    machine.clock.call_at(NOW + 2000, done.set)
    machine.clock.observe(NOW - 10 * SECOND)
    await asyncio.sleep(0.01)
    assert not done.is_set()
    machine.passes(10 * SECOND + 2000)
    machine.clock.observe(NOW + 2000)
    assert machine.clock.now() == NOW + 2000


# --- manual time ---


async def test_sleepers_wake_in_due_order_at_their_own_instant() -> None:
    """Moving the clock wakes who waits, earliest first, each seeing the instant it asked for; later ones sleep on."""
    clock = ManualClock(NOW)
    woke: list[tuple[str, int]] = []

    async def sleeper(name: str, after: int) -> None:
        await clock.sleep_until(NOW + after)
        woke.append((name, clock.now() - NOW))

    tasks = [
        asyncio.create_task(sleeper(name, after)) for name, after in (("c", 30), ("a", 10), ("b", 20), ("d", 40), ("a2", 10))
    ]
    await asyncio.sleep(0)
    await clock.advance(timedelta(microseconds=30))
    assert woke == [("a", 10), ("a2", 10), ("b", 20), ("c", 30)]
    assert clock.now() == NOW + 30
    assert clock.next_call() == NOW + 40
    await clock.advance_to(NOW + 100)
    await asyncio.gather(*tasks)
    assert woke[-1] == ("d", 40)
    assert clock.next_call() == FAR


async def test_what_a_sleeper_waits_for_next_is_part_of_the_same_move() -> None:
    """One move of ten seconds lets a loop of one-second sleeps go round ten times, through gather and TaskGroup too."""
    clock = ManualClock(NOW)
    seen: list[int] = []

    async def tick() -> None:
        await clock.sleep_until(clock.now() + SECOND)

    async def ticks() -> None:
        while True:
            async with asyncio.TaskGroup() as group:
                group.create_task(tick())
                await asyncio.gather(tick(), tick())
            seen.append((clock.now() - NOW) // SECOND)

    task = asyncio.create_task(ticks())
    await clock.advance(timedelta(seconds=10))
    task.cancel()
    assert seen == list(range(1, 11))


async def test_manual_calls_can_be_taken_back_and_past_ones_come_at_once() -> None:
    """A call taken back doesn't come, before it is due or after; one for the past comes from the loop; FAR never."""
    clock = ManualClock(NOW)
    came: list[str] = []
    clock.call_at(NOW + 1, lambda: came.append("taken back"))()
    clock.call_at(NOW - 1, lambda: came.append("past"))
    clock.call_at(NOW, lambda: came.append("taken back"))()
    clock.call_at(FAR, lambda: came.append("never"))()
    late = clock.call_at(NOW + 2, lambda: came.append("due"))
    assert came == []
    await clock.advance_to(NOW + 5)
    late()
    assert came == ["past", "due"]
    assert clock.next_call() == FAR


async def test_manual_time_stands_still_and_never_goes_back() -> None:
    """Only a move changes it, the store is told to take it for its own, and an earlier instant is no move."""
    clock = ManualClock(NOW)
    clock.observe(NOW + SECOND)
    assert clock.now() == clock.pinned() == NOW
    await clock.advance_to(NOW - SECOND)
    assert clock.now() == NOW


async def test_a_cancelled_sleeper_leaves_nothing_behind() -> None:
    """A sleep that is cancelled no longer counts among what waits for the clock."""
    clock = ManualClock(NOW)
    task = asyncio.create_task(clock.sleep_until(NOW + 10))
    await asyncio.sleep(0)
    assert clock.next_call() == NOW + 10
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert clock.next_call() == FAR


# --- instants ---


@given(
    st.datetimes(
        datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45))])
    )
)
def test_instants_and_datetimes_are_the_same_moments(moment: datetime) -> None:
    """A datetime to the µs becomes an instant and comes back, whatever its zone."""
    assert to_datetime(from_datetime(moment)) == moment


def test_instants_are_written_as_rfc_3339() -> None:
    """UTC, with milliseconds and a Z."""
    assert rfc3339(NOW) == "2026-11-23T09:00:00.000Z"
    assert rfc3339(NOW + 123_456) == "2026-11-23T09:00:00.123Z"
    assert datetime.fromisoformat(rfc3339(NOW)) == to_datetime(NOW)
    with pytest.raises(TypeError):
        from_datetime(datetime(2026, 1, 1))
