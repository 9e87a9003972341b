"""Every function's target, worked out once for each version of its spec, with the ConfigMaps that sources name."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import orjson

from stepwell.spec.document import STORE_NAME_FORM
from stepwell_operator.cluster import Cluster
from stepwell_operator.maps import ConfigMaps, Map
from stepwell_operator.target import DEFAULT_STORE, Fault, Target, config_map_of, target_of
from stepwell_operator.world import Key, Seen, World, mapping


@dataclass(frozen=True, slots=True)
class _Mark:
    """What a target was worked out from; `map` is the ConfigMap that its source names, `map_mark` that map's version."""

    uid: str
    generation: int
    paused: bool
    map: Key | None
    map_mark: str


class Targets:
    """What functions ask for, by namespace and name. `maps` are the ConfigMaps that their sources name."""

    def __init__(self, cluster: Cluster, world: World, namespaces: tuple[str, ...] = ()) -> None:
        self.maps = ConfigMaps(cluster, namespaces)
        self._world = world
        self._known: dict[Key, tuple[_Mark, Target | Fault]] = {}
        self._pools: dict[Key, set[str]] = defaultdict(set)

    async def first(self) -> None:
        """Work out the targets of all functions that were seen, each ConfigMap being read once."""
        await self.maps.look({key for seen in self._world.functions.values() if (key := _map_key(seen)) is not None})
        for seen in self._world.functions.values():
            key = _map_key(seen)
            self._work_out(seen, key, self.maps.read.get(key) if key is not None else None)

    async def get(self, seen: Seen) -> Target | Fault:
        """The target of a function as last seen."""
        known = self._known.get(seen.key)
        is_same = known is not None and (known[0].uid, known[0].generation) == (seen.uid, seen.generation)
        key = known[0].map if known is not None and is_same else _map_key(seen)
        found = self.maps.read.get(key) if key is not None else None
        if key is not None and (found is None or not is_same):
            # The map may be another since it was listed: with the function it was applied, or deleted and made again.
            found = await self.maps.get(key)
        return self._work_out(seen, key, found)

    def _work_out(self, seen: Seen, key: Key | None, found: Map | None) -> Target | Fault:
        mark = _Mark(seen.uid, seen.generation, seen.paused, key, found.mark if found is not None else "")
        known = self._known.get(seen.key)
        if known is not None and known[0] == mark:
            return known[1]
        target = target_of(seen, {key: found.data} if key is not None and found is not None and found.data is not None else {})
        self._place(seen.key, known[1] if known else None, target)
        self._known[seen.key] = (mark, target)
        return target

    def known(self, namespace: str, name: str) -> Target | Fault | None:
        """The target as last worked out."""
        found = self._known.get((namespace, name))
        return found[1] if found is not None else None

    def in_pool(self, namespace: str, pool: str) -> set[str]:
        """The functions whose newest revision is in this pool."""
        return set(self._pools.get((namespace, pool), ()))

    def store_of(self, seen: Seen) -> str:
        """The store that a function names."""
        target = self.known(*seen.key)
        if isinstance(target, Target):
            return target.store
        name = mapping(mapping(orjson.loads(seen.spec)).get("storeRef")).get("name")
        return name if isinstance(name, str) and STORE_NAME_FORM.fault(name) is None else DEFAULT_STORE

    @staticmethod
    def status(seen: Seen) -> dict[str, Any]:
        """The status as last seen."""
        return orjson.loads(seen.status)

    def forget(self, namespace: str, name: str) -> set[str]:
        """Let go of a function; the pools in which its newest revision was."""
        known = self._known.pop((namespace, name), None)
        self._place((namespace, name), known[1] if known else None, None)
        return {known[1].pool_id} if known is not None and isinstance(known[1], Target) else set()

    async def look_at_maps(self) -> list[Key]:
        """Read the ConfigMaps that have changed; the functions whose source they are."""
        users: dict[Key, list[Key]] = defaultdict(list)
        for key, (mark, _) in self._known.items():
            if mark.map is not None:
                users[mark.map].append(key)
        return [key for changed in await self.maps.look(users) for key in users[changed]] if users or self.maps.read else []

    def _place(self, key: Key, before: Target | Fault | None, after: Target | Fault | None) -> None:
        if isinstance(before, Target):
            place = (key[0], before.pool_id)
            self._pools[place].discard(key[1])
            if not self._pools[place]:
                del self._pools[place]
        if isinstance(after, Target):
            self._pools[key[0], after.pool_id].add(key[1])


def _map_key(seen: Seen) -> Key | None:
    """The ConfigMap that a function's source names."""
    named = config_map_of(seen) if b'"configMap"' in seen.spec else None
    return (seen.namespace, named) if named is not None else None
