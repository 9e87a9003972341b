"""A pool of runners: its Deployment, the ConfigMap with its code, its PodDisruptionBudget, its NetworkPolicy."""

from dataclasses import dataclass

from stepwell_operator.names import GROUP, POOL_ID, labels
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
from stepwell_operator.target import PoolSpec

CODE_FOLDER, CODE_KEY = "/stepwell/code", "code.py"
PORT = 8289
GRACE = 60
POD_FIELDS = ("nodeSelector", "tolerations", "imagePullSecrets", "runtimeClassName", "priorityClassName")


@dataclass(frozen=True, slots=True)
class Around:
    """What a pool's objects need to know of their surroundings. `store_digest` changes when the store's address does."""

    namespace: str
    store_secret: str
    store_digest: str
    runner_image: str
    pull_policy: str
    network_policy: bool


def pool_objects(pool: PoolSpec, around: Around, owners: list[Document], replicas: int) -> list[Document]:
    """Everything a pool consists of, in the order in which it should be made."""
    made = [code_map(pool, around, owners)] if pool.code.text is not None else []
    made.append(deployment(pool, around, owners, replicas))
    if replicas > 1:
        made.append(budget(pool, around, owners))
    if around.network_policy:
        made.append(network_policy(pool, around, owners))
    return made


def code_map(pool: PoolSpec, around: Around, owners: list[Document]) -> Document:
    """The code, immutable: other code is another pool id."""
    metadata = _metadata(f"{pool.id}-code", pool, around, owners)
    data = {CODE_KEY: pool.code.text or ""}
    return sealed({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "immutable": True, "data": data})


def deployment(pool: PoolSpec, around: Around, owners: list[Document], replicas: int) -> Document:
    """The runners. They pull their work from the store, so no Service stands before them."""
    pod_labels = {**pool.pod.get("labels", {}), **_labels(pool)}
    annotations = {**pool.pod.get("annotations", {}), f"{GROUP}/store": around.store_digest}
    spec: Document = {
        "replicas": replicas,
        "revisionHistoryLimit": 2,
        "selector": {"matchLabels": {POOL_ID: pool.id}},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": {"metadata": {"labels": pod_labels, "annotations": annotations}, "spec": _pod(pool, around)},
    }
    metadata = _metadata(pool.id, pool, around, owners)
    return sealed({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec})


def budget(pool: PoolSpec, around: Around, owners: list[Document]) -> Document:
    """At most one runner is evicted at a time."""
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": {POOL_ID: pool.id}}}
    metadata = _metadata(pool.id, pool, around, owners)
    return sealed({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata, "spec": spec})


def network_policy(pool: PoolSpec, around: Around, owners: list[Document]) -> Document:
    """Runners take connections to their metrics alone."""
    spec = {
        "podSelector": {"matchLabels": {POOL_ID: pool.id}},
        "policyTypes": ["Ingress"],
        "ingress": [{"ports": [{"port": PORT, "protocol": "TCP"}]}],
    }
    metadata = _metadata(pool.id, pool, around, owners)
    return sealed({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec})


def _labels(pool: PoolSpec) -> dict[str, str]:
    return labels("runner", pool=pool.name, pool_id=pool.id)


def _metadata(name: str, pool: PoolSpec, around: Around, owners: list[Document]) -> Document:
    return {"name": name, "namespace": around.namespace, "labels": _labels(pool), "ownerReferences": owners}


def _pod(pool: PoolSpec, around: Around) -> Document:
    given = pool.pod
    has_code = pool.code.text is not None
    spread = [{**one, "labelSelector": {"matchLabels": {POOL_ID: pool.id}}} for one in given.get("topologySpreadConstraints", ())]
    spec: Document = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": POD_SECURITY,
        "terminationGracePeriodSeconds": given.get("terminationGracePeriodSeconds", GRACE),
        "containers": [_container(pool, around)],
        "volumes": [TMP, {"name": "code", "configMap": {"name": f"{pool.id}-code"}}] if has_code else [TMP],
    }
    spec |= {name: given[name] for name in POD_FIELDS if name in given}
    if "serviceAccountName" in given:
        spec["serviceAccountName"] = given["serviceAccountName"]
    if spread:
        spec["topologySpreadConstraints"] = spread
    return spec


def _container(pool: PoolSpec, around: Around) -> Document:
    has_code = pool.code.text is not None
    grace = max(1, int(pool.pod.get("terminationGracePeriodSeconds", GRACE)) - 10)
    env = [
        secret_env("STEPWELL_STORE", around.store_secret, "dsn"),
        plain_env("STEPWELL_REGISTERED", "1"),
        plain_env("STEPWELL_POOL", pool.id),
        plain_env("STEPWELL_NAMESPACE", around.namespace),
        plain_env("STEPWELL_GRACE", f"{grace}s"),
        plain_env("STEPWELL_HEALTH_HOST", "0.0.0.0"),  # noqa: S104 - probes come from the node
        plain_env("STEPWELL_HEALTH_PORT", str(PORT)),
        plain_env("STEPWELL_TERMINATION_LOG", "/dev/termination-log"),
    ]
    if has_code:
        env.append(plain_env("STEPWELL_CODE", f"{CODE_FOLDER}/{CODE_KEY}"))
    container: Document = {
        "name": "runner",
        "image": pool.code.image or around.runner_image,
        "imagePullPolicy": around.pull_policy,
        "command": ["stepwell", "runner"],
        "env": [*env, *pool.pod.get("env", ())],
        "ports": [{"name": "metrics", "containerPort": PORT, "protocol": "TCP"}],
        "readinessProbe": probe("/ready", "metrics", periodSeconds=2),
        "livenessProbe": probe("/health", "metrics", initialDelaySeconds=10, periodSeconds=10),
        "resources": pool.pod.get("resources", RESOURCES),
        "securityContext": CONTAINER_SECURITY,
        "terminationMessagePolicy": "File",
        "volumeMounts": [TMP_MOUNT, {"name": "code", "mountPath": CODE_FOLDER, "readOnly": True}] if has_code else [TMP_MOUNT],
    }
    if pool.pod.get("envFrom"):
        container["envFrom"] = list(pool.pod["envFrom"])
    return container
