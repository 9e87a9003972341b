"""The ConfigMaps that sources name, as they were at the API server a few seconds ago at most.

They are their users' and carry no label of ours, so no watch tells of them. Every `PACE` seconds their versions are listed, and
those that have another than the one that was read are read again. What is the source of no function any more is let go of.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from stepwell_operator.cluster import CONFIG_MAP, Cluster, few_at_once
from stepwell_operator.names import MANAGED_BY, OPERATOR
from stepwell_operator.world import Document, Key, mapping

PACE = 5.0
MOST_NAMESPACES = 10
"""In so many namespaces the maps are listed one by one; where they are in more, those of the whole cluster are."""
NOT_OURS = f"{MANAGED_BY}!={OPERATOR}"


@dataclass(frozen=True, slots=True)
class Map:
    """A ConfigMap as last read; one that isn't there has no uid and no data."""

    uid: str = ""
    version: int = 0
    data: Mapping[str, Any] | None = None

    @property
    def mark(self) -> str:
        """What differs whenever the map does."""
        return f"{self.uid}/{self.version}"


@dataclass(slots=True)
class ConfigMaps:
    """Those that were read. `namespaces`: where the operator may list, if that isn't everywhere."""

    cluster: Cluster
    namespaces: tuple[str, ...] = ()
    read: dict[Key, Map] = field(default_factory=dict[Key, Map])

    async def get(self, key: Key) -> Map:
        """Read one now; older answers to others who asked meanwhile don't replace newer ones."""
        found = await self.cluster.get(CONFIG_MAP, *key)
        made = _map(found) if found is not None else Map()
        before = self.read.get(key)
        if before is None or made.data is None or made.version > before.version:
            self.read[key] = made
        return self.read[key]

    async def look(self, used: Collection[Key]) -> set[Key]:
        """Compare these with the API server and read again what differs: those that changed. Others are forgotten."""
        self.read = {key: one for key, one in self.read.items() if key in used}
        there = await self._versions(used)
        stale = [key for key in used if key not in self.read or there.get(key, Map().mark) != self.read[key].mark]
        changed: set[Key] = set()
        before = {key: one.mark for key, one in self.read.items()}
        async for some in few_at_once(stale, self.get):
            changed |= {key for key, one in some.items() if before.get(key) != one.mark}
        return changed

    async def _versions(self, used: Collection[Key]) -> dict[Key, str]:
        found: dict[Key, str] = {}
        for namespace in self._places({namespace for namespace, _ in used}):
            async for metadata in self.cluster.metadata(CONFIG_MAP, namespace, NOT_OURS):
                key = (metadata["namespace"], metadata["name"])
                if key in used:
                    found[key] = _mark(metadata)
        return found

    def _places(self, used: set[str]) -> Iterable[str | None]:
        return sorted(used) if self.namespaces or len(used) <= MOST_NAMESPACES else (None,)


def _map(document: Document) -> Map:
    metadata = document["metadata"]
    return Map(metadata["uid"], int(metadata["resourceVersion"]), mapping(document.get("data")))


def _mark(metadata: Document) -> str:
    return Map(metadata["uid"], int(metadata["resourceVersion"])).mark
