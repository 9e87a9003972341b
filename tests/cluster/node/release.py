"""The chart installed on the node with Helm, and namespaces in which users apply functions."""

import asyncio
import base64
import os
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import httpx
from chart.rendering import CHART
from cluster.harness.api import Api, Object
from cluster.harness.images import Image
from cluster.harness.node import NodeCluster
from cluster.harness.python_image import image_from
from cluster.operation import DEPLOYMENTS, Place, eventually

from stepwell.store.postgres import PostgresStore

T = TypeVar("T")
NAMESPACE = "stepwell-system"
OPERATOR = f"{DEPLOYMENTS.format(NAMESPACE)}/stepwell-operator"
REGISTRY = "stepwell.test"
SYSTEM = {"pod-security.kubernetes.io/enforce": "restricted"}


def product_images() -> list[Image]:
    """The chart's two images, made of this checkout; they share their layers."""
    named = {"stepwell-operator": ["stepwell-operator"], "stepwell-runner": ["stepwell"]}
    return [image_from(f"{REGISTRY}/{name}:0.1.0", command, ["operator"]) for name, command in named.items()]


async def until(so: Callable[[], Awaitable[bool]], seconds: float) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(seconds):
        while not await so():
            await asyncio.sleep(0.2)


@dataclass(frozen=True, slots=True)
class Release:
    """Helm and a namespace of the operator's own, in which it installs."""

    node: NodeCluster
    api: Api
    helm: Path
    home: Path

    def run(self, *arguments: str) -> str:
        """Run Helm in the operator's namespace; it must succeed."""
        env = {**os.environ, "KUBECONFIG": str(self.api.kubeconfig), "HELM_NAMESPACE": NAMESPACE}
        env |= {f"HELM_{name}_HOME": str(self.home / name) for name in ("CACHE", "CONFIG", "DATA")}
        done = subprocess.run([self.helm, *arguments], check=False, capture_output=True, text=True, timeout=200, env=env)
        assert done.returncode == 0, f"helm {' '.join(arguments)}: {done.stderr.strip()}\n{self.log()}"
        return done.stdout

    def prepare(self, dsn: str = "") -> None:
        """Make the namespace, and in it the administrator's Secret."""
        self.api.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE, "labels": SYSTEM}})
        if dsn:
            data = {"dsn": base64.b64encode(dsn.encode()).decode()}
            secrets = f"/api/v1/namespaces/{NAMESPACE}/secrets"
            self.api.create(secrets, {"metadata": {"name": "stepwell-postgres"}, "data": data})

    def install(self, *values: str) -> str:
        """`helm install`, and wait for the operator; the notes."""
        sets = [part for value in (f"registry={REGISTRY}", *values) for part in ("--set", value)]
        notes = self.run("install", "stepwell", str(CHART), *sets)
        self.rolled_out()
        return notes

    def rolled_out(self) -> None:
        """Wait for the operator."""
        done = self.api.try_kubectl("-n", NAMESPACE, "rollout", "status", "deploy/stepwell-operator", "--timeout=180s")
        assert done.returncode == 0, f"{done.stderr}\n{self.log()}"

    def scale(self, replicas: int) -> None:
        """Have so many operators, and wait until it is so."""
        self.api.kubectl("-n", NAMESPACE, "scale", "deploy/stepwell-operator", f"--replicas={replicas}")
        pods = f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app.kubernetes.io%2Fcomponent%3Doperator"
        if replicas:
            self.rolled_out()
        else:
            eventually(lambda: not self.api.items(pods), 60)

    def remove(self) -> None:
        """Take away what is left of it, but the kinds; nothing waits for a hook."""
        if self.api.find(OPERATOR):
            self.run("uninstall", "stepwell")
        self.api.delete(f"/api/v1/namespaces/{NAMESPACE}")
        self.api.wait_gone(f"/api/v1/namespaces/{NAMESPACE}", 90)

    def log(self) -> str:
        """What the pods of its namespace are, and what the operators said last."""
        pods = self.api.try_kubectl("-n", NAMESPACE, "get", "pods,events").stdout
        said = self.api.try_kubectl("-n", NAMESPACE, "logs", "-l", "app.kubernetes.io/component=operator", "--tail=40").stdout
        return f"{pods}\n{said[-6000:]}"


class Town(Place):
    """A namespace on the node, its gateway and its pods."""

    def __init__(self, node: NodeCluster, api: Api, namespace: str) -> None:
        super().__init__(api, namespace)
        self.node = node
        self._gateway: httpx.Client | None = None
        self._dsn = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._gateway is not None:
            self._gateway.close()

    @property
    def core(self) -> str:
        """Where its pods, Services and Secrets are."""
        return f"/api/v1/namespaces/{self.namespace}"

    def dsn(self) -> str:
        """The address of the namespace's well, from this side; the API server is asked once."""
        if not self._dsn:
            inside = urlsplit(super().dsn())
            port = self.node.reach(inside.hostname or "", inside.port or 5432)
            self._dsn = inside._replace(netloc=f"{inside.username}:{inside.password}@127.0.0.1:{port}").geturl()
        return self._dsn

    async def ask_store(self, ask: Callable[[PostgresStore], Awaitable[T]]) -> T:
        """Ask the namespace's well something."""
        store = PostgresStore(self.dsn())
        await store.open()
        try:
            return await ask(store)
        finally:
            await store.close()

    def learn(self) -> str:
        """Ask the API server for all that is needed to do without it; gives the key for events."""
        self.dsn()
        assert self.gateway.base_url
        return self.key("event-key")

    @property
    def gateway(self) -> httpx.Client:
        """The namespace's gateway with its key, through the Service; the API server is asked once."""
        if self._gateway is None:
            address = self.api.get(f"{self.core}/services/stepwell-gateway")["spec"]["clusterIP"]
            headers = {"Authorization": f"Bearer {self.key('key')}"}
            base = f"http://127.0.0.1:{self.node.reach(address, 8288)}"
            self._gateway = httpx.Client(base_url=base, headers=headers, timeout=20, trust_env=False)
            eventually(self.answers, 30)  # a Service leads to a pod some time after that is ready
        return self._gateway

    def answers(self) -> bool:
        """Whether the gateway is ready, asked through its Service."""
        try:
            return self.gateway.get("/ready").status_code == 200
        except httpx.TransportError:
            return False

    def key(self, name: str) -> str:
        """A key out of the Secret `stepwell-gateway`."""
        return base64.b64decode(self.api.get(f"{self.core}/secrets/stepwell-gateway")["data"][name]).decode()

    def send(self, key: str, *events: Object) -> list[str]:
        """Send events with the key for events; the ids of the runs that they started are asked for later, by these ids."""
        answer = self.gateway.post(f"/e/{key}", json=list(events), headers={"Authorization": ""})
        assert answer.status_code == 200, answer.text
        results = answer.json()["results"]
        assert {one["status"] for one in results} == {"accepted"}, results
        return [one["id"] for one in results]

    def ask(self, path: str) -> Any:
        """The `data` of one of the gateway's pages."""
        answer = self.gateway.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def run_of(self, event: str, seconds: float = 30) -> Object:
        """The run that an event started, once it has ended."""

        def ended() -> Object | None:
            [run] = self.ask(f"/v1/events/{event}/runs") or [{"status": "none", "run_id": ""}]
            over = run["status"] in {"COMPLETED", "FAILED", "CANCELLED"}
            return self.ask(f"/v1/runs/{run['run_id']}") if over else None

        found = eventually(ended, seconds)
        assert found is not None
        return found

    def pods(self, component: str = "runner") -> list[Object]:
        """The pods of runners or of the gateway."""
        return self.api.items(f"{self.core}/pods?labelSelector=app.kubernetes.io%2Fcomponent%3D{component}")

    def containers(self, component: str = "runner") -> list[str]:
        """The ids of the containers that run, as containerd knows them."""
        states = [one for pod in self.pods(component) for one in pod["status"].get("containerStatuses", ())]
        return [one["containerID"].removeprefix("containerd://") for one in states if "running" in one["state"]]

    def kill(self, container: str) -> None:
        """SIGKILL to a container's processes; Kubernetes isn't asked."""
        self.node.ctr("tasks", "kill", "--signal", "SIGKILL", "--all", container)

    def row(self, name: str) -> list[str]:
        """The function's line in `kubectl get dfn`."""
        return self.api.kubectl("-n", self.namespace, "get", "dfn", name, "--no-headers").split()
