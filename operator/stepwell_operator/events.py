"""Kubernetes Events: at most one for each object, reason and message in ten minutes; repeats are counted in its series."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from stepwell_operator.cluster import EVENT, Cluster, ClusterError, Document
from stepwell_operator.names import OPERATOR
from stepwell_operator.world import Seen

WINDOW = 600.0
MOST_KNOWN = 5_000
MOST_WAITING = 1_000
LONGEST_NOTE = 1000


@dataclass(slots=True)
class _Told:
    name: str
    at: float
    count: int = 1


class Events:
    """Writes Events in the background; they are hints, so what can't be written is dropped."""

    def __init__(self, cluster: Cluster, pod: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._pod = pod
        self._clock = clock
        self._told: OrderedDict[str, _Told] = OrderedDict()
        self._waiting: asyncio.Queue[tuple[str, str, Document]] = asyncio.Queue(MOST_WAITING)
        self._log = structlog.get_logger("stepwell.operator")

    def tell(self, seen: Seen, kind: str, reason: str, note: str) -> None:
        """Say something of a function; `kind` is Normal or Warning."""
        mark = hashlib.sha256(f"{seen.uid}/{reason}/{note}".encode()).hexdigest()[:16]
        now = self._clock()
        told = self._told.get(mark)
        if told is not None and now - told.at < WINDOW:
            told.count += 1
            series = {"count": told.count, "lastObservedTime": _micro()}
            self._put(seen.namespace, told.name, {"series": series})
            return
        name = f"{seen.name[:40]}.{mark}.{int(time.time())}"
        self._told[mark] = _Told(name, now)
        while len(self._told) > MOST_KNOWN:
            self._told.popitem(last=False)
        self._put(seen.namespace, "", self._document(seen, name, kind, reason, note))

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            namespace, name, document = await self._waiting.get()
            try:
                if name:
                    await self._cluster.merge(EVENT, namespace, name, document)
                else:
                    await self._cluster.create(EVENT, namespace, document)
            except ClusterError as error:
                self._log.debug("an Event was not written", error=str(error))

    def _put(self, namespace: str, name: str, document: Document) -> None:
        try:
            self._waiting.put_nowait((namespace, name, document))
        except asyncio.QueueFull:
            self._log.debug("an Event was dropped", namespace=namespace)

    def _document(self, seen: Seen, name: str, kind: str, reason: str, note: str) -> Document:
        return {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {"name": name, "namespace": seen.namespace},
            "eventTime": _micro(),
            "type": kind,
            "reason": reason,
            "action": "Reconcile",
            "note": note[:LONGEST_NOTE],
            "reportingController": OPERATOR,
            "reportingInstance": self._pod,
            "regarding": {
                "apiVersion": "stepwell.dev/v1alpha1",
                "kind": "DurableFunction",
                "namespace": seen.namespace,
                "name": seen.name,
                "uid": seen.uid,
            },
        }


def _micro() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
