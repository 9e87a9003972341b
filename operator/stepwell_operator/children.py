"""Apply what the builders state, where the world differs from it; delete what nobody needs."""

from collections.abc import Collection, Iterable

import structlog

from stepwell_operator.cluster import (
    BUDGET,
    CONFIG_MAP,
    DEPLOYMENT,
    NETWORK_POLICY,
    SERVICE,
    SERVICE_ACCOUNT,
    Cluster,
    Document,
    Kind,
    Refused,
    kind_of,
)
from stepwell_operator.drift import is_as_stated, undoing
from stepwell_operator.facts import WellFacts
from stepwell_operator.names import APPLIED, GATEWAY
from stepwell_operator.resources.gateway import GatewaySpec, gateway_objects, named
from stepwell_operator.resources.pool import Around, pool_objects
from stepwell_operator.reviewers import Reviewers
from stepwell_operator.settings import Settings
from stepwell_operator.settling import Owners
from stepwell_operator.target import PoolSpec
from stepwell_operator.world import Child, Key, Place, Seen, World, read_child, rest_of

_Mark = tuple[int, str, tuple[str, ...]]
"""The version of a child; the seal and the owners of the document that it was compared with."""
POOL_KINDS = (BUDGET, NETWORK_POLICY, DEPLOYMENT)
GATEWAY_KINDS = (DEPLOYMENT, SERVICE, SERVICE_ACCOUNT, BUDGET, NETWORK_POLICY)


class Children:
    """What the operator makes in users' namespaces."""

    def __init__(self, cluster: Cluster, settings: Settings, world: World) -> None:
        self._cluster = cluster
        self._settings = settings
        self._world = world
        self._reviewers = Reviewers(cluster, settings.token_reviewers)
        self._settled: dict[Place, _Mark] = {}
        """Versions that are as stated, or that the server made of our document (it rewrites some values)."""
        self._log = structlog.get_logger("stepwell.operator")

    def owned_by(self, seen: Seen) -> set[str]:
        """The pools whose Deployments name this function as an owner."""
        return self._world.owned.get(seen.uid, set()).copy()

    async def ensure_pool(self, pool: PoolSpec, well: WellFacts, namespace: str, owners: Owners, replicas: int) -> str | None:
        """Make a pool's objects what they should be; what the API server said if it refused one."""
        settings = self._settings
        around = Around(namespace, well.secret, well.digest, settings.runner_image, settings.pull_policy, settings.network_policy)
        documents = pool_objects(pool, around, owners.wanted, replicas)
        refused = await self._ensure(documents, any_owners=owners.put_off)
        await self._delete_others(namespace, pool.id, documents)
        return refused

    def owners_of_pool(self, namespace: str, pool: str) -> list[frozenset[str]]:
        """The uids that own a pool's Deployment, if it is there."""
        child = self._world.deployment(namespace, pool)
        return [frozenset(child.owners)] if child is not None else []

    def told_owners_of_pool(self, namespace: str, pool: str) -> frozenset[str]:
        """Those of whom the Deployment was last said to be, or seen to be as it should."""
        mark = self._settled.get((DEPLOYMENT.kind, namespace, pool))
        return frozenset(mark[2]) if mark is not None else frozenset()

    def lost_pool(self, namespace: str, pool: str) -> bool:
        """Whether something of a pool that was made is gone, and not because we deleted it."""
        return self._lost(namespace, f"{pool}-code", (CONFIG_MAP,)) or self._lost(namespace, pool, POOL_KINDS)

    def lost_gateway(self, namespace: str, store: str) -> bool:
        """Whether something of a gateway that was made is gone, and not because we deleted it."""
        return self._lost(namespace, named(GATEWAY, store), GATEWAY_KINDS)

    def _lost(self, namespace: str, name: str, kinds: Iterable[Kind]) -> bool:
        places = [(kind.kind, namespace, name) for kind in kinds]
        return any(place in self._settled and place not in self._world.children for place in places)

    def forget_lost(self) -> None:
        """Remember no more what is gone: nobody has made it again."""
        self._settled = {place: mark for place, mark in self._settled.items() if place in self._world.children}

    async def drop_pool(self, namespace: str, pool: str) -> None:
        """Delete everything that a pool consists of."""
        # The Deployment last: by it the next operator knows that there is something to delete.
        await self._delete(namespace, f"{pool}-code", (CONFIG_MAP,))
        await self._delete(namespace, pool, POOL_KINDS)

    async def ensure_gateway(self, well: WellFacts, owners: Owners) -> str | None:
        """Make a well's gateway what it should be."""
        settings = self._settings
        spec = GatewaySpec(
            namespace=well.namespace,
            store=well.store,
            store_digest=well.digest,
            image=settings.runner_image,
            pull_policy=settings.pull_policy,
            replicas=settings.gateway_replicas,
            network_policy=settings.network_policy,
            tokens=bool(settings.token_reviewers),
            keep=settings.gateway_keep,
        )
        documents = gateway_objects(spec, owners.wanted)
        refused = await self._ensure(documents, any_owners=owners.put_off)
        await self._delete_others(spec.namespace, spec.name, documents)
        await self._reviewers.add(spec.namespace, spec.name)
        return refused

    def has_gateway(self, namespace: str, store: str) -> bool:
        """Whether a pod of a well's gateway is ready."""
        child = self._world.deployment(namespace, named(GATEWAY, store))
        return child is not None and child.ready > 0

    def owners_of_gateway(self, namespace: str, store: str) -> list[frozenset[str]]:
        """The uids that own each of the gateway's objects that are there."""
        name = named(GATEWAY, store)
        there = (self._world.children.get((kind.kind, namespace, name)) for kind in GATEWAY_KINDS)
        return [frozenset(child.owners) for child in there if child is not None]

    async def drop_gateway(self, namespace: str, store: str) -> None:
        """Delete a well's gateway."""
        await self._delete(namespace, named(GATEWAY, store), GATEWAY_KINDS)
        await self._reviewers.remove(namespace, named(GATEWAY, store))

    async def tidy_reviewers(self, used: Collection[Key]) -> None:
        """Let gateways ask no more that went unseen; `used` are the wells in use, by namespace and store.

        Only those that are named as ours are, in namespaces that are watched here, go; and none that is there still.
        """
        accounts = {(namespace, named(GATEWAY, store)) for namespace, store in used}
        watched = self._settings.namespaces

        def wanted(namespace: str, account: str) -> bool:
            ours = account == GATEWAY or account.startswith(f"{GATEWAY}-")
            there = (SERVICE_ACCOUNT.kind, namespace, account) in self._world.children
            return not ours or there or (namespace, account) in accounts or (bool(watched) and namespace not in watched)

        await self._reviewers.keep(wanted)

    async def _ensure(self, documents: Iterable[Document], *, any_owners: bool = False) -> str | None:
        refused: str | None = None
        for document in documents:
            metadata = document["metadata"]
            place = (document["kind"], metadata["namespace"], metadata["name"])
            child = self._world.children.get(place)
            if child is not None:
                if self._settled.get(place) == _mark(child, document):
                    continue
                if is_as_stated(child, document, any_owners=any_owners):
                    if not any_owners:
                        self._settled[place] = _mark(child, document)
                    continue
                if child.kind == CONFIG_MAP.kind and child.rest != rest_of(document):
                    # The code of a pool is immutable, and so would somebody else's in its place be.
                    await self._delete(metadata["namespace"], metadata["name"], (CONFIG_MAP,))
            try:
                await self._apply(document, place)
            except Refused as error:
                refused = refused or str(error)
        return refused

    async def _apply(self, document: Document, place: Place) -> None:
        made = await self._cluster.apply(document)
        if not is_as_stated(read_child(made), document) and "spec" in document:
            # What somebody added to our lists and selectors is theirs under server-side apply: a merge patch takes it out.
            made = await self._cluster.merge(
                kind_of(document), place[1], place[2], {"spec": undoing(made["spec"], document["spec"])}
            )
        self._world.see_child(made)
        self._settled[place] = _mark(read_child(made), document)

    async def _delete_others(self, namespace: str, name: str, documents: Iterable[Document]) -> None:
        """Delete what was asked for once and isn't among these any more."""
        stated = {document["kind"] for document in documents}
        await self._delete(namespace, name, [kind for kind in (BUDGET, NETWORK_POLICY) if kind.kind not in stated])

    async def _delete(self, namespace: str, name: str, kinds: Iterable[Kind]) -> None:
        for kind in kinds:
            child = self._world.children.get((kind.kind, namespace, name))
            if child is not None and not child.deleting:
                await self._cluster.delete(kind, namespace, name, child.uid)
                self._world.forget_child((kind.kind, namespace, name), child.uid)
            self._settled.pop((kind.kind, namespace, name), None)


def _mark(child: Child, document: Document) -> _Mark:
    metadata = document["metadata"]
    return child.version, metadata["annotations"][APPLIED], tuple(owner["uid"] for owner in metadata["ownerReferences"])
