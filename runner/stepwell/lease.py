"""A runner's lease: the right to execute and commit, for as long as it is renewed.

    enrol ──▶ holds ──beat──▶ holds … ──silence──▶ holds no more: no body begins ──▶ over: others take the runs

Whether it holds is judged by this process's clock, some seconds before the store would call it over. It is *in doubt* which runs
it covers, once a commit broke that may have landed all the same, or a run was dropped that it may still cover. Nobody else takes
such runs, so they are looked for and handed back.
"""

from collections.abc import Callable
from datetime import timedelta

import structlog

from stepwell.codes import Codes
from stepwell.engine.well import Well
from stepwell.errors import StoreUnavailable
from stepwell.store.records import FOREVER
from stepwell.store.views import RunnerRow

SECOND = 1_000_000
LEASE_MARGIN = 5 * SECOND
MOST_BROKEN, MOST_TOLD = 50, 300


class Lease:
    """The lease of one runner, for `length` at a time. Under a pinned clock it has no end."""

    def __init__(self, well: Well, runner_id: str, length: timedelta) -> None:
        self.runner_id = runner_id
        self.length = length
        self.until = FOREVER
        self._well = well
        self._microseconds = round(length.total_seconds() * SECOND)
        self._margin = min(LEASE_MARGIN, self._microseconds // 3)
        self._doubt_until = 0
        self._log = structlog.get_logger("stepwell.worker")

    async def enrol(self, pool: str, codes: Codes, slots: int) -> None:
        """Take the lease, or renew it whole, and say what this runner executes."""
        length = self._microseconds if self._well.clock.pinned() is None else FOREVER // 2
        broken = tuple((*key, why[:MOST_TOLD]) for key, why in list(codes.broken.items())[:MOST_BROKEN])
        row = RunnerRow(self.runner_id, (pool,), codes.functions, slots, length, draining=False, broken=broken)
        await self._well.store.enrol(row)
        self.until = self._well.clock.now() + length

    async def give_back(self) -> None:
        """End the lease: what it still covers may be claimed at once. If the store is away it ends by itself."""
        try:
            await self._well.store.leave(self.runner_id, self._well.clock.pinned())
        except StoreUnavailable as error:
            self._log.warning("the lease could not be given back; it ends by itself", error=str(error))

    def renewed(self) -> None:
        """The beat got through."""
        self.until = self._well.clock.now() + self._microseconds

    def holds(self) -> bool:
        """Whether a body may begin: it would have some seconds at the least before anybody takes its run."""
        return self._well.clock.now() < self.until - self._margin

    def doubt(self) -> None:
        """The store may hold runs for this runner that it doesn't know: look for a while, since a commit may land later."""
        self._doubt_until = self._well.clock.now() + 2 * self._microseconds

    async def own_up(self, now: int, knows: Callable[[str], bool]) -> None:
        """While in doubt, hand back the runs that the lease covers and that this runner doesn't know, or dropped."""
        if now >= self._doubt_until:
            return
        held = await self._well.store.held(self.runner_id)
        unknown = [(run_id, epoch) for run_id, epoch in held if not knows(run_id)]
        if unknown:
            await self._well.store.hand_back(self.runner_id, unknown, self._well.clock.pinned())
            self._log.warning("handed back runs that this runner held and doesn't execute", runs=len(unknown))
