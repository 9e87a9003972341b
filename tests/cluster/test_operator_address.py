"""Postgres moves: the administrator's Secret gets another address, and the namespaces' Secrets and pods follow it."""

import asyncio
import base64
from collections.abc import Iterator
from urllib.parse import urlsplit

import asyncpg
import pytest
from cluster.harness.api import Api, Object
from cluster.operation import DEPLOYMENTS, Installed, Kubelet, OperatorProcess, Place, condition, eventually, function, says
from postgres_server import server

from stepwell.store.postgres import PostgresStore
from stepwell_operator.names import PLACE
from stepwell_operator.provision import schema_of

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]


@pytest.fixture
def operator(installed: Installed) -> Iterator[OperatorProcess]:
    """An operator that walks everything every two seconds."""
    with installed.operator(STEPWELL_RESYNC="2s") as process:
        yield process


@pytest.fixture
def place(api: Api, namespace: str, operator: OperatorProcess, kubelet: Kubelet) -> Place:
    """A namespace with a function that is ready."""
    del operator, kubelet
    made = Place(api, namespace)
    made.apply(function("one"))
    made.ready("one")
    return made


def administrate(installed: Installed, dsn: str) -> None:
    """Give the operator another administrator's address."""
    data = {"dsn": base64.b64encode(dsn.encode()).decode()}
    installed.api.patch(f"/api/v1/namespaces/{installed.namespace}/secrets/admin", {"data": data})


def generations(place: Place) -> dict[str, int]:
    """How often the gateway's Deployment and the runners' were changed."""
    found = place.api.items(DEPLOYMENTS.format(place.namespace))
    return {one["metadata"]["name"]: one["metadata"]["generation"] for one in found}


def path(place: Place) -> str:
    """Of the namespace's Secret with its well's address."""
    return f"/api/v1/namespaces/{place.namespace}/secrets/stepwell-store"


def secret(place: Place) -> Object:
    """That Secret."""
    return place.api.get(path(place))


def mark(place: Place) -> str | None:
    """What it says of where its address was made from."""
    return secret(place)["metadata"].get("annotations", {}).get(PLACE)


def test_a_namespace_follows_the_administrators_address(place: Place, installed: Installed) -> None:
    """Another host and other parameters come into the Secret, role and password stay; gateway and runners get new pods, once."""
    before, was, revision = place.dsn(), generations(place), place.read("one")["status"]["currentRevision"]
    administrate(installed, installed.dsn.replace("127.0.0.1", "localhost") + "?sslmode=disable")
    eventually(lambda: place.dsn() != before)
    old, new = urlsplit(before), urlsplit(place.dsn())
    assert (new.username, new.password, new.path, new.port) == (old.username, old.password, old.path, old.port)
    assert (new.hostname, new.query) == ("localhost", f"sslmode=disable&{old.query}")
    eventually(lambda: all(generation == was[name] + 1 for name, generation in generations(place).items()))
    made = place.ready("one")
    assert made["status"]["currentRevision"] == revision
    version = secret(place)["metadata"]["resourceVersion"]
    administrate(
        installed, installed.dsn.replace("127.0.0.1", "localhost").replace("postgres@", "postgres:x@") + "?sslmode=disable"
    )
    place.patch("one", retries=7)
    place.ready("one")
    assert secret(place)["metadata"]["resourceVersion"] == version


def test_a_wrong_host_leaves_wells_ready(place: Place, installed: Installed, operator: OperatorProcess) -> None:
    """A new address where nobody answers is told in the log, wells go on by the one they have, and the right one is followed."""
    before, was = (place.dsn(), mark(place)), generations(place)
    administrate(installed, installed.dsn.replace("127.0.0.1", "127.0.0.2") + "?connect_timeout=1")
    eventually(lambda: b"wells stay where they are" in operator.log.read_bytes())
    place.patch("one", retries=7)
    told = place.ready("one")
    assert condition(told, "StoreReady")["status"] == "True"
    assert (place.dsn(), mark(place)) == before
    assert generations(place)["stepwell-gateway"] == was["stepwell-gateway"]
    administrate(installed, installed.dsn.replace("127.0.0.1", "localhost"))
    eventually(lambda: urlsplit(place.dsn()).hostname == "localhost")
    place.ready("one")
    assert operator.log.read_bytes().count(b"wells stay where they are") == 1


def test_a_postgres_without_the_well_is_not_followed(place: Place, installed: Installed) -> None:
    """Where the well isn't, nothing is made and no pod is replaced; the status says what to do, and once it is there all goes on."""
    with server() as other:
        before, was = place.dsn(), generations(place)
        administrate(installed, other.dsn)
        told = place.until("one", says("StoreReady", "False", "Unreachable"))
        assert "restore it there" in condition(told, "StoreReady")["message"]
        assert (place.dsn(), generations(place)) == (before, was)
        asyncio.run(restore(other.dsn, schema_of(place.namespace)))
        eventually(lambda: urlsplit(place.dsn()).port == other.port)
        place.ready("one")
        assert place.store(functions) == ["one"]


def test_a_secret_of_an_earlier_release_is_known_again(place: Place) -> None:
    """A Secret that doesn't say where its address was made from is marked where that can be told, and nothing else changes."""
    before, was, data = mark(place), generations(place), secret(place)["data"]
    place.api.patch(path(place), {"metadata": {"annotations": {PLACE: None}}})
    eventually(lambda: mark(place) == before)
    assert (secret(place)["data"], generations(place)) == (data, was)


def test_an_address_by_hand_stays(place: Place) -> None:
    """An address that somebody has put into the Secret, by way of a pooler say, is used and left alone."""
    was, by_hand = generations(place), place.dsn().replace("127.0.0.1", "localhost")
    data = {"dsn": base64.b64encode(by_hand.encode()).decode()}
    place.api.patch(path(place), {"metadata": {"annotations": {PLACE: None}}, "data": data})
    eventually(lambda: all(generation > was[name] for name, generation in generations(place).items()))
    place.ready("one")
    assert (place.dsn(), mark(place)) == (by_hand, None)


async def functions(store: PostgresStore) -> list[str]:
    """What is registered."""
    return [row.function_id for row in (await store.registry()).functions]


async def restore(dsn: str, name: str) -> None:
    """Make a role and its schema on a new server, as a restore does."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(f"create role {name} login; create schema {name} authorization {name}")
    await connection.close()
