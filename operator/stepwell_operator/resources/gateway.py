"""A well's gateway: Deployment, Service and ServiceAccount, one of each for a namespace and store."""

from dataclasses import dataclass

from stepwell_operator.names import GATEWAY, GATEWAY_SECRET, GROUP, PLACE, STORE_SECRET, labels
from stepwell_operator.resources.pod import (
    CONTAINER_SECURITY,
    POD_SECURITY,
    RESOURCES,
    TMP,
    TMP_MOUNT,
    Document,
    plain_env,
    probe,
    sealed,
    secret_env,
)
from stepwell_operator.target import DEFAULT_STORE

PORT = 8288


@dataclass(frozen=True, slots=True)
class GatewaySpec:
    """Whose gateway, with what. `store_digest` changes when the store's address does.

    `tokens`: it asks the API server about them. `keep`: how long it keeps history.
    """

    namespace: str
    store: str
    store_digest: str
    image: str
    pull_policy: str
    replicas: int
    network_policy: bool
    tokens: bool = False
    keep: str = "7d"

    @property
    def name(self) -> str:
        """The name of its objects."""
        return named(GATEWAY, self.store)


def named(base: str, store: str) -> str:
    """`stepwell-gateway` for the default store, `stepwell-gateway-NAME` for another."""
    return base if store == DEFAULT_STORE else f"{base}-{store}"


def gateway_objects(spec: GatewaySpec, owners: list[Document]) -> list[Document]:
    """Everything a gateway consists of, in the order in which it should be made."""
    made = [_service_account(spec, owners), _service(spec, owners), _deployment(spec, owners)]
    if spec.replicas > 1:
        made.append(_budget(spec, owners))
    if spec.network_policy:
        made.append(_network_policy(spec, owners))
    return made


def secret(namespace: str, name: str, data: dict[str, str], owners: list[Document], place: str = "") -> Document:
    """A Secret of ours; `place`: where the administrator's address led to that its address was made from."""
    metadata: Document = {"name": name, "namespace": namespace, "labels": labels("store"), "ownerReferences": owners}
    if place:
        metadata["annotations"] = {PLACE: place}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "stringData": data}


def _metadata(spec: GatewaySpec, owners: list[Document]) -> Document:
    return {
        "name": spec.name,
        "namespace": spec.namespace,
        "labels": labels("gateway", store=spec.store),
        "ownerReferences": owners,
    }


def _selector(spec: GatewaySpec) -> dict[str, str]:
    return {"app.kubernetes.io/component": "gateway", f"{GROUP}/store": spec.store}


def _service_account(spec: GatewaySpec, owners: list[Document]) -> Document:
    document: Document = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _metadata(spec, owners)}
    return sealed(document | {"automountServiceAccountToken": False})


def _service(spec: GatewaySpec, owners: list[Document]) -> Document:
    ports = [{"name": "http", "port": PORT, "targetPort": "http", "protocol": "TCP"}]
    return sealed(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _metadata(spec, owners),
            "spec": {"type": "ClusterIP", "selector": _selector(spec), "ports": ports},
        }
    )


def _budget(spec: GatewaySpec, owners: list[Document]) -> Document:
    """At most one of several is evicted at a time, so that events are taken in while nodes are drained."""
    rules = {"maxUnavailable": 1, "selector": {"matchLabels": _selector(spec)}}
    return sealed({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": _metadata(spec, owners), "spec": rules})


def _network_policy(spec: GatewaySpec, owners: list[Document]) -> Document:
    rules = {
        "podSelector": {"matchLabels": _selector(spec)},
        "policyTypes": ["Ingress"],
        "ingress": [{"ports": [{"port": PORT, "protocol": "TCP"}]}],
    }
    return sealed(
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": _metadata(spec, owners), "spec": rules}
    )


def _deployment(spec: GatewaySpec, owners: list[Document]) -> Document:
    keys = named(GATEWAY_SECRET, spec.store)
    container: Document = {
        "name": "gateway",
        "image": spec.image,
        "imagePullPolicy": spec.pull_policy,
        "command": ["stepwell", "gateway"],
        "env": [
            secret_env("STEPWELL_STORE", named(STORE_SECRET, spec.store), "dsn"),
            secret_env("STEPWELL_KEY", keys, "key"),
            secret_env("STEPWELL_EVENT_KEY", keys, "event-key"),
            plain_env("STEPWELL_HOST", "0.0.0.0"),  # noqa: S104 - guarded by the keys
            plain_env("STEPWELL_NAMESPACE", spec.namespace),
            plain_env("STEPWELL_KEEP", spec.keep),
        ],
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "readinessProbe": probe("/ready", "http", periodSeconds=2),
        "livenessProbe": probe("/health", "http", initialDelaySeconds=10, periodSeconds=10),
        "resources": RESOURCES,
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [TMP_MOUNT],
    }
    if spec.tokens:
        container["env"].append(plain_env("STEPWELL_KUBERNETES_TOKENS", "1"))
    pod: Document = {
        "automountServiceAccountToken": spec.tokens,
        "enableServiceLinks": False,
        "serviceAccountName": spec.name,
        "securityContext": POD_SECURITY,
        "terminationGracePeriodSeconds": 30,
        "containers": [container],
        "volumes": [TMP],
    }
    template = {
        "metadata": {"labels": labels("gateway", store=spec.store), "annotations": {f"{GROUP}/store": spec.store_digest}},
        "spec": pod,
    }
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    return sealed(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": _metadata(spec, owners),
            "spec": {
                "replicas": spec.replicas,
                "revisionHistoryLimit": 2,
                "selector": {"matchLabels": _selector(spec)},
                "strategy": rolling,
                "template": template,
            },
        }
    )
