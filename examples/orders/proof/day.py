"""The day itself: events are sent, the shop is killed in the middle and started again, and in the end everything is settled."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .api import Api, run_path
from .expected import Runs
from .progress import Progress
from .sender import Sender
from .shop import Shop

PACE = 0.1
"""Seconds from one batch to the next."""
NOON_SECONDS = 8.0
"""How long to look for a good moment for the kill before any moment will do."""
STILL = 3.0
"""Seconds without a live run after which nothing more is expected to come."""
SENDING_SECONDS, SETTLING_SECONDS = 20.0, 15.0
"""How long the afternoon may take. What isn't done by then is missing in the table."""
WANTED_AT_NOON = ("executing", "sleeping", "waiting to be retried")
LOOKED_AT = 40


@dataclass(slots=True)
class Day:
    """One day of the shop. `caught` is what the kill has caught, `killed_at` the instant at which the process was gone."""

    shop: Shop
    api: Api
    sender: Sender
    progress: Progress
    caught: Counter[str] = field(default_factory=Counter[str])
    killed_at: float = 0.0

    async def morning(self) -> None:
        """Open, and send the first half of the file."""
        await self._open()
        while self.sender.sent < len(self.sender.lines) // 2:
            await self._step()

    async def power_cut(self) -> None:
        """Kill the process while runs execute, sleep and are to be retried and a batch is on its way; start it again."""
        until = time.monotonic() + NOON_SECONDS
        while not all(self.caught[one] for one in WANTED_AT_NOON) and time.monotonic() < until:
            await self._step()
            self.caught = await self._look_around()
        while not (batch := await self.sender.next_batch(self.api)):
            await self._step()
        on_its_way = asyncio.create_task(self.sender.post(self.api, batch))
        await asyncio.sleep(0.001)
        await self.shop.kill()
        self.killed_at = time.time()
        await on_its_way
        caught = ", ".join(f"{count} {doing}" for doing, count in self.caught.items())
        self.progress.say(f"SIGKILL! Runs under way: {caught}. Events on their way: {len(self.sender.under_way)}")
        await self._open()

    async def afternoon(self, wanted: Runs) -> None:
        """Send the rest, and wait until everything is settled: nothing lives, and all that was to come has come."""
        until = time.monotonic() + SENDING_SECONDS
        while not self.sender.done and time.monotonic() < until:
            await self._step()
        self.progress.say(f"{self.sender.sent} lines are sent; waiting until all is settled")
        still_since = time.monotonic()
        until = still_since + SETTLING_SECONDS
        while time.monotonic() < until:
            live = await self.api.live()
            if self.progress.is_due:
                self.progress.show(self.sender.sent, live)
            if any(live.values()):
                still_since = time.monotonic()
            elif await self._is_complete(wanted) or time.monotonic() - still_since > STILL:
                return
            await asyncio.sleep(0.3)

    async def _open(self) -> None:
        await self.shop.start()
        self.api.url = self.shop.url
        await self.api.until_ready()
        life = "opens" if len(self.shop.pids) == 1 else "opens again"
        self.progress.say(f"the shop {life}: stepwell dev, pid {self.shop.pids[-1]}, {self.shop.url}")

    async def _step(self) -> None:
        began = time.monotonic()
        self.shop.check_alive()
        await self.sender.step(self.api)
        if self.progress.is_due:
            self.progress.show(self.sender.sent, await self.api.live())
        await asyncio.sleep(max(0.0, PACE - (time.monotonic() - began)))

    async def _look_around(self) -> Counter[str]:
        """What live runs are doing just now."""
        live = await self.api.live()
        found = Counter(executing=len(live["RUNNING"]), sleeping=len(live["SLEEPING"]), waiting=len(live["WAITING"]))
        queued = live["QUEUED"][:LOOKED_AT]
        for run in await self.api.each([run_path(run["run_id"]) for run in queued]):
            reason: Mapping[str, Any] | None = run["waiting_for"]
            found["waiting to be retried"] += reason is not None and reason["kind"] == "retry"
        return found

    async def _is_complete(self, wanted: Runs) -> bool:
        runs: Sequence[Mapping[str, Any]] = await self.api.all("/v1/runs")
        return sum(run["trigger"] != "CRON" for run in runs) >= wanted.total()
