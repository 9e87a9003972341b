"""What tests of the operator share: an installed operator as a process under its real rights, functions to apply, a stand-in kubelet.

On the control plane alone no pod ever runs. `Kubelet` says of pods that they do, or what is wrong with them; everything else, from
Deployments to garbage collection, is Kubernetes' own.
"""

import asyncio
import base64
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
from cluster.harness.api import Api, Object, Refused

from stepwell.engine.cancelling import cancel_all
from stepwell.ids import Ids
from stepwell.store.postgres import PostgresStore
from stepwell.store.records import Pile, Start, TriggerKind
from stepwell_operator import rights

T = TypeVar("T")
PATIENCE = 60.0
"""How long is waited for what should be there in a second or two: a busy machine is not a fault."""

BAR = 10.0
"""In how many seconds what somebody else changed is put right or followed, on a machine of one's own."""

CRDS = Path(__file__).parents[2] / "crds"
FUNCTIONS = "/apis/stepwell.dev/v1alpha1/namespaces/{}/durablefunctions"
DEPLOYMENTS = "/apis/apps/v1/namespaces/{}/deployments"
CODE = "async def main(ctx):\n    return 1\n"
RUNNERS = "app.kubernetes.io/component=runner"


def function(name: str, code: str = CODE, **spec: Any) -> Object:
    """A DurableFunction with inline code, started by the event `go`."""
    source = {"inline": {"code": code, "handler": "main"}}
    return {
        "apiVersion": "stepwell.dev/v1alpha1",
        "kind": "DurableFunction",
        "metadata": {"name": name},
        "spec": {"triggers": [{"event": "go"}], "source": source, **spec},
    }


def condition(document: Object, kind: str) -> Object:
    """A condition of a status; an empty one if it isn't there."""
    return next((one for one in document.get("status", {}).get("conditions", []) if one["type"] == kind), {})


def says(kind: str, status: str, reason: str | None = None) -> Callable[[Object], bool]:
    """Whether an object has this condition, told of its newest spec."""

    def tell(document: Object) -> bool:
        found = condition(document, kind)
        current = document["status"].get("observedGeneration") == document["metadata"]["generation"] if found else False
        return current and found["status"] == status and reason in {None, found["reason"]}

    return tell


def crowding() -> float:
    """How many want each core, at least one: seconds of a crowded machine are shared."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


class Kubelet:
    """Says of every pod with our labels that it runs and is ready, as soon as it is there; `broken` says otherwise."""

    def __init__(self, api: Api) -> None:
        self.api = Api(api.kubeconfig, api.kubectl_path)
        self.broken: dict[tuple[str, str], Object] = {}
        """By namespace and pool id: the status of its pods."""
        self.idle = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)
        self.api.close()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            with contextlib.suppress(Refused, httpx.HTTPError, ssl_errors):
                if not self.idle:
                    self._round()

    def _round(self) -> None:
        for pod in self.api.items("/api/v1/pods?labelSelector=app.kubernetes.io%2Fname%3Dstepwell&resourceVersion=0"):
            metadata = pod["metadata"]
            if metadata.get("deletionTimestamp"):
                continue
            wanted = self.broken.get((metadata["namespace"], metadata["labels"].get("stepwell.dev/pool-id", "")))
            status = wanted or _running(pod["spec"]["containers"][0]["name"])
            if pod.get("status", {}).get("phase") != status["phase"] or wanted:
                path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status"
                with contextlib.suppress(Refused):
                    self.api.patch(path, {"status": status})


ssl_errors = OSError


def _running(container: str) -> Object:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    ready = [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in ("Ready", "ContainersReady", "PodScheduled")]
    state = {
        "name": container,
        "ready": True,
        "restartCount": 0,
        "image": "x",
        "imageID": "x",
        "state": {"running": {"startedAt": now}},
    }
    return {"phase": "Running", "conditions": ready, "containerStatuses": [state]}


def waiting(reason: str, message: str, *, ended: Object | None = None) -> Object:
    """The status of a pod whose container waits; `ended`: how it ended before."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    state: Object = {
        "name": "runner",
        "ready": False,
        "restartCount": 3,
        "image": "x",
        "imageID": "x",
        "state": {"waiting": {"reason": reason, "message": message}},
        "lastState": {"terminated": ended} if ended else {},
    }
    not_ready = [{"type": "Ready", "status": "False", "lastTransitionTime": now}]
    return {"phase": "Pending", "conditions": not_ready, "containerStatuses": [state]}


class Installed:
    """The operator's namespace, account and rights; makes operator processes."""

    def __init__(self, api: Api, folder: Path, dsn: str, *, without: tuple[rights.Right, ...] = ()) -> None:
        self.api = api
        self.folder = folder
        self.dsn = dsn
        api.kubectl("apply", "--server-side", "-f", str(CRDS))
        eventually(lambda: {"durablefunctions", "durablestores"} <= _kinds(api), 30)
        self.namespace = api.make_namespace("sys")
        data = {"dsn": base64.b64encode(dsn.encode()).decode()}
        api.create(f"/api/v1/namespaces/{self.namespace}/secrets", {"metadata": {"name": "admin"}, "data": data})
        self.account = f"system:serviceaccount:{self.namespace}:stepwell-operator"
        self._grant(without)

    def _grant(self, without: tuple[rights.Right, ...]) -> None:
        here = f"/api/v1/namespaces/{self.namespace}/serviceaccounts"
        self.api.create(here, {"metadata": {"name": "stepwell-operator"}})
        subject = {"kind": "ServiceAccount", "name": "stepwell-operator", "namespace": self.namespace}
        rbac = "/apis/rbac.authorization.k8s.io/v1"
        wide = [_rule(one) for one in rights.IN_NAMESPACES if one not in without]
        wide += [_rule(one) for one in rights.KOPF if one not in without]
        self.api.create(f"{rbac}/clusterroles", {"metadata": {"name": self.namespace}, "rules": wide})
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": self.namespace}
        self.api.create(
            f"{rbac}/clusterrolebindings", {"metadata": {"name": self.namespace}, "roleRef": role, "subjects": [subject]}
        )
        own = [_rule(one) for one in rights.IN_OWN_NAMESPACE if one not in without]
        place = f"{rbac}/namespaces/{self.namespace}"
        self.api.create(f"{place}/roles", {"metadata": {"name": "own"}, "rules": own})
        own_role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "own"}
        self.api.create(f"{place}/rolebindings", {"metadata": {"name": "own"}, "roleRef": own_role, "subjects": [subject]})

    def operator(self, server: str | None = None, **environment: str) -> "OperatorProcess":
        """An operator process; `server` leads it through a proxy."""
        kubeconfig = self.api.as_service_account(self.namespace, "stepwell-operator", self.folder, server)
        return OperatorProcess(self, kubeconfig, environment)

    def remove(self) -> None:
        """Take everything away but the CRDs."""
        self.api.delete(f"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{self.namespace}")
        self.api.delete(f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{self.namespace}")
        self.api.delete(f"/api/v1/namespaces/{self.namespace}")


def _kinds(api: Api) -> set[str]:
    return {one["name"] for one in (api.find("/apis/stepwell.dev/v1alpha1") or {}).get("resources", [])}


def _rule(right: rights.Right) -> Object:
    group, resource, verb = right
    return {"apiGroups": [group], "resources": [resource], "verbs": [verb]}


class OperatorProcess:
    """`stepwell-operator` as shipped, with short rounds."""

    def __init__(self, installed: Installed, kubeconfig: Path, environment: dict[str, str]) -> None:
        self.installed = installed
        self.port = _free_port()
        self.log = installed.folder / f"operator-{self.port}.log"
        quick = {
            "STEPWELL_LOOK": "2s",
            "STEPWELL_ORPHAN_GRACE": "0s",
            "STEPWELL_CENSUS": "3s",
            "STEPWELL_DRAIN_CHECK": "1s",
            "STEPWELL_LEASE": "6s",
        }
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("STEPWELL_")},
            "KUBECONFIG": str(kubeconfig),
            "STEPWELL_OPERATOR_NAMESPACE": installed.namespace,
            "STEPWELL_OPERATOR_POD": "operator-0",
            "STEPWELL_ADMIN_SECRET": "admin",
            "STEPWELL_HEALTH_HOST": "127.0.0.1",
            "STEPWELL_HEALTH_PORT": str(self.port),
            **quick,
            **environment,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, *, wait: bool = True) -> None:
        """Start it, and wait until it leads."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "stepwell_operator.main"], env=self.environment, stdout=log, stderr=log
            )
        if wait:
            self.wait_until(lambda: self.metric("stepwell_operator_leader") == 1)

    def stop(self) -> int:
        """SIGTERM, and wait; its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """SIGKILL."""
        return self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        if self.process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
        code = self.process.wait(30)
        self.process = None
        return code

    def forget_lease(self) -> None:
        """Delete the Lease, as if it had run out."""
        self.installed.api.delete(f"/apis/coordination.k8s.io/v1/namespaces/{self.installed.namespace}/leases/stepwell-operator")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def ask(self, path: str) -> httpx.Response:
        """GET one of its pages."""
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=5, trust_env=False)

    def metric(self, name: str, **labels: str) -> float | None:
        """The sum of a metric's samples with these labels, or None."""
        try:
            text = self.ask("/metrics").text
        except httpx.HTTPError:
            return None
        found = [
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.partition("{")[0].partition(" ")[0] == name
            and all(f'{key}="{value}"' in line for key, value in labels.items())
        ]
        return sum(found) if found else None

    def wait_until(self, ready: Callable[[], object], seconds: float = PATIENCE) -> None:
        """Wait until something is so; its log is the explanation if not."""
        deadline = time.monotonic() + seconds
        while not ready():
            gone = self.process is not None and self.process.poll() is not None
            if gone or time.monotonic() > deadline:
                raise AssertionError(f"the operator did not get there:\n{self.log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.05)


class Place:
    """A namespace to apply functions in, and what comes of them."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.api = api
        self.namespace = namespace

    def apply(self, document: Object) -> None:
        """Server-side apply."""
        self.api.kubectl("-n", self.namespace, "apply", "--server-side", "-f", "-", stdin=_yaml(document))

    def path(self, name: str) -> str:
        """A function's path."""
        return f"{FUNCTIONS.format(self.namespace)}/{name}"

    def read(self, name: str) -> Object:
        """A function."""
        return self.api.get(self.path(name))

    def until(self, name: str, ready: Callable[[Object], object], seconds: float = PATIENCE) -> Object:
        """A function once something is true of it."""
        return self.api.wait_for(self.path(name), ready, seconds)

    def ready(self, name: str, seconds: float = PATIENCE) -> Object:
        """A function once it is Ready."""
        return self.until(name, says("Ready", "True", "Available"), seconds)

    def patch(self, name: str, **spec: Any) -> None:
        """Change fields of a function's spec; None removes."""
        self.api.patch(self.path(name), {"spec": spec})

    def runners(self) -> dict[str, Object]:
        """The runner Deployments, by name."""
        found = self.api.items(
            f"{DEPLOYMENTS.format(self.namespace)}?labelSelector={RUNNERS.replace('=', '%3D').replace('/', '%2F')}"
        )
        return {one["metadata"]["name"]: one for one in found if not one["metadata"].get("deletionTimestamp")}

    def delete(self, name: str) -> None:
        """Delete a function."""
        self.api.delete(self.path(name))

    def dsn(self) -> str:
        """The address of the namespace's well."""
        secret = self.api.get(f"/api/v1/namespaces/{self.namespace}/secrets/stepwell-store")
        return base64.b64decode(secret["data"]["dsn"]).decode()

    def store(self, ask: Callable[[PostgresStore], Awaitable[T]]) -> T:
        """Ask the namespace's well something."""

        async def asked() -> T:
            store = PostgresStore(self.dsn())
            await store.open()
            try:
                return await ask(store)
            finally:
                await store.close()

        return asyncio.run(asked())

    def start_run(self, name: str, events: bytes = b"[{}]", wait: float = 3600.0) -> str:
        """Start a run on the function's current revision, as the gateway would; it is due after `wait` seconds. Its id."""

        async def ask(store: PostgresStore) -> str:
            row = next(one for one in (await store.registry()).functions if one.function_id == name)
            now = time.time_ns() // 1000
            run_id = Ids().ulid(now // 1000)
            due = now + int(wait * 1e6)
            start = Start(run_id, name, row.revision, row.pool, TriggerKind.INVOKE, events, (), now, due)
            await store.commit(Pile(starts=(start,)))
            return run_id

        return self.store(ask)

    def events(self, name: str) -> list[str]:
        """The reasons of a function's Events."""
        path = f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events"
        return [one["reason"] for one in self.api.items(path) if one["regarding"]["name"] == name]


def _yaml(document: Object) -> str:
    import yaml

    return yaml.safe_dump(document)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def eventually(ready: Callable[[], T], seconds: float = PATIENCE) -> T:
    """What `ready` gives once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < deadline, "it did not become so in time"
        time.sleep(0.05)
    return found


def installed_in(api: Api, folder: Path, dsn: str) -> Iterator[Installed]:
    """An installation, taken away at the end."""
    made = Installed(api, folder, dsn)
    try:
        yield made
    finally:
        made.remove()


def end_runs(place: Place, name: str) -> None:
    """Cancel the function's live runs."""

    async def ask(store: PostgresStore) -> int:
        return await cancel_all(store, name, "the test is over")

    place.store(ask)


def left(dsn: str, run_id: str) -> tuple[str, list[str]]:
    """What a run's status is, and which functions of the well are active."""

    async def ask() -> tuple[str, list[str]]:
        store = PostgresStore(dsn)
        await store.open()
        try:
            row = await store.run(run_id)
            active = [one.function_id for one in (await store.registry()).functions if one.active]
        finally:
            await store.close()
        assert row is not None
        return row.status.value, active

    return asyncio.run(ask())
