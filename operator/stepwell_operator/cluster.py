"""The Kubernetes API, in plain dicts: the one module that imports the Kubernetes client.

Every call has a time-out. What the server says no to is one of the errors below; nothing is retried here, since whoever
reconciles tries again from the top.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
import orjson
from kubernetes.aio import client, config

from stepwell.errors import StepwellError

MANAGER = "stepwell-operator"
TIMEOUT = 30.0
AT_ONCE = 8
"""So many calls of `few_at_once` are under way together."""
PAGE = 100
"""Objects a page: a parsed Deployment takes 40 KB, and a page is parsed whole."""
METADATA_PAGE = 500
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
METADATA_OF_ONE = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

Document = dict[str, Any]
K = TypeVar("K")
T = TypeVar("T")


class ClusterError(StepwellError):
    """The API server could not be asked, or answered with a server error: try again later, after `after` seconds."""

    code = "DF0710"

    def __init__(self, message: str, status: int = 0, after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.after = after


class NotThere(ClusterError):
    """404: the object, its namespace or its kind is not there."""

    code = "DF0711"


class Conflict(ClusterError):
    """409: it changed, or is there already."""

    code = "DF0712"


class Refused(ClusterError):
    """The object was refused (400, 403 of an admission rule, 422): trying again unchanged is of no use."""

    code = "DF0713"


class Forbidden(ClusterError):
    """401 or 403: a right is missing."""

    code = "DF0714"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object and where it is found."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None = None, name: str | None = None, part: str | None = None) -> str:
        """The path of a collection, an object or a part of it such as its status."""
        root = f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"
        place = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
        return root + place + f"/{self.plural}" + (f"/{quote(name, safe='')}" if name else "") + (f"/{part}" if part else "")


FUNCTION = Kind("stepwell.dev/v1alpha1", "DurableFunction", "durablefunctions")
STORE = Kind("stepwell.dev/v1alpha1", "DurableStore", "durablestores")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
SECRET = Kind("v1", "Secret", "secrets")
SERVICE = Kind("v1", "Service", "services")
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
BUDGET = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
POD = Kind("v1", "Pod", "pods")
EVENT = Kind("events.k8s.io/v1", "Event", "events")
NAMESPACE = Kind("v1", "Namespace", "namespaces", namespaced=False)
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")
CLUSTER_ROLE_BINDING = Kind("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False)
ACCESS_REVIEW = Kind("authorization.k8s.io/v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", namespaced=False)

KINDS = {
    (one.api_version, one.kind): one
    for one in (DEPLOYMENT, CONFIG_MAP, SECRET, SERVICE, SERVICE_ACCOUNT, BUDGET, NETWORK_POLICY, FUNCTION, STORE)
}


def kind_of(document: Mapping[str, Any]) -> Kind:
    """The kind of a document that we made."""
    return KINDS[document["apiVersion"], document["kind"]]


@dataclass(slots=True)
class Acts:
    """What one piece of work has written, to the cluster or elsewhere."""

    made: list[str] = field(default_factory=list[str])


_acts: ContextVar[Acts | None] = ContextVar("acts", default=None)


@contextmanager
def watched() -> Generator[Acts]:
    """Note what is written within the block, and by the tasks that begin in it."""
    acts = Acts()
    entered = _acts.set(acts)
    try:
        yield acts
    finally:
        _acts.reset(entered)


def note_act(what: str) -> None:
    """Say that something was written; who watches hears it."""
    acts = _acts.get()
    if acts is not None:
        acts.made.append(what)


class Cluster:
    """Calls to one API server. `calls` counts them by verb and kind, `answers` by the status of the answer too (0: none came).

    `may_write` is asked before each write. The Lease and questions about rights are for everybody.
    """

    def __init__(self, api: client.ApiClient) -> None:
        self._api: Any = api  # its calls are typed by halves
        self.calls: dict[tuple[str, str], int] = {}
        self.answers: dict[tuple[str, str, int], int] = {}
        self.may_write: Callable[[], bool] = lambda: True

    def to_write(self) -> None:
        """Raise ClusterError unless this operator may write, here and to wells: to be called right before each write."""
        if not self.may_write():
            raise ClusterError("the lease was not renewed in time: another operator may lead by now, so nothing is written")

    async def close(self) -> None:
        """Let go of the connections."""
        await self._api.close()

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Document | None:
        """One object, or None."""
        try:
            return await self._call("get", kind, "GET", kind.path(namespace, name))
        except NotThere:
            return None

    async def version(self, kind: Kind, namespace: str, name: str) -> str:
        """What differs whenever an object does, without its content; empty if it isn't there."""
        try:
            found = await self._call("get", kind, "GET", kind.path(namespace, name), accept=METADATA_OF_ONE)
        except NotThere:
            return ""
        return f"{found['metadata']['uid']}/{found['metadata']['resourceVersion']}"

    async def metadata(self, kind: Kind, namespace: str | None, selector: str | None = None) -> AsyncIterator[Document]:
        """The metadata of every object of a kind, in pages, at the newest version the server has at hand."""
        async for item in self._items(kind, namespace, selector, METADATA_PAGE, METADATA_ONLY):
            yield item["metadata"]

    async def list(self, kind: Kind, namespace: str | None, selector: str | None = None) -> AsyncIterator[Document]:
        """Every object of a kind, in pages."""
        async for item in self._items(kind, namespace, selector, PAGE, "application/json"):
            yield item

    async def _items(
        self, kind: Kind, namespace: str | None, selector: str | None, page: int, accept: str
    ) -> AsyncIterator[Document]:
        query = {"limit": str(page)}
        if selector:
            query["labelSelector"] = selector
        while True:
            found = await self._call("list", kind, "GET", kind.path(namespace), query=query, accept=accept)
            for item in found.get("items") or ():
                yield item
            more = found["metadata"].get("continue")
            if not more:
                return
            query["continue"] = more

    async def apply(self, document: Document, *, force: bool = True) -> Document:
        """Server-side apply under our name; what we state is ours from now on."""
        kind = kind_of(document)
        metadata = document["metadata"]
        query = {"fieldManager": MANAGER, "force": "true" if force else "false"}
        path = kind.path(metadata["namespace"], metadata["name"])
        return await self._call("patch", kind, "PATCH", path, document, query, content="application/apply-patch+yaml")

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Document, part: str | None = None) -> Document:
        """A JSON merge patch of an object or one part of it; lists are replaced whole."""
        path = kind.path(namespace, name, part)
        query = {"fieldManager": MANAGER}
        return await self._call("patch", kind, "PATCH", path, patch, query, content="application/merge-patch+json")

    async def create(self, kind: Kind, namespace: str | None, document: Document) -> Document:
        """Make an object; Conflict if it is there."""
        return await self._call("create", kind, "POST", kind.path(namespace), document, {"fieldManager": MANAGER})

    async def replace(self, kind: Kind, namespace: str, name: str, document: Document) -> Document:
        """Write an object whole; Conflict unless its resourceVersion is still the newest."""
        return await self._call("update", kind, "PUT", kind.path(namespace, name), document, {"fieldManager": MANAGER})

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str | None = None) -> bool:
        """Delete an object (only that very one, if its uid is given), its children in the background; False if it was gone."""
        options: Document = {"propagationPolicy": "Background"}
        if uid:
            options["preconditions"] = {"uid": uid}
        try:
            await self._call("delete", kind, "DELETE", kind.path(namespace, name), options)
        except NotThere:
            return False
        return True

    async def ask(self, path: str) -> Document:
        """GET any path."""
        return (await self._send("GET", path, None, {}, "application/json", "application/json"))[1]

    async def _call(  # noqa: PLR0913 - one call, all its parts
        self,
        verb: str,
        kind: Kind,
        method: str,
        path: str,
        body: Document | None = None,
        query: Mapping[str, str] | None = None,
        *,
        content: str = "application/json",
        accept: str = "application/json",
    ) -> Document:
        if method != "GET" and kind not in {LEASE, ACCESS_REVIEW}:
            self.to_write()
        self.calls[verb, kind.plural] = self.calls.get((verb, kind.plural), 0) + 1
        try:
            status, document = await self._send(method, path, body, query or {}, content, accept)
        except ClusterError as error:
            self._answered(verb, kind, error.status)
            raise
        self._answered(verb, kind, status)
        if method != "GET":
            note_act(f"{verb} {kind.plural}")
        return document

    def _answered(self, verb: str, kind: Kind, status: int) -> None:
        self.answers[verb, kind.plural, status] = self.answers.get((verb, kind.plural, status), 0) + 1

    async def _send(
        self, method: str, path: str, body: Document | None, query: Mapping[str, str], content: str, accept: str
    ) -> tuple[int, Document]:
        headers = {"Accept": accept, "Content-Type": content, "User-Agent": MANAGER}
        await self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = f"{self._api.configuration.host}{path}" + (f"?{urlencode(query)}" if query else "")
        try:
            answer = await self._api.rest_client.request(
                method, url, headers=headers, body=body, _request_timeout=aiohttp.ClientTimeout(total=TIMEOUT, connect=5.0)
            )
            data: bytes = await answer.read()
        except (aiohttp.ClientError, TimeoutError, ssl.SSLError, OSError) as error:
            raise ClusterError(f"the API server can't be reached: {error or type(error).__name__}") from error
        if answer.status < 300:
            return answer.status, orjson.loads(data) if data else {}
        raise _error(answer.status, data, answer.headers.get("Retry-After"), method, path)


async def few_at_once(keys: Sequence[K], ask: Callable[[K], Awaitable[T]]) -> AsyncIterator[dict[K, T]]:
    """Ask for each of these, `AT_ONCE` at a time: the answers, as many at once."""
    for start in range(0, len(keys), AT_ONCE):
        some = keys[start : start + AT_ONCE]
        yield dict(zip(some, await asyncio.gather(*map(ask, some)), strict=True))


async def connect() -> Cluster:
    """A client made from the pod's service account, else from KUBECONFIG or ~/.kube/config."""
    configuration = client.Configuration()
    configuration.retries = False
    load: Any = config
    try:
        load.load_incluster_config(client_configuration=configuration)
    except config.ConfigException:
        await load.load_kube_config(client_configuration=configuration)
    configuration.connection_pool_maxsize = 32
    await asyncio.sleep(0)
    return Cluster(client.ApiClient(configuration))


def _error(status: int, data: bytes, retry_after: str | None, method: str, path: str) -> ClusterError:
    try:
        said = orjson.loads(data)
        message, reason = str(said.get("message", "")), str(said.get("reason", ""))
    except (orjson.JSONDecodeError, AttributeError):
        message, reason = data[:200].decode(errors="replace"), ""
    text = f"{method} {path}: {status} {message}"
    if status == 404:
        return NotThere(text, status)
    if status == 409:
        return Conflict(text, status)
    if status in {400, 415, 422}:
        return Refused(text, status)
    if status in {401, 403}:
        return Refused(text, status) if _is_admission(message, reason) else Forbidden(text, status)
    return ClusterError(text, status, float(retry_after) if retry_after and retry_after.isdigit() else None)


def _is_admission(message: str, reason: str) -> bool:
    """A 403 of an admission rule (Pod Security, a quota, a namespace that is going) rather than of a missing right."""
    return reason == "Forbidden" and any(
        word in message
        for word in ("exceeded quota", "violates PodSecurity", "is being terminated", "admission", "denied the request")
    )
