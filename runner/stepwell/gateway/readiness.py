"""Whether the store answers: one small look for all who ask at once, and for a second after; anybody may ask, ever so often."""

import asyncio

from stepwell.engine.well import Well
from stepwell.errors import StoreError, StoreUnavailable

PATIENCE = 2.0
HOLDS = 1_000_000
"""How long (µs) a good answer holds. A bad one doesn't: whoever waits for the store hears of its return at once."""


class Look:
    """The looks of one process at its store."""

    def __init__(self, well: Well) -> None:
        self._well = well
        self._looking: asyncio.Task[int | StoreError] | None = None
        self._seen: tuple[int, int] | None = None

    async def version(self) -> int:
        """The registry's version in the store, as of a second ago at most; StoreError while it doesn't answer."""
        if self._seen is not None and 0 <= self._well.clock.now() - self._seen[1] < HOLDS and self._well.clock.pinned() is None:
            return self._seen[0]
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._ask())
        # Of those who wait one may go; the others still want to know.
        found = await asyncio.shield(self._looking)
        if isinstance(found, StoreError):
            raise found
        return found

    async def _ask(self) -> int | StoreError:
        self._seen = None
        try:
            async with asyncio.timeout(PATIENCE):
                version = await self._well.store.registry_version()
        except TimeoutError:
            return StoreUnavailable("the store did not answer in time")
        except StoreError as error:
            return error
        self._seen = version, self._well.clock.now()
        return version
