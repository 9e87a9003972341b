"""Answers that hold for a while."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

MOST_REMEMBERED = 10_000
V = TypeVar("V")


class Memory(Generic[V]):
    """Answers that hold for a while; the oldest goes when there are too many."""

    def __init__(self, now: Callable[[], int], most: int = MOST_REMEMBERED) -> None:
        self._now = now
        self._most = most
        self._kept: OrderedDict[Hashable, tuple[int, V]] = OrderedDict()

    def get(self, key: Hashable) -> V | None:
        """What is remembered, if it still holds."""
        until, value = self._kept.get(key, (0, None))
        return value if self._now() < until else None

    def keep(self, key: Hashable, value: V, length: int) -> None:
        """Remember this for so many µs."""
        self._kept[key] = (self._now() + length, value)
        self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def forget(self, key: Hashable) -> None:
        """Know nothing of this any more."""
        self._kept.pop(key, None)
