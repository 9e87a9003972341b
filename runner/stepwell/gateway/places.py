"""Who is served now, so that none crowds out others: requests worked on, bodies on their way, callers who wait for a run.

Each of the three may be as many as `most`, and none counts among another: a sender that drips or a caller that waits takes no
place from those who are worked on. Of too many bodies the one that has been coming for longest is given up: one that arrives is
there within moments, so that is one that drips.
"""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

from starlette.exceptions import HTTPException

from stepwell.gateway.answers import retry_later

TOO_MANY = "too many requests at once; ask again"


class Places:
    """The places of one gateway."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0
        self.waiting = 0
        self._bodies: dict[asyncio.Timeout, None] = {}

    @property
    def are_full(self) -> bool:
        """Whether nobody else can be worked on now."""
        return self.taken >= self.most

    @property
    def bodies(self) -> int:
        """How many bodies are on their way."""
        return len(self._bodies)

    @contextmanager
    def one(self) -> Generator[None]:
        """Hold a place inside this block."""
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1

    @asynccontextmanager
    async def body(self, seconds: float) -> AsyncGenerator[None]:
        """Let a body come inside this block, without a place; TimeoutError after so long.

        HTTPException 503 if it has to make room for others, or comes when there is no place to work on it.
        """
        if len(self._bodies) >= self.most:
            self._give_up_oldest()
        until = asyncio.timeout(seconds)
        self.taken -= 1
        try:
            async with until:
                self._bodies[until] = None
                yield
        except TimeoutError:
            if until not in self._bodies:
                raise too_many() from None
            raise
        finally:
            self._bodies.pop(until, None)
            self.taken += 1
        if self.taken > self.most:
            raise too_many()

    @contextmanager
    def wait(self) -> Generator[None]:
        """Let a caller wait inside this block, without a place; HTTPException 503 if too many wait."""
        if self.waiting >= self.most:
            raise HTTPException(503, "too many callers wait for their runs at once; ask without ?wait, or again", retry_later())
        self.waiting += 1
        self.taken -= 1
        try:
            yield
        finally:
            self.taken += 1
            self.waiting -= 1

    def _give_up_oldest(self) -> None:
        oldest = next(iter(self._bodies), None)
        if oldest is not None:
            del self._bodies[oldest]
            if not oldest.expired():
                oldest.reschedule(0)


def too_many() -> HTTPException:
    """The answer where there is no place."""
    return HTTPException(503, TOO_MANY, retry_later())
