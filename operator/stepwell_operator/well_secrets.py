"""The Secrets of wells: the operator may not list or watch any, so it asks for its own by name, and looks at wells whose changed.

At most `MOST` are asked for in a round, those that wait the longest: with more than that, all are seen within as many rounds as
it takes, and the calls don't grow with the number of wells.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from stepwell_operator.cluster import SECRET, Cluster, few_at_once
from stepwell_operator.facts import WellKey
from stepwell_operator.names import GATEWAY_SECRET, STORE_SECRET
from stepwell_operator.resources.gateway import named
from stepwell_operator.world import Key

MOST = 40


@dataclass(slots=True)
class WellSecrets:
    """The versions of Secrets as last asked for, those that were asked for longest ago first."""

    cluster: Cluster
    _versions: dict[Key, str] = field(default_factory=dict[Key, str])

    async def look(self, wells: Iterable[WellKey]) -> set[WellKey]:
        """Ask for the Secrets of these wells, or of some of them; the wells of those that are gone, or written by somebody."""
        whose = {
            (namespace, named(base, store)): (namespace, store)
            for namespace, store in wells
            for base in (STORE_SECRET, GATEWAY_SECRET)
        }
        self._versions = {key: version for key, version in self._versions.items() if key in whose}
        asked = [*(key for key in whose if key not in self._versions), *self._versions][:MOST]
        changed: set[WellKey] = set()
        async for some in few_at_once(asked, lambda key: self.cluster.version(SECRET, *key)):
            changed |= self._take(some, whose)
        return changed

    def _take(self, there: Mapping[Key, str], whose: Mapping[Key, WellKey]) -> set[WellKey]:
        changed: set[WellKey] = set()
        for key, version in there.items():
            before = self._versions.pop(key, None)
            self._versions[key] = version
            if version != before if before is not None else not version:
                changed.add(whose[key])
        return changed
