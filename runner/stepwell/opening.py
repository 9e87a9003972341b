"""How a process begins: it waits for its store, alive and not ready, and says what it waits for.

What may pass by itself is waited for: a store that is away, a role or database that is refused, a schema that isn't there, isn't
the role's or lacks migrations, as in a restore. What no waiting mends is an error at once: a schema of another build, a server
whose settings are unsafe, and, before there is a well to open, an address that can't be read.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from stepwell.engine.well import Well
from stepwell.errors import AddressRefused, SchemaPending, StoreError, StoreUnavailable

SHORTEST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
PASSES = (StoreUnavailable, AddressRefused, SchemaPending)


class Patience:
    """Asks a store again after jittered pauses that grow.

    A cause is told once, in the log and to `tell`, until it is another, or over: then `tell` gets None.
    """

    def __init__(
        self,
        tell: Callable[[StoreError | None], None],
        nap: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._tell = tell
        self._nap = nap
        self._draw = draw
        self._cause = ""
        self._log = structlog.get_logger("stepwell")

    async def open(self, well: Well) -> None:
        """Open the well, however long that takes."""
        await self.outlast(well.open)

    async def outlast(self, act: Callable[[], Awaitable[None]]) -> None:
        """Do it once the store lets it be done; what fails half-way is done again from its start."""
        pause = SHORTEST_PAUSE
        while True:
            try:
                await act()
            except PASSES as error:
                self._say(error)
                # Full jitter, so that a fleet doesn't come in step.
                await self._nap(pause * self._draw())
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                self._tell(None)
                if self._cause:
                    self._log.info("the store can be used now")
                    self._cause = ""
                return

    def _say(self, error: StoreError) -> None:
        if str(error) == self._cause:
            return
        self._cause = str(error)
        self._tell(error)
        self._log.warning("the store can't be used yet; trying again until it can", error=self._cause)
