"""The ground that the other tests stand on: what they take for granted about the cluster is proven here."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import httpx
import pytest
from cluster.harness.api import Api, Refused
from cluster.harness.control_plane import ControlPlane
from cluster.harness.faults import FOR_EVER, Side, Which, everything, watches, writes
from cluster.harness.node import NodeCluster
from cluster.harness.node_postgres import NodePostgres
from cluster.harness.postgres_client import connect
from cluster.harness.proxy import FaultProxy
from cluster.harness.python_image import bare_image, image_from

pytestmark = pytest.mark.cluster


def deployment(name: str, replicas: int = 1) -> dict[str, object]:
    """A small Deployment, which can't run anywhere without a node."""
    labels = {"app": name}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "nothing"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": pod}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def test_deployment_gets_its_replica_set(api: Api, namespace: str) -> None:
    """A Deployment gets a ReplicaSet that it owns, and its pods are made."""
    made = api.create(f"/apis/apps/v1/namespaces/{namespace}/deployments", deployment("web", 2))
    api.wait_for(f"/api/v1/namespaces/{namespace}/pods", lambda pods: len(pods["items"]) == 2)
    (replica_set,) = api.items(f"/apis/apps/v1/namespaces/{namespace}/replicasets")
    assert replica_set["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
    api.delete(f"/apis/apps/v1/namespaces/{namespace}/deployments/web")
    api.wait_for(f"/api/v1/namespaces/{namespace}/pods", lambda pods: not pods["items"])


def test_kubectl_applies(api: Api, namespace: str) -> None:
    """kubectl applies a manifest on the server's side and reads it back."""
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": namespace}, "data": {"a": "1"}}
    api.apply(config)
    assert api.kubectl("get", "configmap", "c", "-n", namespace, "-o", "jsonpath={.data.a}") == "1"


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_api_server_comes_back_with_its_data(control_plane: ControlPlane, api: Api, namespace: str, how: str) -> None:
    """An API server that was killed or stopped starts again on the same port with the same objects."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    before = api.create(path, {"metadata": {"name": "kept"}, "data": {"x": "y"}})
    getattr(control_plane.apiserver, how)()
    assert not control_plane.apiserver.alive
    control_plane.recover()
    assert api.get(f"{path}/kept")["metadata"]["uid"] == before["metadata"]["uid"]


def test_service_account_is_bound_by_rbac(api: Api, namespace: str, tmp_path: Path) -> None:
    """A service account's token may do what its role names and nothing else."""
    api.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "reader"}})
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role"}
    api.apply({**role, "metadata": {"name": "reader", "namespace": namespace}, "rules": rules})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}
    subjects = [{"kind": "ServiceAccount", "name": "reader", "namespace": namespace}]
    binding = {**role, "kind": "RoleBinding", "metadata": {"name": "reader", "namespace": namespace}}
    api.apply({**binding, "roleRef": reference, "subjects": subjects})
    with Api(api.as_service_account(namespace, "reader", tmp_path), api.kubectl_path) as reader:
        assert reader.items(f"/api/v1/namespaces/{namespace}/configmaps")
        with pytest.raises(Refused) as refused:
            reader.get(f"/api/v1/namespaces/{namespace}/secrets")
    assert refused.value.code == 403


def test_audit_log_tells_who_asked_for_what(control_plane: ControlPlane, api: Api, namespace: str) -> None:
    """The audit log holds every request with its verb, resource and answer by the time the answer is here."""
    mark = control_plane.audit.mark()
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    api.create(path, deployment("seen"))
    api.get(f"{path}/seen/status")
    asked = [entry for entry in control_plane.audit.since(mark, "admin") if entry.namespace == namespace]
    assert [(entry.rule, entry.name, entry.code) for entry in asked] == [
        (("apps", "deployments", "create"), "seen", 201),
        (("apps", "deployments/status", "get"), "seen", 200),
    ]
    assert [entry.is_write for entry in asked] == [True, False]


def test_compaction_expires_old_watches(control_plane: ControlPlane, api: Api, namespace: str) -> None:
    """After a compaction and a restart of the API server, a watch from before is told that it is too old."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    before = api.create(path, {"metadata": {"name": "a"}})["metadata"]["resourceVersion"]
    assert [event["type"] for event in api.watch(path, before, seconds=1)] == []
    for number in range(3):
        api.create(path, {"metadata": {"name": f"later-{number}"}})
    assert len(api.watch(path, before, seconds=1)) == 3
    control_plane.compact()
    control_plane.apiserver.kill()
    control_plane.recover()
    (event,) = api.watch(path, before, seconds=1)
    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


@pytest.fixture
def proxy(control_plane: ControlPlane) -> Iterator[FaultProxy]:
    """A proxy before the API server."""
    with FaultProxy(control_plane) as started:
        yield started


@pytest.fixture
def client(proxy: FaultProxy, api: Api, tmp_path: Path) -> Iterator[Api]:
    """The administrator, behind the proxy."""
    with Api(api.through(proxy.server, tmp_path / "through.kubeconfig"), api.kubectl_path) as made:
        yield made


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    """A thread for a request that will be held."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


def config_maps(namespace: str) -> str:
    """Where the ConfigMaps of a namespace are."""
    return f"/api/v1/namespaces/{namespace}/configmaps"


def config_map(name: str) -> dict[str, object]:
    """An empty ConfigMap."""
    return {"metadata": {"name": name}}


def names(api: Api, namespace: str) -> set[str]:
    """The ConfigMaps of a namespace, without the one that Kubernetes puts there."""
    return {item["metadata"]["name"] for item in api.items(config_maps(namespace))} - {"kube-root-ca.crt"}


def test_proxy_answers_in_the_place_of_the_api_server(proxy: FaultProxy, client: Api, api: Api, namespace: str) -> None:
    """The write that a rule picks gets the rule's error and never reaches the API server; the others do."""
    path = config_maps(namespace)
    proxy.answer(429, Which(writes, at=2, times=2), retry_after=7)
    client.create(path, config_map("first"))
    for name in ("second", "third"):
        with pytest.raises(Refused, match="TooManyRequests") as refused:
            client.create(path, config_map(name))
        assert (refused.value.code, refused.value.status["details"]["retryAfterSeconds"]) == (429, 7)
    client.create(path, config_map("fourth"))
    assert names(api, namespace) == {"first", "fourth"}
    assert [(seen.method, seen.code) for seen in proxy.seen(writes)] == [("POST", code) for code in (201, 429, 429, 201)]


def test_proxy_is_transparent(proxy: FaultProxy, client: Api, namespace: str) -> None:
    """kubectl works through the proxy as it does without, and a proxy without rules changes nothing."""
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": namespace}}
    manifest["data"] = {"key": "ü" * 100_000}
    client.apply(manifest)
    assert client.get(f"{config_maps(namespace)}/c")["data"] == manifest["data"]
    assert client.kubectl("get", "cm", "-n", namespace, "-l", "a notin (b,c)", "-o", "name").split()
    with pytest.raises(Refused) as refused:
        client.get(f"{config_maps(namespace)}/no")
    assert refused.value.code == 404
    assert all(seen.agent for seen in proxy.seen())


@pytest.mark.parametrize(("side", "there"), [(Side.BEFORE, set[str]()), (Side.AFTER, {"held"})])
def test_proxy_holds_a_request_at_a_point(
    proxy: FaultProxy, client: Api, api: Api, namespace: str, thread: ThreadPoolExecutor, side: Side, there: set[str]
) -> None:
    """A request can be held, and cut off, before the API server hears of it or after it has done it."""
    stop = proxy.hold(side, Which(writes))
    call = thread.submit(client.create, config_maps(namespace), config_map("held"))
    assert stop.wait().path == config_maps(namespace)
    assert names(api, namespace) == there
    assert not call.done()
    stop.cut()
    with pytest.raises(httpx.TransportError):
        call.result(10)
    assert names(api, namespace) == there


@pytest.mark.parametrize("side", Side)
def test_proxy_lets_go_of_what_it_held(
    proxy: FaultProxy, client: Api, namespace: str, thread: ThreadPoolExecutor, side: Side
) -> None:
    """A request that was held is answered as ever once it is released."""
    stop = proxy.hold(side, Which(writes, at=2))
    client.create(config_maps(namespace), config_map("one"))
    assert not stop.reached
    call = thread.submit(client.create, config_maps(namespace), config_map("two"))
    stop.wait()
    stop.release()
    assert call.result(10)["metadata"]["name"] == "two"


@pytest.mark.parametrize(("side", "there"), [(Side.BEFORE, set[str]()), (Side.AFTER, {"a", "b"})])
def test_proxy_cuts_connections(proxy: FaultProxy, client: Api, api: Api, namespace: str, side: Side, there: set[str]) -> None:
    """A rule can end the connections of every write, done or not, while reads go on."""
    proxy.cut(side, Which(writes, times=FOR_EVER))
    for name in ("a", "b"):
        with pytest.raises(httpx.TransportError):
            client.create(config_maps(namespace), config_map(name))
    assert names(client, namespace) == names(api, namespace) == there
    proxy.clear()
    client.create(config_maps(namespace), config_map("c"))


def test_proxy_makes_watches_deaf(proxy: FaultProxy, client: Api, api: Api, namespace: str, thread: ThreadPoolExecutor) -> None:
    """While watches are frozen nothing comes through them and other requests work; thawed, they deliver what they missed."""
    version = api.get(config_maps(namespace))["metadata"]["resourceVersion"]
    proxy.freeze(watches)
    call = thread.submit(client.watch, config_maps(namespace), version, 2)
    client.create(config_maps(namespace), config_map("unheard"))
    with pytest.raises(TimeoutError):
        call.result(3)
    proxy.thaw()
    assert [event["object"]["metadata"]["name"] for event in call.result(10)] == ["unheard"]


def test_proxy_ends_running_watches(proxy: FaultProxy, client: Api, api: Api, namespace: str, thread: ThreadPoolExecutor) -> None:
    """A watch that runs ends at once when the connections are cut, and delivers until then."""
    version = api.get(config_maps(namespace))["metadata"]["resourceVersion"]
    call = thread.submit(client.watch, config_maps(namespace), version, 60)
    wait_until(lambda: [seen.code for seen in proxy.seen(watches)] == [200])
    proxy.cut_connections()
    with pytest.raises(httpx.TransportError):
        call.result(10)


def test_proxy_makes_requests_slow(proxy: FaultProxy, client: Api) -> None:
    """A delayed request arrives later, and arrives."""
    proxy.delay(0.3, Which(everything))
    began = time.monotonic()
    client.get("/version")
    assert time.monotonic() - began >= 0.3


RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def container(image: str, *command: str, **more: object) -> dict[str, object]:
    """A container that the restricted Pod Security level admits."""
    return {
        "name": "main",
        "image": image,
        "imagePullPolicy": "Never",
        "command": [*command],
        "securityContext": RESTRICTED,
        **more,
    }


@pytest.mark.node
def test_pods_become_ready_on_the_node(node_cluster: NodeCluster, node_api: Api, node_namespace: str) -> None:
    """A Deployment of two restricted pods gets Ready; they answer through a Service by address and by name, log, and can be entered."""
    node_cluster.load(bare_image("stepwell.test/python:1"))
    labels = {"app": "web"}
    probe = {"httpGet": {"port": 8080, "path": "/"}, "periodSeconds": 1}
    web = container("stepwell.test/python:1", "python3", "-um", "http.server", "8080", readinessProbe=probe)
    template = {"metadata": {"labels": labels}, "spec": {"containers": [web]}}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    deployments = f"/apis/apps/v1/namespaces/{node_namespace}/deployments"
    node_api.create(deployments, {"metadata": {"name": "web"}, "spec": spec})
    node_api.wait_for(f"{deployments}/web", lambda found: found["status"].get("readyReplicas") == 2)
    service = {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]}
    made = node_api.create(f"/api/v1/namespaces/{node_namespace}/services", {"metadata": {"name": "web"}, "spec": service})
    port = node_cluster.reach(made["spec"]["clusterIP"], 80)
    wait_until(lambda: answers(f"http://127.0.0.1:{port}/"))
    pod = ("-n", node_namespace, "deploy/web")
    asking = f"import os,urllib.request as u; print(os.getuid(), u.urlopen('http://web.{node_namespace}/').status)"
    assert node_api.kubectl("exec", *pod, "--", "python3", "-c", asking).split() == ["65532", "200"]
    assert "GET /" in node_api.kubectl("logs", *pod)


@pytest.mark.node
def test_our_packages_run_in_an_image(
    node_cluster: NodeCluster, node_api: Api, node_namespace: str, node_postgres: NodePostgres, tmp_path: Path
) -> None:
    """An image made from this checkout runs our packages and the user's file, and reaches Postgres with its password."""
    (tmp_path / "ask.py").write_text(ASK, encoding="utf-8")
    node_cluster.load(image_from("stepwell.test/app:1", ["python3"], ["operator"], tmp_path))
    where = [{"name": "DSN", "value": node_postgres.dsn}]
    asking = container("stepwell.test/app:1", "python3", "ask.py", env=where)
    pods = f"/api/v1/namespaces/{node_namespace}/pods"
    spec = {"containers": [asking], "restartPolicy": "Never", "automountServiceAccountToken": False}
    node_api.create(pods, {"metadata": {"name": "ask"}, "spec": spec})
    found = node_api.wait_for(f"{pods}/ask", lambda pod: pod["status"]["phase"] in {"Succeeded", "Failed"})
    said = node_api.kubectl("logs", "-n", node_namespace, "ask")
    assert found["status"]["phase"] == "Succeeded", said
    assert said.splitlines()[-1] == "/srv 65532 42"


ASK = """\
import asyncio, os, asyncpg, kopf, stepwell, stepwell_operator

async def main():
    connection = await asyncpg.connect(os.environ["DSN"])
    print(os.getcwd(), os.getuid(), await connection.fetchval("SELECT 42"))

asyncio.run(main())
"""


@pytest.mark.node
async def test_postgres_of_the_node_dies_and_comes_back(node_postgres: NodePostgres) -> None:
    """The node's Postgres can be killed and started again with its data, and the test's side reaches it."""
    connection = await connect(node_postgres.dsn_here)
    await connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    node_postgres.do("kill")
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await connection.fetchval("SELECT 1")
    connection.terminate()
    node_postgres.do("start")
    connection = await connect(node_postgres.dsn_here)
    try:
        assert await connection.fetchval("SELECT n FROM kept") == 7
    finally:
        await connection.close()


def answers(url: str) -> bool:
    """Whether there is something at this address."""
    try:
        return httpx.get(url, timeout=2, trust_env=False).is_success
    except httpx.TransportError:
        return False


def wait_until(ready: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until this is so."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)
