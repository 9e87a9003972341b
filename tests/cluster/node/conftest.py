"""The product installed on a real node: by Helm, from the chart, with images of this checkout."""

from collections.abc import Iterator

import pytest
from cluster.harness.api import Api
from cluster.harness.node import NodeCluster
from cluster.harness.node_postgres import NodePostgres
from cluster.node.release import Release, Town, product_images
from cluster.toolchain.build import TOOLS, CannotBuild, build


@pytest.fixture(scope="session")
def administrator(node_cluster: NodeCluster) -> Iterator[Api]:
    """The node's API server, as an administrator, for all tests."""
    with node_cluster.api as made:
        yield made


@pytest.fixture(scope="session")
def images(node_cluster: NodeCluster) -> None:
    """Operator and runner are on the node."""
    node_cluster.load(*product_images())


@pytest.fixture(scope="module")
def fresh(
    node_cluster: NodeCluster, administrator: Api, images: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Release]:
    """Nothing installed yet."""
    del images
    try:
        helm = build(TOOLS) / "helm"
    except CannotBuild as reason:
        pytest.skip(f"no Helm: {reason}")
    release = Release(node_cluster, administrator, helm, tmp_path_factory.mktemp("helm"))
    yield release
    release.remove()


@pytest.fixture(scope="module")
def release(fresh: Release, node_postgres: NodePostgres) -> Release:
    """Installed as docs/how-to/install.md does, on a Postgres of one's own."""
    fresh.prepare(node_postgres.dsn)
    fresh.install("store.adminSecret=stepwell-postgres")
    return fresh


@pytest.fixture
def town(node_cluster: NodeCluster, administrator: Api, release: Release) -> Iterator[Town]:
    """An empty namespace that takes restricted pods alone."""
    del release
    name = administrator.make_namespace("town", {"pod-security.kubernetes.io/enforce": "restricted"})
    with Town(node_cluster, administrator, name) as made:
        yield made
    administrator.delete(f"/api/v1/namespaces/{name}")
