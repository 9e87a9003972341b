"""Every function's target, worked out once for each version of its spec, with the ConfigMaps that sources name."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import orjson

from stepwell.spec.document import STORE_NAME_FORM
from stepwell_operator.cluster import CONFIG_MAP, Cluster
from stepwell_operator.target import DEFAULT_STORE, Fault, Target, config_map_of, target_of
from stepwell_operator.world import Key, Seen, World, mapping


class Targets:
    """What functions ask for, by namespace and name."""

    def __init__(self, cluster: Cluster, world: World) -> None:
        self._cluster = cluster
        self._world = world
        self._known: dict[Key, tuple[tuple[Any, ...], Target | Fault]] = {}
        self._pools: dict[Key, set[str]] = defaultdict(set)
        self._config_maps: dict[Key, tuple[str, Mapping[str, str]]] = {}

    async def get(self, seen: Seen) -> Target | Fault:
        """The target of a function as last seen."""
        named = config_map_of(seen)
        if named is not None and (seen.namespace, named) not in self._config_maps:
            await self.read_config_map((seen.namespace, named))
        version = self._config_maps.get((seen.namespace, named), ("", {}))[0] if named is not None else ""
        mark = (seen.uid, seen.generation, seen.paused, version)
        known = self._known.get(seen.key)
        if known is not None and known[0] == mark:
            return known[1]
        target = target_of(seen, {key: data for key, (_, data) in self._config_maps.items()} if named is not None else {})
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

    async def read_config_map(self, key: Key) -> bool:
        """Read a ConfigMap again; whether its data changed."""
        found = await self._cluster.get(CONFIG_MAP, *key)
        version = found["metadata"]["uid"] + found["metadata"]["resourceVersion"] if found is not None else ""
        before = self._config_maps.get(key)
        data: Mapping[str, str] = mapping(found.get("data")) if found is not None else {}
        if found is None:
            self._config_maps.pop(key, None)
            return before is not None
        self._config_maps[key] = (version, data)
        return before is None or before[0] != version

    def config_maps_in_use(self) -> dict[Key, list[Key]]:
        """The ConfigMaps that functions name, with these functions."""
        found: dict[Key, list[Key]] = defaultdict(list)
        for seen in self._world.functions.values():
            if b'"configMap"' in seen.spec and (named := config_map_of(seen)) is not None:
                found[seen.namespace, named].append(seen.key)
        return found

    def _place(self, key: Key, before: Target | Fault | None, after: Target | Fault | None) -> None:
        if isinstance(before, Target):
            place = (key[0], before.pool_id)
            self._pools[place].discard(key[1])
            if not self._pools[place]:
                del self._pools[place]
        if isinstance(after, Target):
            self._pools[key[0], after.pool_id].add(key[1])
