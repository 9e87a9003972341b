"""What every pod of ours has: Pod Security *restricted*, no token, a read-only root."""

from typing import Any

from stepwell_operator.names import APPLIED, digest

Document = dict[str, Any]
USER = 65532

CONTAINER_SECURITY: Document = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
}
POD_SECURITY: Document = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}
TMP: Document = {"name": "tmp", "emptyDir": {}}
TMP_MOUNT: Document = {"name": "tmp", "mountPath": "/tmp"}  # noqa: S108 - the container's own
RESOURCES: Document = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}


def probe(path: str, port: str, **more: int) -> Document:
    """An HTTP probe of a named port."""
    return {"httpGet": {"path": path, "port": port, "scheme": "HTTP"}, "periodSeconds": 5, "failureThreshold": 3, **more}


def secret_env(name: str, secret: str, key: str) -> Document:
    """An environment variable out of a Secret."""
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def plain_env(name: str, value: str) -> Document:
    """An environment variable."""
    return {"name": name, "value": value}


def sealed(document: Document) -> Document:
    """The document with a hash of itself, by which a later look knows that it is this one; its owners come and go without it."""
    metadata = document["metadata"]
    rest = {name: value for name, value in metadata.items() if name != "ownerReferences"}
    metadata["annotations"] = {**metadata.get("annotations", {}), APPLIED: digest(document | {"metadata": rest}, 16)}
    return document
