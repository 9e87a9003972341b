"""A store that dies at a chosen commit, as a process does: before it, or after it and before anybody heard."""

import asyncio
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from stepwell.store.protocol import Store
from stepwell.store.records import Pile
from stepwell.store.registry import Registry
from stepwell.store.results import PileResult


@dataclass(frozen=True, slots=True)
class CrashPoint:
    """The commit (from 1) at which the process dies, and on which side of it."""

    commit: int
    when: Literal["before", "after"]


class CrashingStore:
    """A real store whose commits are counted, and one of which may kill its user: that call never comes back."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.commits = 0
        self.busy = 0
        """How many calls that something waits for are under way."""
        self.died = asyncio.Event()
        self._point: CrashPoint | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    @property
    def crashed(self) -> bool:
        """Whether the chosen commit has been reached."""
        return self.died.is_set()

    def arm(self, point: CrashPoint | None) -> None:
        """Count from now on, and die at this point."""
        self.commits = 0
        self._point = point

    def disarm(self) -> None:
        """Die no more."""
        self._point = None

    def revive(self) -> None:
        """The process is being started again."""
        self.died.clear()
        self._point = None

    async def commit(self, pile: Pile) -> PileResult:
        """Commit as the real store does, unless this is where it dies."""
        if self.crashed:
            await self._never()
        writes = _writes(pile)
        if writes:
            self.commits += 1
        here = writes and self._point is not None and self._point.commit == self.commits
        if here and self._point is not None and self._point.when == "before":
            await self._die()
        with self._under_way():
            result = await self.inner.commit(pile)
        if here:
            await self._die()
        if self.crashed:
            await self._never()
        return result

    async def listen(self, pairs: Sequence[tuple[str, str]]) -> int:
        """Listen as the real store does: a wait opens only after that."""
        with self._under_way():
            return await self.inner.listen(pairs)

    async def registry(self) -> Registry:
        """Read the registry from the real store: a wait opens only after that."""
        with self._under_way():
            return await self.inner.registry()

    @contextmanager
    def _under_way(self) -> Generator[None]:
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1

    async def _die(self) -> None:
        self.died.set()
        await self._never()

    async def _never(self) -> None:
        await asyncio.get_running_loop().create_future()


def _writes(pile: Pile) -> bool:
    return bool(pile.turns or pile.events or pile.starts or pile.cancels or pile.ticks)
