"""What kopf hears, handed on: a decorator and one call each. Nothing is decided here, and kopf itself writes nothing."""

import itertools
import random
from collections.abc import Iterator
from typing import Any

import kopf

from stepwell_operator.census import CHILD_KINDS, Census
from stepwell_operator.cluster import DEPLOYMENT, FUNCTION, PAGE, POD, STORE, Kind
from stepwell_operator.names import GROUP, OURS, RUNNERS
from stepwell_operator.news import news_session
from stepwell_operator.settings import Settings
from stepwell_operator.world import Document


def make_registry(census: Census) -> kopf.OperatorRegistry:
    """The handlers of one operator."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)  # pyright: ignore[reportUnknownMemberType, reportArgumentType]
    async def login(**arguments: Any) -> Any:
        found = kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)
        return news_session(found, census.news) if isinstance(found, kopf.ConnectionInfo) else None

    for kind in (FUNCTION, STORE, *CHILD_KINDS):
        _listen(registry, kind, census)

    @kopf.on.event("pods", registry=registry)  # pyright: ignore[reportUnknownMemberType, reportArgumentType]
    async def pod(event: Any, **_: Any) -> None:
        hear_pod(census, event)

    del login, pod
    return registry


def _listen(registry: kopf.OperatorRegistry, kind: Kind, census: Census) -> None:
    group, _, version = kind.api_version.rpartition("/")

    @kopf.on.event(group, version, kind.plural, registry=registry, id=f"hear-{kind.plural}")  # pyright: ignore[reportUnknownMemberType, reportArgumentType]
    async def hear(event: Any, **_: Any) -> None:
        hear_object(census, kind, event)

    del hear


def hear_object(census: Census, kind: Kind, event: dict[str, Any]) -> None:
    """An object of one of our kinds changed, is gone, or was listed (again)."""
    document: Document = {**event["object"], "apiVersion": kind.api_version, "kind": kind.kind}
    metadata = document["metadata"]
    census.hear(kind)
    if event["type"] == "DELETED":
        census.lost(kind, document)
    elif event["type"] is None and census.is_old(kind, metadata):
        return
    else:
        census.take(document, kind)
    if event["type"] is None:
        census.soon()


def hear_pod(census: Census, event: dict[str, Any]) -> None:
    """A runner pod changed: remember what is wrong with it, and tell its functions when that changes."""
    place = census.pods.hear(event)
    census.hear(POD)
    if place is not None:
        census.reconciler.pool(*place, 0.1)


class NoDiffs(kopf.DiffBaseStorage):
    """kopf's picture of what changed in an object, which nothing here asks for: making it took half the time of an event."""

    def build(self, *, body: Any, extra_fields: Any = None) -> Any:
        """An empty picture."""
        del body, extra_fields
        return {}

    def fetch(self, *, body: Any) -> None:
        """No picture is kept."""
        del body

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        """Keep nothing."""
        del body, patch, essence


class EndlessPauses:
    """kopf's pauses between tries of a call. With a list that ends, half a minute of errors would end the whole operator."""

    def __iter__(self) -> Iterator[float]:
        """Half a second, twice that, and so on up to eight, with jitter; without an end."""
        return (min(0.5 * 2**count, 8.0) * (0.75 + random.random() / 2) for count in itertools.count())  # noqa: S311


def configure(settings: kopf.OperatorSettings, own: Settings) -> None:
    """Kopf's settings: few workers that let go at once, short time-outs, no writing of its own."""
    settings.posting.enabled = False
    settings.posting.loggers = False
    settings.watching.chunk_size = PAGE
    settings.watching.connect_timeout = 10
    for kind in CHILD_KINDS:
        settings.watching.label_selectors[kind.plural] = OURS
    settings.watching.label_selectors[POD.plural] = RUNNERS
    settings.queueing.worker_limit = 100
    settings.queueing.idle_timeout = 0.2
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    settings.networking.error_backoffs = EndlessPauses()
    settings.persistence.finalizer = f"{GROUP}/unused"
    settings.persistence.diffbase_storage = NoDiffs()
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP, v1=False)
    settings.process.ultimate_exiting_timeout = 20
    settings.scanning.disabled = bool(own.namespaces)
    settings.peering.standalone = True
    settings.execution.max_workers = 2


__all__ = ["DEPLOYMENT", "configure", "hear_object", "hear_pod", "make_registry"]
