"""What unit tests have of an API server: objects that a test puts there. Nothing is decided by it."""

from collections.abc import AsyncIterator

from stepwell_operator.cluster import Cluster, Document, Kind


class Server(Cluster):
    """What is there, by kind and key; `asked` are the objects that were read one by one, `listed` the kinds and places."""

    def __init__(self) -> None:
        self.there: dict[tuple[str, str, str], Document] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.listed: list[tuple[str, str | None]] = []

    def put(self, kind: Kind, document: Document) -> None:
        metadata = document["metadata"]
        self.there[kind.kind, metadata["namespace"], metadata["name"]] = document

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Document | None:
        self.asked.append((kind.kind, namespace or "", name))
        return self.there.get((kind.kind, namespace or "", name))

    async def version(self, kind: Kind, namespace: str, name: str) -> str:
        found = await self.get(kind, namespace, name)
        return f"{found['metadata']['uid']}/{found['metadata']['resourceVersion']}" if found is not None else ""

    async def metadata(self, kind: Kind, namespace: str | None, selector: str | None = None) -> AsyncIterator[Document]:
        del selector
        self.listed.append((kind.kind, namespace))
        for (one, place, _), document in list(self.there.items()):
            if one == kind.kind and namespace in {None, place}:
                yield document["metadata"]


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
