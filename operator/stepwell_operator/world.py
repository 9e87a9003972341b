"""What the operator knows of the cluster: small records made from watch events, replaced whole by a census.

Nothing is decided here. Big parts (specs) are kept as JSON bytes, so that ten thousand functions with their Deployments fit.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import orjson

from stepwell_operator.names import APPLIED, GROUP, PAUSE, PAUSED_BY, POOL_ID, digest

Key = tuple[str, str]
"""Namespace and name."""

Document = dict[str, Any]


def mapping(value: Any) -> Document:
    """A part of a document that may be missing, or be something else than the schema says."""
    return cast("Document", value) if isinstance(value, dict) else {}


def listed(value: Any) -> list[Document]:
    """The mappings of a list that may be missing, or be something else than the schema says."""
    return [cast("Document", one) for one in cast("list[Any]", value) if isinstance(one, dict)] if isinstance(value, list) else []


@dataclass(slots=True)
class Seen:
    """An object as last seen. `spec` and `status` are JSON; `version` its resourceVersion as a number."""

    namespace: str
    name: str
    uid: str
    version: int
    generation: int
    created: str
    deleting: bool
    annotations: dict[str, str]
    finalizers: tuple[str, ...]
    spec: bytes
    status: bytes
    deleted: str = ""
    """When its deletion was asked for, as Kubernetes writes it."""

    @property
    def key(self) -> Key:
        """Namespace and name."""
        return (self.namespace, self.name)

    @property
    def paused(self) -> bool:
        """Whether an annotation suspends it."""
        return self.annotations.get(PAUSE, "").lower() in {"true", "1", "yes"}

    @property
    def paused_by(self) -> str:
        """Who has its runs wait, by an annotation; empty if nobody has."""
        return self.annotations.get(PAUSED_BY, "").strip()[:100]


Place = tuple[str, str, str]
"""Kind, namespace and name."""


@dataclass(slots=True)
class Child:
    """Something that we made, as last seen; the counts are a Deployment's."""

    kind: str
    namespace: str
    name: str
    uid: str
    version: int
    generation: int
    observed: int
    applied: str
    labels: dict[str, str]
    owners: tuple[str, ...]
    desired: int
    replicas: int
    updated: int
    ready: int
    spec: bytes
    deleting: bool
    stuck: str = ""
    """The message of `Progressing=False`, if the rollout is stuck."""
    rest: str = ""
    """A hash of what is stated beside `spec`."""

    @property
    def settled(self) -> bool:
        """Whether the Deployment's controller has seen the newest spec and all pods run it, ready."""
        return self.observed >= self.generation and self.updated == self.desired == self.ready


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a pod isn't ready: a stable reason of `RunnersAvailable`, a sentence, and the kubelet's or scheduler's own word."""

    reason: str
    message: str
    pod: str = ""


@dataclass(slots=True)
class World:
    """Everything seen, by namespace and name. `changed` is told which functions and namespaces to look at again."""

    functions: dict[Key, Seen] = field(default_factory=dict[Key, Seen])
    stores: dict[Key, Seen] = field(default_factory=dict[Key, Seen])
    children: dict[Place, Child] = field(default_factory=dict[Place, Child])
    owned: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By a function's uid: the names of the Deployments that it owns."""
    troubles: dict[Key, dict[str, Trouble]] = field(default_factory=lambda: defaultdict(dict))
    """By namespace and pool id: pods that aren't well."""
    by_namespace: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    gone: dict[Key, int] = field(default_factory=dict[Key, int])
    """Versions at which functions were deleted, so that late news doesn't bring them back."""
    gone_stores: dict[Key, int] = field(default_factory=dict[Key, int])
    gone_children: dict[Place, int] = field(default_factory=dict[Place, int])

    def see(self, document: dict[str, Any], into: dict[Key, Seen]) -> bool:
        """Take in an object that is there; False if nothing changed that anybody acts on, or the news is old.

        Old is what has a lower version, also of another object by that name: versions of one kind come from one counter.
        """
        seen = read_seen(document)
        before = into.get(seen.key)
        if seen.version <= max(self._gone_from(into).get(seen.key, -1), before.version if before is not None else -1):
            return False
        into[seen.key] = seen
        if into is self.functions:
            self.by_namespace[seen.namespace].add(seen.name)
        return (
            before is None
            or before.uid != seen.uid
            or (before.generation, before.deleting, before.annotations, before.finalizers, before.status)
            != (seen.generation, seen.deleting, seen.annotations, seen.finalizers, seen.status)
        )

    def forget(self, key: Key, into: dict[Key, Seen], version: int = 0) -> bool:
        """Take out an object that is gone, since `version` if somebody said so; whether it was known."""
        known = into.pop(key, None)
        if into is self.functions:
            self.by_namespace[key[0]].discard(key[1])
            if not self.by_namespace[key[0]]:
                del self.by_namespace[key[0]]
        _keep_latest(self._gone_from(into), key, max(version, known.version if known else 0))
        return known is not None

    def _gone_from(self, into: dict[Key, Seen]) -> dict[Key, int]:
        return self.gone if into is self.functions else self.gone_stores

    def see_child(self, document: dict[str, Any]) -> Child | None:
        """Take in something of ours; None if the news is old."""
        child = read_child(document)
        place = (child.kind, child.namespace, child.name)
        before = self.children.get(place)
        if child.version <= max(self.gone_children.get(place, -1), before.version if before is not None else -1):
            return None
        if child.kind == "Deployment":
            self._own(before, child)
        self.children[place] = child
        return child

    def forget_child(self, place: Place, uid: str | None = None, version: int = 0) -> Child | None:
        """Take out something that is gone, since `version` if somebody said so; None if it wasn't known, or is another by now."""
        known = self.children.get(place)
        if known is not None and uid is not None and known.uid != uid and known.version >= version:
            return None
        _keep_latest(self.gone_children, place, max(version, known.version if known else 0))
        if known is not None and known.kind == "Deployment":
            self._own(known, None)
        return self.children.pop(place, None)

    def _own(self, before: Child | None, after: Child | None) -> None:
        for uid in before.owners if before else ():
            self.owned[uid].discard(before.name if before else "")
            if not self.owned[uid]:
                del self.owned[uid]
        if after is not None and POOL_ID in after.labels:
            for uid in after.owners:
                self.owned[uid].add(after.name)

    def deployment(self, namespace: str, name: str) -> Child | None:
        """A Deployment of ours."""
        return self.children.get(("Deployment", namespace, name))

    def functions_in(self, namespace: str) -> Iterator[Seen]:
        """The functions of a namespace."""
        for name in sorted(self.by_namespace.get(namespace, ())):
            yield self.functions[namespace, name]

    def tell_trouble(self, place: Key, pod: str, trouble: Trouble | None) -> bool:
        """Note what is wrong with a pod of a pool, or that nothing is; whether that is news."""
        before = self.troubles[place].pop(pod, None) if place in self.troubles else None
        if trouble is not None:
            self.troubles[place][pod] = trouble
        elif place in self.troubles and not self.troubles[place]:
            del self.troubles[place]
        return trouble != before

    def trouble(self, namespace: str, pool: str) -> Trouble | None:
        """What keeps the pods of a pool from running; the worst first."""
        found = self.troubles.get((namespace, pool))
        if not found:
            return None
        return min(found.values(), key=lambda one: (SEVERITY.index(one.reason), one.message))


K = TypeVar("K", Key, Place)
MOST_GONE = 10_000


def _keep_latest(gone: dict[K, int], key: K, version: int) -> None:
    gone[key] = max(version, gone.pop(key, 0))
    while len(gone) > MOST_GONE:
        del gone[next(iter(gone))]


SEVERITY = ("HandlerImportFailed", "ImagePullFailed", "ConfigError", "CrashLooping", "Unschedulable")


def read_seen(document: dict[str, Any]) -> Seen:
    """A record of a DurableFunction or DurableStore."""
    metadata = document["metadata"]
    annotations = mapping(metadata.get("annotations"))
    return Seen(
        metadata["namespace"],
        metadata["name"],
        metadata["uid"],
        int(metadata["resourceVersion"]),
        int(metadata.get("generation") or 0),
        metadata.get("creationTimestamp") or "",
        bool(metadata.get("deletionTimestamp")),
        {name: value for name, value in annotations.items() if name.startswith(f"{GROUP}/")},
        tuple(metadata.get("finalizers") or ()),
        _packed(document.get("spec")),
        _packed(_readable(mapping(document.get("status")))),
        metadata.get("deletionTimestamp") or "",
    )


def _packed(value: Any) -> bytes:
    """JSON in a buffer of its own size: what orjson returns keeps the buffer it was written to, kilobytes more."""
    return bytes(memoryview(orjson.dumps(value)))


CONDITION = ("type", "status", "reason", "message", "lastTransitionTime")


def _readable(status: Document) -> Document:
    """A status without conditions that are none; who may write a status may have written anything."""
    if "conditions" not in status:
        return status
    whole = [one for one in listed(status["conditions"]) if all(isinstance(one.get(name), str) for name in CONDITION)]
    return status | {"conditions": whole}


def read_child(document: dict[str, Any]) -> Child:
    """A record of something of ours."""
    metadata, spec, status = document["metadata"], mapping(document.get("spec")), mapping(document.get("status"))
    conditions = {one["type"]: one for one in listed(status.get("conditions"))}
    progressing = mapping(conditions.get("Progressing"))
    return Child(
        document["kind"],
        metadata["namespace"],
        metadata["name"],
        metadata["uid"],
        int(metadata["resourceVersion"]),
        int(metadata.get("generation") or 0),
        int(status.get("observedGeneration") or 0),
        mapping(metadata.get("annotations")).get(APPLIED, ""),
        mapping(metadata.get("labels")),
        tuple(sorted(owner["uid"] for owner in listed(metadata.get("ownerReferences")))),
        int(spec.get("replicas") or 0),
        int(status.get("replicas") or 0),
        int(status.get("updatedReplicas") or 0),
        int(status.get("readyReplicas") or 0),
        _packed(spec) if spec else b"",
        bool(metadata.get("deletionTimestamp")),
        str(progressing.get("message") or "") if progressing.get("status") == "False" else "",
        rest_of(document),
    )


BESIDE_SPEC = {"ConfigMap": ("data", "binaryData", "immutable"), "ServiceAccount": ("automountServiceAccountToken",)}


def rest_of(document: Mapping[str, Any]) -> str:
    """A hash of what a document states beside `spec`: other than a spec, this the API server leaves as it is."""
    names = BESIDE_SPEC.get(document["kind"], ())
    return digest([document.get(name) for name in names]) if names else ""


def pool_of(document: dict[str, Any]) -> str | None:
    """The pool id on a child's label."""
    return mapping(document["metadata"].get("labels")).get(POOL_ID)


def read_trouble(pod: dict[str, Any]) -> Trouble | None:
    """Why a pod doesn't run, or None."""
    status = mapping(pod.get("status"))
    statuses: list[dict[str, Any]] = [*listed(status.get("initContainerStatuses")), *listed(status.get("containerStatuses"))]
    for container in statuses:
        found = _container_trouble(container)
        if found is not None:
            return found
    for condition in listed(status.get("conditions")):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return Trouble("Unschedulable", _first_line(condition.get("message") or "no node takes the pod"), "Unschedulable")
    return None


WAITING = {
    "ImagePullBackOff": "ImagePullFailed",
    "ErrImagePull": "ImagePullFailed",
    "InvalidImageName": "ImagePullFailed",
    "ErrImageNeverPull": "ImagePullFailed",
    "CreateContainerConfigError": "ConfigError",
    "CreateContainerError": "ConfigError",
    "RunContainerError": "ConfigError",
    "CrashLoopBackOff": "CrashLooping",
}


def _container_trouble(container: dict[str, Any]) -> Trouble | None:
    state = mapping(container.get("state"))
    waiting = mapping(state.get("waiting"))
    ended = mapping(state.get("terminated") or mapping(container.get("lastState")).get("terminated"))
    reason = WAITING.get(waiting.get("reason") or "")
    if container.get("ready"):
        return None
    if ended and ended.get("exitCode"):
        said = _first_line(ended.get("message") or "")
        if said.startswith("HandlerImportFailed:"):
            return Trouble("HandlerImportFailed", said.removeprefix("HandlerImportFailed:").strip(), "HandlerImportFailed")
        if reason in {None, "CrashLooping"}:
            why = ended.get("reason") or "Error"
            told = f"the runner ended with exit code {ended['exitCode']} ({why})" + (f": {said}" if said else "")
            return Trouble("CrashLooping", told, why if why == "OOMKilled" else "CrashLoopBackOff")
    if reason is not None:
        return Trouble(reason, _first_line(waiting.get("message") or waiting["reason"]), waiting["reason"])
    return None


def _first_line(text: str) -> str:
    lines = [line.strip() for line in str(text).splitlines() if line.strip()]
    return lines[0][:300] if lines else ""


def owners_of(functions: Iterable[Seen]) -> list[dict[str, Any]]:
    """Owner references to these functions, in a stable order."""
    return [
        {"apiVersion": "stepwell.dev/v1alpha1", "kind": "DurableFunction", "name": one.name, "uid": one.uid}
        for one in sorted(functions, key=lambda one: one.name)
    ]
