"""A real API server for the tests that ask for one, and a real node.

STEPWELL_TEST_KUBECONFIG names a cluster to use in the place of one of our own; tests that kill its parts are skipped then.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.harness.api import Api
from cluster.harness.control_plane import ControlPlane
from cluster.harness.control_plane import control_plane as run_control_plane
from cluster.harness.ground import require_machine
from cluster.harness.node import NodeCluster
from cluster.harness.node import node_cluster as run_node_cluster
from cluster.harness.node_postgres import NodePostgres
from cluster.harness.node_postgres import node_postgres as run_node_postgres
from cluster.harness.python_image import base_layer, dependency_layer
from cluster.operation import Installed, Kubelet, OperatorProcess, Place
from cluster.toolchain.build import CONTROL, NODE, CannotBuild, build

EXISTING = os.environ.get("STEPWELL_TEST_KUBECONFIG", "")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Build before the first test, whose time limit is for the test and not for a compiler."""
    names = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    # What stands in the way is told by the fixture, as the reason of a skip.
    with contextlib.suppress(CannotBuild):
        if names & {"api", "kubeconfig", "control_plane"} and not EXISTING:
            build(CONTROL)
    with contextlib.suppress(CannotBuild):
        if "node_cluster" in names:
            require_machine()
            build(NODE)
            base_layer()
            dependency_layer(["operator"])


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """A control plane of our own, whose parts a test may stop, kill and start (and must leave running)."""
    if EXISTING:
        pytest.skip("STEPWELL_TEST_KUBECONFIG names somebody's cluster; its parts are not ours to stop")
    try:
        with run_control_plane() as plane:
            yield plane
    except CannotBuild as reason:
        pytest.skip(f"no control plane to test against: {reason}")


@pytest.fixture(scope="session")
def kubeconfig(request: pytest.FixtureRequest) -> Path:
    """An administrator's kubeconfig, of our control plane or of the cluster that STEPWELL_TEST_KUBECONFIG names."""
    return Path(EXISTING) if EXISTING else request.getfixturevalue("control_plane").kubeconfig


@pytest.fixture
def api(kubeconfig: Path, request: pytest.FixtureRequest) -> Iterator[Api]:
    """The API server, as an administrator."""
    if EXISTING:
        found = shutil.which("kubectl")
        if found is None:
            pytest.skip("STEPWELL_TEST_KUBECONFIG is set and there is no kubectl on the PATH")
        kubectl = Path(found)
    else:
        kubectl = request.getfixturevalue("control_plane").binaries / "kubectl"
    with Api(kubeconfig, kubectl) as administrator:
        yield administrator


@pytest.fixture(scope="module")
def administrator(kubeconfig: Path, control_plane: ControlPlane) -> Iterator[Api]:
    """The API server, for a whole module."""
    with Api(kubeconfig, control_plane.binaries / "kubectl") as made:
        yield made


@pytest.fixture
def installed(api: Api, tmp_path: Path, postgres_dsn: str) -> Iterator[Installed]:
    """The operator's kinds and rights, for one test."""
    made = Installed(api, tmp_path, postgres_dsn)
    yield made
    made.remove()


@pytest.fixture(scope="module")
def operator(administrator: Api, postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """One operator for a whole module."""
    installed = Installed(administrator, tmp_path_factory.mktemp("operator"), postgres_dsn)
    with installed.operator() as process:
        yield process
    installed.remove()


@pytest.fixture(scope="module")
def kubelet(administrator: Api) -> Iterator[Kubelet]:
    """Pods run, or what is wrong with them is said."""
    with Kubelet(administrator) as made:
        yield made


@pytest.fixture
def place(api: Api, namespace: str, operator: OperatorProcess, kubelet: Kubelet) -> Place:
    """An empty namespace, watched."""
    del operator, kubelet
    return Place(api, namespace)


@pytest.fixture
def namespace(api: Api) -> Iterator[str]:
    """A namespace of the test's own.

    Its functions and stores go before it does: where their kinds are new the namespace's controller doesn't know of them yet and
    forgets them, and an operator would be busy with them for the rest of the session.
    """
    name = api.make_namespace()
    yield name
    for plural in ("durablefunctions", "durablestores"):
        api.delete(f"/apis/stepwell.dev/v1alpha1/namespaces/{name}/{plural}")
    api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="session")
def node_cluster() -> Iterator[NodeCluster]:
    """A cluster of our own with a node on which pods run."""
    try:
        with run_node_cluster() as cluster:
            yield cluster
    except CannotBuild as reason:
        pytest.skip(f"no node to test on: {reason}")


@pytest.fixture(scope="session")
def node_postgres(node_cluster: NodeCluster) -> Iterator[NodePostgres]:
    """A Postgres that pods reach at the node's address."""
    with run_node_postgres(node_cluster) as postgres:
        yield postgres


@pytest.fixture
def node_api(node_cluster: NodeCluster) -> Iterator[Api]:
    """The node's API server, as an administrator."""
    with node_cluster.api as administrator:
        yield administrator


@pytest.fixture
def node_namespace(node_api: Api) -> Iterator[str]:
    """A namespace of the test's own on the node, where only restricted pods are let in."""
    name = node_api.make_namespace(labels={"pod-security.kubernetes.io/enforce": "restricted"})
    yield name
    node_api.delete(f"/api/v1/namespaces/{name}")
