"""Runner pods: what is wrong with them, as their watch tells it, and whether it tells, as a census finds.

Ten thousand pods are not remembered: only those in trouble are, and the highest version of which the watch has told.
"""

from collections.abc import AsyncIterable
from dataclasses import dataclass
from typing import Any

from stepwell_operator.world import Document, Key, Trouble, World, pool_of, read_trouble

PATIENCE = 10.0
"""How long (s) a watch may take to tell what the API server has."""


@dataclass(slots=True)
class Pods:
    """The pods of a world."""

    world: World
    told: int = 0
    _ahead: tuple[int, float] | None = None
    """A version that the server had and the watch hasn't told, and since when."""

    def hear(self, event: dict[str, Any]) -> Key | None:
        """The watch told of a pod: its namespace and pool, if what is wrong with it has changed."""
        pod = event["object"]
        metadata = pod["metadata"]
        self.told = max(self.told, int(metadata["resourceVersion"]))
        if self._ahead is not None and self.told >= self._ahead[0]:
            self._ahead = None
        pool = pool_of(pod)
        if pool is None:
            return None
        place = (str(metadata["namespace"]), str(pool))
        gone = event["type"] == "DELETED" or bool(metadata.get("deletionTimestamp"))
        return place if self.world.tell_trouble(place, metadata["name"], None if gone else read_trouble(pod)) else None

    async def compare(self, there: AsyncIterable[Document], now: float) -> set[Key]:
        """Forget the troubles of pods that aren't among `there` (their metadata): the pools that are better off now."""
        missing: dict[Key, tuple[Key, Trouble]] = {
            (place[0], pod): (place, trouble) for place, pods in self.world.troubles.items() for pod, trouble in pods.items()
        }
        newest = 0
        async for metadata in there:
            missing.pop((metadata["namespace"], metadata["name"]), None)
            newest = max(newest, int(metadata["resourceVersion"]))
        # Of a pod that is gone by now a watch that is well may have nothing to tell.
        self._ahead = (self._ahead or (newest, now)) if newest > self.told else None
        better = set[Key]()
        for (_, pod), (place, trouble) in missing.items():
            if self.world.troubles.get(place, {}).get(pod) is trouble and self.world.tell_trouble(place, pod, None):
                better.add(place)
        return better

    def hears(self, now: float) -> bool:
        """Whether the watch has told of all that there was `PATIENCE` ago."""
        return self._ahead is None or now - self._ahead[1] < PATIENCE
