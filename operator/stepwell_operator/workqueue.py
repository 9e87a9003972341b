"""Keys to work on: each at most once at a time, again if it was added meanwhile, later if it failed."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

K = TypeVar("K", bound=Hashable)
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 60.0


@dataclass(frozen=True, slots=True)
class Item:
    """What to work on: a `function` by its name, a `well` by its store's; `reviewers` are one. A `pool` only settles."""

    kind: str
    namespace: str
    name: str


class Workqueue(Generic[K]):
    """Calls `work(key)` with `workers` at once. What fails is tried again after a pause that doubles, with jitter.

    `most_of`: whose a key is, and how many of one's keys are worked on at once.
    """

    def __init__(
        self,
        work: Callable[[K], Awaitable[float | None]],
        workers: int,
        draw: Callable[[], float] = random.random,
        *,
        most_of: tuple[Callable[[K], Hashable], int] | None = None,
    ) -> None:
        self._work = work
        self._workers = workers
        self._draw = draw
        self._most_of = most_of
        self._busy_of: Counter[Hashable] = Counter()
        self._waiting: dict[K, None] = {}
        self._busy: set[K] = set()
        self._again: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._there = asyncio.Event()
        self._log = structlog.get_logger("stepwell.operator")
        self.done = 0

    def add(self, key: K, after: float = 0.0) -> None:
        """Work on a key, now or so many seconds later; an earlier time wins."""
        if after > 0:
            self._later(key, after)
            return
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if key in self._busy:
            self._again.add(key)
            return
        self._waiting[key] = None
        self._there.set()

    def fails(self, key: K) -> bool:
        """Whether it failed when it was last worked on; then it is tried again by itself, with pauses that grow."""
        return key in self._failures

    @property
    def depth(self) -> int:
        """How many keys wait to be worked on now."""
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is being done; what is only due later doesn't count."""
        return not self._waiting and not self._busy

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._worker())

    async def _worker(self) -> None:
        while True:
            while (key := self._next()) is None:
                self._there.clear()
                await self._there.wait()
            del self._waiting[key]
            self._take(key, +1)
            try:
                after = await self._work(key)
                self._failures.pop(key, None)
            except Exception as error:  # noqa: BLE001 - one key's fault is not another's
                after = self._failed(key, error)
            self._take(key, -1)
            self.done += 1
            if key in self._again:
                self._again.discard(key)
                self.add(key)
            elif after is not None:
                self._later(key, after)

    def _next(self) -> K | None:
        if self._most_of is None:
            return next(iter(self._waiting), None)
        whose, most = self._most_of
        return next((key for key in self._waiting if self._busy_of[whose(key)] < most), None)

    def _take(self, key: K, step: int) -> None:
        """A key is taken in hand (+1), or out of it (-1)."""
        if step > 0:
            self._busy.add(key)
        else:
            self._busy.discard(key)
        if self._most_of is not None:
            whose = self._most_of[0](key)
            self._busy_of[whose] += step
            if not self._busy_of[whose]:
                del self._busy_of[whose]
            self._there.set()  # one of the same owner's may have its turn

    def _failed(self, key: K, error: Exception) -> float:
        count = self._failures[key] = self._failures.get(key, 0) + 1
        pause = min(FIRST_PAUSE * 2 ** min(count - 1, 12), LONGEST_PAUSE) * (0.5 + self._draw())
        asked = getattr(error, "after", None)
        pause = max(pause, float(asked)) if asked else pause
        tell = self._log.warning if count > 1 else self._log.info  # once is nothing: it was about to change, or has
        tell(
            "reconcile failed; it is tried again", key=str(key), error=f"{type(error).__name__}: {error}", seconds=round(pause, 1)
        )
        return pause

    def _later(self, key: K, after: float) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + after
        timer = self._timers.get(key)
        if timer is not None and timer.when() <= due:
            return
        if timer is not None:
            timer.cancel()
        self._timers[key] = loop.call_at(due, self._due, key)

    def _due(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)
