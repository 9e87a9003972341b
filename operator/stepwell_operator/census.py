"""Ask the API server what is there, and compare: the answer to deletions that a watch missed, and to watches that went deaf.

kopf tells of deletions only while it hears them: after a gap that the server can't fill (410 Gone) it lists again, and what went
meanwhile is never mentioned (docs/adr/0009). So every quarter of a minute the metadata of all our kinds is listed and compared
with what was seen (of runner pods: `pods.py`). What is unknown is read whole; what is gone is taken out; and a watch that has
not told of a change in `PATIENCE` has missed it: unless it speaks again, it counts as deaf after `Settings.deaf_seconds`.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field

import structlog

from stepwell_operator.cluster import (
    BUDGET,
    CONFIG_MAP,
    DEPLOYMENT,
    FUNCTION,
    NETWORK_POLICY,
    POD,
    SERVICE,
    SERVICE_ACCOUNT,
    STORE,
    Cluster,
    ClusterError,
    Document,
    Kind,
)
from stepwell_operator.names import OURS, RUNNERS
from stepwell_operator.pods import PATIENCE, Pods
from stepwell_operator.reconcile import Reconciler
from stepwell_operator.world import Child, Key, Seen

CHILD_KINDS = (DEPLOYMENT, CONFIG_MAP, BUDGET, NETWORK_POLICY, SERVICE, SERVICE_ACCOUNT)


@dataclass(slots=True)
class Census:
    """Compares the world with the server. `heard`: when each kind's watch was last known to have told everything."""

    cluster: Cluster
    reconciler: Reconciler
    namespaces: tuple[str, ...] = ()
    clock: Callable[[], float] = time.monotonic
    heard: dict[str, float] = field(default_factory=dict[str, float])
    pods: Pods = field(init=False)
    complete: bool = False
    answered: float = -1e9
    """When the server last answered a whole census."""
    _behind: dict[tuple[str, str, str], tuple[int, float]] = field(default_factory=dict[tuple[str, str, str], tuple[int, float]])
    _missed: dict[str, set[Key]] = field(default_factory=lambda: defaultdict(set))
    """By kind: what was read here because the watch, silent since, had not told of it."""
    _again: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        """Hear of the pods of the reconciler's world."""
        self.pods = Pods(self.reconciler.world)

    def ages(self) -> dict[str, float]:
        """How long ago each watch was last known to hear."""
        now = self.clock()
        return {kind: now - at for kind, at in self.heard.items()}

    def soon(self) -> None:
        """A watch has listed again: compare now rather than at the next round."""
        self._again.set()

    async def first(self) -> None:
        """Read everything whole, before the first reconcile: so that nothing is decided from half a picture."""
        for kind in (STORE, FUNCTION, *CHILD_KINDS):
            for namespace in self._places():
                async for document in self.cluster.list(kind, namespace, OURS if kind in CHILD_KINDS else None):
                    self._take({**document, "apiVersion": kind.api_version, "kind": kind.kind}, kind)
            self.heard[kind.plural] = self.clock()
        self.heard[POD.plural] = self.clock()
        await self.reconciler.targets.first()
        self.complete = True

    async def run(self, seconds: float) -> None:
        """Compare, every so many seconds and when a watch has listed again, until cancelled."""
        log = structlog.get_logger("stepwell.operator")
        while True:
            try:
                async with asyncio.timeout(seconds):
                    await self._again.wait()
                await asyncio.sleep(0.5)
            except TimeoutError:
                pass
            self._again.clear()
            try:
                await self.compare()
            except ClusterError as error:
                log.warning("the census could not be taken", error=str(error))

    async def compare(self) -> None:
        """Compare once, and mend what differs."""
        for kind in (FUNCTION, STORE, *CHILD_KINDS):
            there: dict[Key, tuple[str, int]] = {}
            began = dict(self._known(kind))
            for namespace in self._places():
                async for metadata in self.cluster.metadata(kind, namespace, OURS if kind in CHILD_KINDS else None):
                    there[metadata["namespace"], metadata["name"]] = (metadata["uid"], int(metadata["resourceVersion"]))
            self._forget_gone(kind, began, there)
            await self._read_missed(kind, there)
            if not self._missed[kind.plural]:
                self.heard[kind.plural] = self.clock()
        for namespace, pool in await self.pods.compare(self._runners(), self.clock()):
            self.reconciler.pool(namespace, pool)
        if self.pods.hears(self.clock()):
            self.heard[POD.plural] = self.clock()
        self.answered = self.clock()

    def deaf(self) -> list[str]:
        """The kinds whose watch has long told nothing though the server, when it last answered, had news of them.

        While the server is away this changes nothing: a restart of ours would not bring it back.
        """
        patience = self.reconciler.settings.deaf_seconds
        return sorted(kind for kind, at in self.heard.items() if self.answered - at > patience)

    def _places(self) -> Iterable[str | None]:
        return self.namespaces or (None,)

    async def _runners(self) -> AsyncIterator[Document]:
        for namespace in self._places():
            async for metadata in self.cluster.metadata(POD, namespace, RUNNERS):
                yield metadata

    def _known(self, kind: Kind) -> Iterable[tuple[Key, int]]:
        world = self.reconciler.world
        if kind in {FUNCTION, STORE}:
            seen = world.functions if kind is FUNCTION else world.stores
            return [(key, one.version) for key, one in seen.items()]
        return [((one.namespace, one.name), one.version) for one in world.children.values() if one.kind == kind.kind]

    def _forget_gone(self, kind: Kind, began: dict[Key, int], there: dict[Key, tuple[str, int]]) -> None:
        """Take out what was known before the server was asked, has not been heard of since, and isn't there."""
        now = dict(self._known(kind))
        for key, version in began.items():
            if key not in there and now.get(key) == version:
                self._gone(kind, key)

    def _gone(self, kind: Kind, key: Key, version: int = 0) -> None:
        """Something is gone: whoever needs it makes it again."""
        reconciler, world = self.reconciler, self.reconciler.world
        if kind is FUNCTION:
            if world.forget(key, world.functions, version):
                reconciler.function(key)
        elif kind is STORE:
            if world.forget(key, world.stores, version):
                reconciler.well(*key)
        else:
            child = world.forget_child((kind.kind, *key), version=version)
            if child is not None:
                self._wake(child.namespace, child.labels)

    def _wake(self, namespace: str, labels: dict[str, str], after: float = 0.0) -> None:
        pool = labels.get("stepwell.dev/pool-id")
        if pool is not None:
            self.reconciler.pool(namespace, pool, after)
        elif (store := labels.get("stepwell.dev/store")) is not None:
            self.reconciler.well(namespace, store, after)

    async def _read_missed(self, kind: Kind, there: dict[Key, tuple[str, int]]) -> None:
        """Read what the watch has not told in time."""
        known = dict(self._known(kind))
        now, missed = self.clock(), self._missed[kind.plural]
        # Of what is gone a watch that is well may have nothing to tell.
        missed.intersection_update(there)
        self._behind = {place: one for place, one in self._behind.items() if place[0] != kind.plural or place[1:] in there}
        for key, (_uid, version) in there.items():
            place = (kind.plural, *key)
            if known.get(key, -1) >= version:
                self._behind.pop(place, None)
                continue
            _, since = self._behind.setdefault(place, (version, now))
            if now - since < PATIENCE and key in known:
                continue
            document = await self.cluster.get(kind, *key)
            if document is not None:
                self.take(document, kind)
                self._behind.pop(place, None)
                missed.add(key)

    # --- what watches tell ---

    def hear(self, kind: Kind) -> None:
        """A watch said something."""
        self._missed.pop(kind.plural, None)
        if not any(place[0] == kind.plural for place in self._behind) and (kind is not POD or self.pods.hears(self.clock())):
            self.heard[kind.plural] = self.clock()

    def lost(self, kind: Kind, document: Document) -> None:
        """A watch told of a deletion, which may be of what was there before what is known."""
        key, version = _key(document), int(document["metadata"]["resourceVersion"])
        known = self._one(kind, key)
        if known is None or known.version <= version:
            self._gone(kind, key, version)

    def is_old(self, kind: Kind, metadata: Document) -> bool:
        """Whether a listed object is as it is known, or older: then nothing has to be done."""
        known = self._one(kind, (metadata["namespace"], metadata["name"]))
        return known is not None and known.version >= int(metadata["resourceVersion"])

    def news(self, kind: Kind, items: list[Document]) -> list[Document]:
        """Of what a watch has listed, what isn't known yet; the watch has been heard."""
        if items:
            self.hear(kind)
        return [item for item in items if not self.is_old(kind, item["metadata"])]

    def _one(self, kind: Kind, key: Key) -> Seen | Child | None:
        world = self.reconciler.world
        if kind is FUNCTION:
            return world.functions.get(key)
        return world.stores.get(key) if kind is STORE else world.children.get((kind.kind, *key))

    # --- taking in ---

    def take(self, document: Document, kind: Kind) -> None:
        """Take in an object, and have looked at what depends on it."""
        reconciler = self.reconciler
        if kind is FUNCTION:
            if reconciler.world.see(document, reconciler.world.functions):
                reconciler.function(_key(document))
        elif kind is STORE:
            if reconciler.world.see(document, reconciler.world.stores):
                reconciler.well(*_key(document))
        else:
            child = reconciler.world.see_child(document)
            if child is not None:
                self._wake(child.namespace, child.labels, 0.2 if kind is DEPLOYMENT else 0.0)

    def _take(self, document: Document, kind: Kind) -> None:
        world = self.reconciler.world
        if kind in {FUNCTION, STORE}:
            world.see(document, world.functions if kind is FUNCTION else world.stores)
        else:
            world.see_child(document)


def _key(document: Document) -> Key:
    return document["metadata"]["namespace"], document["metadata"]["name"]
