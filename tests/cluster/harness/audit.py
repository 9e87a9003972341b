"""What was asked of the API server and by whom: its audit log, read back."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

PARTS = (
    "system:apiserver",
    "system:anonymous",
    "system:kube-controller-manager",
    "system:kube-scheduler",
    "system:kube-proxy",
    "coredns",
)
# The cluster's own parts would drown what a test looks for.
POLICY: dict[str, Any] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "users": [*PARTS]},
        {"level": "None", "userGroups": ["system:nodes", "system:serviceaccounts:kube-system"]},
        {"level": "Metadata"},
    ],
}
WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: who asked, what for, and the answer's code; `stage` is ResponseStarted for a watch that still runs."""

    user: str
    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    code: int
    stage: str
    uri: str
    agent: str
    at: str

    @property
    def is_write(self) -> bool:
        """Whether it was meant to change something."""
        return self.verb in WRITES

    @property
    def rule(self) -> tuple[str, str, str]:
        """What RBAC calls it: API group, resource with its subresource, verb."""
        return self.group, f"{self.resource}/{self.subresource}" if self.subresource else self.resource, self.verb

    @classmethod
    def read(cls, line: str) -> Self:
        """From a line of the log."""
        event: dict[str, Any] = json.loads(line)
        target: dict[str, str] = event.get("objectRef", {})
        answer: dict[str, Any] = event.get("responseStatus", {})
        return cls(
            user=event["user"].get("username", ""),
            verb=event["verb"],
            group=target.get("apiGroup", ""),
            resource=target.get("resource", ""),
            subresource=target.get("subresource", ""),
            namespace=target.get("namespace", ""),
            name=target.get("name", ""),
            code=answer.get("code", 0),
            stage=event["stage"],
            uri=event["requestURI"],
            agent=event.get("userAgent", ""),
            at=event["stageTimestamp"],
        )


class AuditLog:
    """The log file, which is complete the moment that an answer has left the API server."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def mark(self) -> int:
        """Where the log ends now, for `since`."""
        return self.path.stat().st_size

    def since(self, mark: int = 0, user: str = "") -> list[Asked]:
        """What was asked after the mark, by this user or by all."""
        return [asked for asked in self._entries(mark) if user in {"", asked.user}]

    def writes(self, mark: int = 0, user: str = "") -> list[Asked]:
        """The writes alone."""
        return [asked for asked in self.since(mark, user) if asked.is_write]

    def _entries(self, mark: int) -> Iterator[Asked]:
        with self.path.open("rb") as log:
            log.seek(mark)
            for line in log:
                if line.endswith(b"\n"):
                    yield Asked.read(line.decode())
