"""When a store that takes its time to fail is tried again. Pure.

A refused connection costs nothing and is tried every few seconds. An address that answers nothing holds a worker until a timeout:
each time that it does, it is left alone for twice as long, up to a minute.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
SLOW = 1.0
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 60.0


@dataclass(slots=True)
class Trials(Generic[K]):
    """How long (s) each key is left alone, and until when (monotonic seconds)."""

    _paused: dict[K, tuple[float, float]] = field(default_factory=dict[K, tuple[float, float]])

    def paused(self, key: K, now: float) -> bool:
        """Whether it is left alone now."""
        return key in self._paused and now < self._paused[key][1]

    def failed(self, key: K, began: float, now: float) -> None:
        """A trial that began then has failed now."""
        if now - began < SLOW:
            self.over(key)
            return
        before = self._paused.get(key)
        pause = min(before[0] * 2, LONGEST_PAUSE) if before is not None else FIRST_PAUSE
        self._paused[key] = (pause, now + pause)

    def over(self, key: K) -> None:
        """It works, it fails for another reason, or it leads elsewhere by now."""
        self._paused.pop(key, None)
