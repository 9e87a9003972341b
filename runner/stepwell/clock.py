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


class Clock(Protocol):
    """Time as the engine sees it."""

    def now(self) -> int:
        """The present instant; it never goes back."""
        ...

    def pinned(self) -> int | None:
        """The instant that a store has to take for its own now (tests), or None: the store's clock decides."""
        ...

    def observe(self, store_now: int) -> None:
        """Learn what the store's clock said at a commit that has just been answered."""
        ...

    def call_at(self, when: int, call: Callable[[], None]) -> Callable[[], None]:
        """Call on the event loop at an instant; what comes back takes that back."""
        ...

    async def sleep_until(self, when: int) -> None:
        """Come back at an instant."""
        ...


class SystemClock:
    """Real time: this machine's monotonic clock, set by what the store says. A wrong wall clock here does no harm."""

    def __init__(self) -> None:
        self._offset = time.time_ns() // 1000 - time.monotonic_ns() // 1000
        self._last = 0
        self._learnt = False

    def now(self) -> int:
        """The present instant; it never goes back."""
        self._last = max(self._last, time.monotonic_ns() // 1000 + self._offset)
        return self._last

    def pinned(self) -> int | None:
        """None: the store's own clock decides."""
        return None

    def observe(self, store_now: int) -> None:
        """Follow the store's clock: an answer's age is unknown, so only a larger offset, or a clearly smaller one, is taken."""
        offset = store_now - time.monotonic_ns() // 1000
        if not self._learnt or offset > self._offset or offset < self._offset - 1_000_000:
            self._offset, self._learnt = offset, True

    def call_at(self, when: int, call: Callable[[], None]) -> Callable[[], None]:
        """Call on the event loop at an instant; what comes back takes that back."""
        if when >= FAR:
            return _nothing
        return asyncio.get_running_loop().call_later(max(0, min(when - self.now(), 86_400_000_000)) / 1e6, call).cancel

    async def sleep_until(self, when: int) -> None:
        """Come back at an instant."""
        while (left := when - self.now()) > 0:
            await asyncio.sleep(min(left / 1e6, 3600))


class ManualClock:
    """Time that only a test moves."""

    def __init__(self, start: int = 0) -> None:
        self._now = start
        self._order = count()
        self._calls: list[tuple[int, int, Callable[[], None]]] = []
        self._taken_back: set[int] = set()

    def now(self) -> int:
        """Where the test has put the clock."""
        return self._now

    def pinned(self) -> int | None:
        """The store takes this for its now."""
        return self._now

    def observe(self, store_now: int) -> None:
        """Nothing to learn."""

    def call_at(self, when: int, call: Callable[[], None]) -> Callable[[], None]:
        """Call when the clock is moved to an instant; one that is past is called at once, from the loop."""
        number = next(self._order)
        if when <= self._now:
            return asyncio.get_running_loop().call_soon(call).cancel
        heapq.heappush(self._calls, (when, number, call))
        return lambda: self._taken_back.add(number)

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
        while self._calls and self._calls[0][1] in self._taken_back:
            self._taken_back.discard(heapq.heappop(self._calls)[1])
        return self._calls[0][0] if self._calls else FAR

    async def advance(self, length: timedelta) -> None:
        """Move the clock on by a length of time."""
        await self.advance_to(self._now + round(length.total_seconds() * 1_000_000))

    async def advance_to(self, when: int) -> None:
        """Move the clock to an instant, waking in due order what waits before it."""
        while self.next_call() <= when:
            due, _number, call = heapq.heappop(self._calls)
            self._now = max(self._now, due)
            call()
            await asyncio.sleep(0)
        self._now = max(self._now, when)


def to_datetime(instant: int) -> datetime:
    """The aware UTC datetime of an instant."""
    return _EPOCH + timedelta(microseconds=instant)


def from_datetime(moment: datetime) -> int:
    """The instant of an aware datetime."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def rfc3339(instant: int) -> str:
    """An instant as RFC 3339 text, in UTC, with milliseconds."""
    return to_datetime(instant).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _nothing() -> None:
    return
