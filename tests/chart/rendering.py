"""Render the chart and look at what came out."""

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "stepwell"
KUBERNETES = "1.34.4"
"""Helm built from its module takes itself to be of Kubernetes 1.20, so the version is said aloud."""

Object = dict[str, Any]

SETS: dict[str, tuple[str, ...]] = {
    "default": (),
    "postgres": ("store.adminSecret=stepwell-postgres",),
    "evaluation": ("evaluationStore.enabled=true", "networkPolicy.enabled=true"),
    "namespaced": ("watchNamespaces={shop,bank}", "store.adminSecret=pg", "crds.install=false", "rbac.userRoles=false"),
    "watched": ("watchNamespaces={shop,bank}", "store.adminSecret=pg", "metrics.podMonitor.enabled=true"),
    "monitored": (
        "metrics.serviceMonitor.enabled=true",
        "metrics.podMonitor.enabled=true",
        "metrics.podMonitor.gatewayToken.secret=stepwell-scrape",
        "metrics.rules.enabled=true",
        "metrics.rules.labels.release=prometheus",
        "metrics.dashboards.enabled=true",
    ),
    "single": (
        "operator.replicas=1",
        "gateway.kubernetesTokens=false",
        "cleanup.enabled=false",
        "metrics.serviceMonitor.enabled=true",
    ),
    "full": (
        "evaluationStore.enabled=true",
        "networkPolicy.enabled=true",
        "metrics.serviceMonitor.enabled=true",
        "metrics.serviceMonitor.labels.release=prometheus",
        "operator.priorityClassName=high",
        "operator.podLabels.team=platform",
        "operator.podAnnotations.note=text",
        "operator.nodeSelector.disk=ssd",
        "operator.tolerations[0].operator=Exists",
        "operator.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight=1",
        "operator.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].key=a",
        "operator.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].operator=Exists",
        "imagePullSecrets[0].name=pull",
        "serviceAccount.annotations.role=operator",
        "evaluationStore.storage.className=fast",
        "registry=registry.example/team",
    ),
}
"""Values that are tried, by name."""

MONITORING = ("--api-versions", "monitoring.coreos.com/v1")


@dataclass(frozen=True)
class Chart:
    """The chart under a Helm."""

    helm: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Helm, whatever comes of it."""
        return subprocess.run([str(self.helm), *arguments], check=False, capture_output=True, text=True, timeout=60)

    def text(self, sets: Sequence[str] = (), *more: str, release: str = "stepwell", namespace: str = "stepwell-system") -> str:
        """What `helm template` prints."""
        return _rendered(self, tuple(sets), more, release, namespace)

    def objects(self, sets: Sequence[str] = (), *more: str, **place: str) -> list[Object]:
        """The objects in it."""
        return [one for one in yaml.safe_load_all(self.text(sets, *more, **place)) if one]

    def one(self, kind: str, name: str, sets: Sequence[str] = (), *more: str) -> Object:
        """One object out of it."""
        (found,) = [one for one in self.objects(sets, *more) if (one["kind"], one["metadata"]["name"]) == (kind, name)]
        return found

    def refusal(self, *sets: str) -> str:
        """What Helm says of values that it must refuse."""
        done = self.run("template", "stepwell", str(CHART), "--kube-version", KUBERNETES, *_set(sets))
        assert done.returncode != 0, f"{sets} were taken"
        return done.stderr


@cache
def _rendered(chart: Chart, sets: tuple[str, ...], more: tuple[str, ...], release: str, namespace: str) -> str:
    place = (release, str(CHART), "--namespace", namespace, "--kube-version", KUBERNETES)
    done = chart.run("template", *place, *_set(sets), *more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _set(sets: Sequence[str]) -> list[str]:
    return [word for one in sets for word in ("--set", one)]


def summary(objects: Sequence[Object]) -> list[str]:
    """A line for each object: its kind, namespace and name, and when it is made if it isn't part of the release."""
    return sorted(_line(one) for one in objects)


def _line(one: Object) -> str:
    metadata = one["metadata"]
    hook = metadata.get("annotations", {}).get("helm.sh/hook")
    place = f"{metadata['namespace']}/" if "namespace" in metadata else ""
    return f"{one['kind']} {place}{metadata['name']}" + (f" ({hook})" if hook else "")


def pods(objects: Sequence[Object]) -> Iterator[tuple[str, Object]]:
    """The pod spec of each object that has one."""
    for one in objects:
        if one["kind"] == "Pod":
            yield _line(one), one["spec"]
        elif "template" in (one.get("spec") or {}):
            yield _line(one), one["spec"]["template"]["spec"]


def containers(pod: Object) -> list[Object]:
    """Every container of a pod."""
    return [*pod.get("initContainers", ()), *pod["containers"]]


def environment(pod: Object) -> dict[str, Object]:
    """The environment of a pod's first container, by name."""
    return {one["name"]: one for one in pod["containers"][0]["env"]}
