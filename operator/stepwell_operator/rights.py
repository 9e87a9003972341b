"""The rights that the operator needs, written out to the verb. The chart grants these; a test compares both with what is used."""

from collections.abc import Sequence

from stepwell_operator.cluster import ACCESS_REVIEW, Cluster, Document
from stepwell_operator.world import mapping

Right = tuple[str, str, str]
"""API group, resource (with its part) and verb."""


def _each(group: str, resource: str, verbs: str) -> list[Right]:
    return [(group, resource, verb) for verb in verbs.split()]


IN_NAMESPACES: tuple[Right, ...] = (
    *_each("stepwell.dev", "durablefunctions", "get list watch patch"),
    *_each("stepwell.dev", "durablefunctions/status", "patch"),
    *_each("stepwell.dev", "durablestores", "get list watch"),
    *_each("apps", "deployments", "get list watch create patch delete"),
    *_each("", "configmaps", "get list watch create patch delete"),
    *_each("", "services", "get list watch create patch delete"),
    *_each("", "serviceaccounts", "get list watch create patch delete"),
    *_each("", "secrets", "get create patch"),
    *_each("", "pods", "list watch"),
    *_each("", "namespaces", "get"),
    *_each("policy", "poddisruptionbudgets", "get list watch create patch delete"),
    *_each("networking.k8s.io", "networkpolicies", "get list watch create patch delete"),
    *_each("events.k8s.io", "events", "create patch"),
)
"""What is needed wherever functions are watched."""

KOPF: tuple[Right, ...] = (*_each("apiextensions.k8s.io", "customresourcedefinitions", "list watch"),)
"""What kopf needs to notice kinds that come and go, unless the namespaces to watch are written out."""

BINDING: tuple[Right, ...] = (*_each("rbac.authorization.k8s.io", "clusterrolebindings", "get update"),)
"""What is needed of the one ClusterRoleBinding whose subjects may review tokens, by its name, where that is set."""

BOUND: tuple[Right, ...] = (*_each("rbac.authorization.k8s.io", "clusterroles", "bind"),)
"""What is needed of the one ClusterRole that it binds. The API server says so when a subject is added."""

IN_OWN_NAMESPACE: tuple[Right, ...] = (
    *_each("coordination.k8s.io", "leases", "get create update"),
    *_each("", "secrets", "get"),
)
"""What is needed in the operator's own namespace."""


async def missing(cluster: Cluster, namespaces: Sequence[str], own: str, binding: str = "") -> list[str]:
    """The rights that the API server says are missing, as sentences."""
    asked = [(right, place or None, "") for right in IN_NAMESPACES for place in (namespaces or [""])]
    asked += [(right, None, "") for right in KOPF if not namespaces]
    asked += [(right, own, "") for right in IN_OWN_NAMESPACE]
    asked += [(right, None, binding) for right in BINDING if binding]
    found: list[str] = []
    for (group, resource, verb), namespace, only in asked:
        name, _, part = resource.partition("/")
        attributes: Document = {"group": group, "resource": name, "verb": verb}
        if part:
            attributes["subresource"] = part
        if namespace:
            attributes["namespace"] = namespace
        if only:
            attributes["name"] = only
        review: Document = {
            "apiVersion": ACCESS_REVIEW.api_version,
            "kind": ACCESS_REVIEW.kind,
            "spec": {"resourceAttributes": attributes},
        }
        answer = await cluster.create(ACCESS_REVIEW, None, review)
        if not mapping(answer.get("status")).get("allowed"):
            where = f"namespace {namespace}" if namespace else "the cluster"
            found.append(f"the right to {verb} {resource}{f'.{group}' if group else ''} in {where}")
    return found
