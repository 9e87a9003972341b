"""The branches of a run's code: what each waits for, and the moment when all of them stand still.

    touch ──▶ some turns of the loop, counted anew at each touch ──▶ still

A branch (the code itself, or one side of a `gather`) is *suspended* at an open wait, *in flight* in a body, or moves. Code that
moves without a step is not seen; so nothing is decided before the loop has turned often enough for the next step to be called.
"""

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager

from stepwell.clock import Clock
from stepwell.engine.journal import Key
from stepwell.engine.passes import PUT_AWAY
from stepwell.store.records import FOREVER, StepRow

SETTLE_HOPS = 3
"""Loop turns without a step call before the code counts as blocked; gather and TaskGroup need two to pass a result on."""


class Branches:
    """Call `still` once the loop has settled after a touch. One execution has one, over all of its passes."""

    __slots__ = ("_activity", "_checking", "_clock", "_due_timer", "_still", "in_flight", "suspended")

    def __init__(self, clock: Clock, still: Callable[[], None]) -> None:
        self.suspended: dict[Key, asyncio.Future[StepRow | None]] = {}
        self.in_flight = 0
        """How many bodies run, or are waited for as if they were bodies."""
        self._clock = clock
        self._still = still
        self._activity = 0
        self._checking = False
        self._due_timer: Callable[[], None] | None = None

    async def suspend(self, key: Key) -> StepRow | None:
        """Wait until the open wait under this key is resolved; None: try the step again here."""
        future: asyncio.Future[StepRow | None] = asyncio.get_running_loop().create_future()
        self.suspended[key] = future
        self.touch()
        try:
            return await future
        finally:
            if self.suspended.get(key) is future:
                del self.suspended[key]

    def hand_over(self, key: Key, row: StepRow | None) -> None:
        """Let the branch that is suspended under this key go on, if one is."""
        future = self.suspended.pop(key, None)
        if future is not None and not future.done():
            future.set_result(row)
        self.touch()

    def cancel(self) -> None:
        """Cancel whatever is suspended: its pass is dropped."""
        for future in self.suspended.values():
            future.cancel(PUT_AWAY)
        self.suspended.clear()

    @contextmanager
    def busy(self) -> Generator[None]:
        """Count as in flight what a verb asks the store, or a sibling's wait would park the run without this branch."""
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    def touch(self) -> None:
        """Something moved: look again, once the loop has settled, whether every branch is blocked."""
        self._activity += 1
        if not self._checking:
            self._checking = True
            asyncio.get_running_loop().call_soon(self._settle, self._activity, SETTLE_HOPS)

    def touch_at(self, due: int) -> None:
        """Touch at this instant, instead of the one that was named before."""
        self.disarm()
        if due < FOREVER:
            self._due_timer = self._clock.call_at(due, self.touch)

    def disarm(self) -> None:
        """Forget the instant that was named."""
        if self._due_timer is not None:
            self._due_timer()
            self._due_timer = None

    def _settle(self, seen: int, hops: int) -> None:
        if seen != self._activity:
            seen, hops = self._activity, SETTLE_HOPS
        if hops:
            asyncio.get_running_loop().call_soon(self._settle, seen, hops - 1)
            return
        self._checking = False
        self._still()
