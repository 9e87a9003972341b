"""The only module that reads the clock. Instants are µs since 1970 UTC, as the store's clock tells them."""

import asyncio
import heapq
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Protocol

FAR = 2**62
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = 1_000_000
WINDOW = 60 * SECOND
"""How long the best answer of the store is trusted against later ones: long beside a commit, short beside a clock's drift."""
WITNESSES = 5
"""So many answers in a row that are over a second behind mean that the store's clock was set; fewer may just have come late."""
LONGEST_CALL = 10 * SECOND
"""A longer call on the event loop is made of several, so that a step of the clock is noticed within this."""
HOPS = 4
"""Loop turns until the end of a task has reached whoever awaits it through a gather or a TaskGroup."""


class Clock(Protocol):
    """Time as the engine sees it."""

    def now(self) -> int:
        """The present instant; it never goes back, but see `SystemClock`."""
        ...

    def pinned(self) -> int | None:
        """The instant that a store has to take for its own now (tests), or None: the store's clock decides."""
        ...

    def observe(self, store_now: int) -> None:
        """Learn what the store's clock said at a commit that has just been answered."""
        ...

    def call_at(self, when: int, call: Callable[[], None]) -> Callable[[], None]:
        """Call on the event loop at an instant, never before; what comes back takes that back. FAR is never."""
        ...

    async def sleep_until(self, when: int) -> None:
        """Come back at an instant, never before."""
        ...


class SystemClock:
    """Real time: this machine's monotonic clock, set by what the store says. A wrong wall clock here does no harm.

    It starts from this machine's wall clock and never goes back, with one exception: where the store turns out to be more than a
    second behind (at its first answer, or after a failover to a machine with another clock) it steps back. Standing still until
    the store has caught up would stop every timer and every lease deadline for as long.
    """

    def __init__(self, monotonic: Callable[[], int] = time.monotonic_ns, wall: Callable[[], int] = time.time_ns) -> None:
        self._monotonic = monotonic
        self._offset = wall() // 1000 - monotonic() // 1000
        self._last = 0
        self._best = self._best_before = self._offset
        self._turn: int | None = None
        self._behind = 0

    def now(self) -> int:
        """The present instant."""
        now = self._monotonic() // 1000 + self._offset
        if now <= self._last:
            return self._last
        self._last = now  # bodies in threads ask too: a call between look and write would let it go back
        return now

    def pinned(self) -> int | None:
        """None: the store's own clock decides."""
        return None

    def observe(self, store_now: int) -> None:
        """Follow the store's clock.

        An answer is as old as its way here took, so of the answers of the last one to two minutes the one that puts the store
        furthest ahead is the truest. Older ones are forgotten, so that two clocks that drift apart are followed both ways.
        """
        here = self._monotonic() // 1000
        offset = store_now - here
        self._behind = self._behind + 1 if offset < self._offset - SECOND else 0
        if self._turn is None or self._behind >= WITNESSES:
            self._best = self._best_before = self._offset = offset
            self._behind, self._turn = 0, here + WINDOW
            if self._last > store_now + SECOND:
                self._last = store_now
            return
        if here >= self._turn:
            self._best_before, self._best, self._turn = self._best, offset, here + WINDOW
        self._best = max(self._best, offset)
        self._offset = max(self._best, self._best_before)

    def call_at(self, when: int, call: Callable[[], None]) -> Callable[[], None]:
        """Call on the event loop at an instant, never before; what comes back takes that back."""
        return _nothing if when >= FAR else _Alarm(self, when, call).cancel

    async def sleep_until(self, when: int) -> None:
        """Come back at an instant, never before."""
        woken = asyncio.Event()
        cancel = self.call_at(when, woken.set)
        try:
            await woken.wait()
        finally:
            cancel()


class _Alarm:
    """One call on the event loop. Loops round and clocks are set, so it looks at the clock before it rings."""

    __slots__ = ("_call", "_clock", "_handle", "_loop", "_when")

    def __init__(self, clock: SystemClock, when: int, call: Callable[[], None]) -> None:
        self._clock, self._when, self._call = clock, when, call
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.Handle = self._set(when - clock.now())

    def cancel(self) -> None:
        self._handle.cancel()

    def _set(self, left: int) -> asyncio.Handle:
        if left <= 0:
            return self._loop.call_soon(self._call)
        # in whole ms, the finest that uvloop knows, rounded up: a ring that comes early has to be made again
        return self._loop.call_later(-(-min(left, LONGEST_CALL) // 1000) / 1000, self._ring)

    def _ring(self) -> None:
        left = self._when - self._clock.now()
        if left > 0:
            self._handle = self._set(left)
        else:
            self._call()


class ManualClock:
    """Time that only a test moves."""

    def __init__(self, start: int = 0) -> None:
        self._now = start
        self._order = count()
        self._due: list[tuple[int, int]] = []
        self._calls: dict[int, Callable[[], None]] = {}

    def now(self) -> int:
        """The present instant; it never goes back."""
        return self._now

    def pinned(self) -> int | None:
        """The store takes this for its now."""
        return self._now

    def observe(self, store_now: int) -> None:
        """Nothing to learn."""

    def call_at(self, when: int, call: Callable[[], None]) -> Callable[[], None]:
        """Call when the clock is moved to an instant; one that is past is called at once, from the loop."""
        if when <= self._now:
            return asyncio.get_running_loop().call_soon(call).cancel
        if when >= FAR:
            return _nothing
        number = next(self._order)
        self._calls[number] = call
        heapq.heappush(self._due, (when, number))

        def cancel() -> None:
            self._calls.pop(number, None)

        return cancel

    async def sleep_until(self, when: int) -> None:
        """Come back when the clock has been moved there."""
        woken = asyncio.Event()
        cancel = self.call_at(when, woken.set)
        try:
            await woken.wait()
        finally:
            cancel()

    def next_call(self) -> int:
        """The instant of the next thing that waits for the clock; FAR if nothing does."""
        while self._due and self._due[0][1] not in self._calls:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else FAR

    async def advance(self, length: timedelta) -> None:
        """Move the clock on by a length of time."""
        await self.advance_to(self._now + length // timedelta(microseconds=1))

    async def advance_to(self, when: int) -> None:
        """Move the clock to an instant, waking in due order what waits before it, and what that makes wait in turn."""
        await _turn_round()
        while self.next_call() <= when:
            due, number = heapq.heappop(self._due)
            self._now = max(self._now, due)
            self._calls.pop(number)()
            await _turn_round()
        self._now = max(self._now, when)


async def _turn_round() -> None:
    for _ in range(HOPS):
        await asyncio.sleep(0)


def stopwatch() -> float:
    """Seconds on a clock that only goes on, for how long something took."""
    return time.perf_counter()


def to_datetime(instant: int) -> datetime:
    """The aware UTC datetime of an instant."""
    return _EPOCH + timedelta(microseconds=instant)


def from_datetime(moment: datetime) -> int:
    """The instant of an aware datetime. TypeError for one without a time zone: it names no instant."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def rfc3339(instant: int) -> str:
    """An instant as RFC 3339 text, in UTC, with milliseconds."""
    return to_datetime(instant).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _nothing() -> None:
    return
