"""Whatever somebody edits or deletes by hand is put right within ten seconds, at the pace the operator is shipped with."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cluster.harness.api import Object, Refused
from cluster.operation import BAR, Installed, Kubelet, Place, crowding, eventually, function

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]
PACE = {"STEPWELL_CENSUS": "15s", "STEPWELL_LOOK": "30s"}
EVERYTHING = {"STEPWELL_NETWORK_POLICY": "1", "STEPWELL_GATEWAY_REPLICAS": "2"}
ROOTS = {
    "deployments": "/apis/apps/v1",
    "configmaps": "/api/v1",
    "services": "/api/v1",
    "serviceaccounts": "/api/v1",
    "secrets": "/api/v1",
    "poddisruptionbudgets": "/apis/policy/v1",
    "networkpolicies": "/apis/networking.k8s.io/v1",
}


@pytest.fixture
def settled(installed: Installed, namespace: str) -> Iterator[Place]:
    """A function with everything that an operator makes for one."""
    with installed.operator(**PACE, **EVERYTHING), Kubelet(installed.api):
        place = Place(installed.api, namespace)
        place.apply(function("one", replicas=2))
        place.ready("one")
        for kind in ("poddisruptionbudgets", "networkpolicies"):
            eventually(lambda kind=kind: place.api.find(path_of(place, kind, "stepwell-gateway")))
        yield place


def path_of(place: Place, kind: str, name: str) -> str:
    return f"{ROOTS[kind]}/namespaces/{place.namespace}/{kind}/{name}"


def soon(true: Callable[[], object]) -> None:
    """It becomes true within the bar."""
    eventually(true, BAR * crowding())


def test_edits_are_undone(settled: Place) -> None:
    """Each kind of child, edited by hand, is again as it was stated: specs, labels, owners, a ServiceAccount's token, code."""
    api, [pool] = settled.api, settled.runners()
    gateway = "stepwell-gateway"
    labelled: Object = {"metadata": {"labels": {"stepwell.dev/pool": None}, "ownerReferences": []}}
    edits: list[tuple[str, str, Object]] = [
        ("deployments", pool, {"spec": {"replicas": 5, "template": {"spec": {"automountServiceAccountToken": True}}}}),
        ("deployments", pool, labelled),
        ("poddisruptionbudgets", pool, {"spec": {"maxUnavailable": 2}}),
        ("networkpolicies", pool, {"spec": {"ingress": []}}),
        ("deployments", gateway, {"spec": {"replicas": 1}}),
        ("services", gateway, {"spec": {"selector": {"app": "other"}}}),
        ("serviceaccounts", gateway, {"automountServiceAccountToken": True}),
        ("poddisruptionbudgets", gateway, {"spec": {"maxUnavailable": 2}}),
        ("networkpolicies", gateway, {"spec": {"ingress": [{}]}}),
    ]
    for kind, name, edit in edits:
        path = path_of(settled, kind, name)
        before = stated(api.get(path))
        assert stated(api.patch(path, edit)) != before
        soon(lambda path=path, before=before: stated(api.get(path)) == before)
    path = path_of(settled, "deployments", pool)
    before = stated(api.get(path))
    api.kubectl("-n", settled.namespace, "set", "env", f"deploy/{pool}", "EVIL=1")
    soon(lambda: stated(api.get(path)) == before)


def test_other_code_in_the_place_of_ours_is_replaced(settled: Place) -> None:
    """A pool's ConfigMap can't be edited; one that somebody put in its place, with our labels and marks, doesn't stay."""
    api, [pool] = settled.api, settled.runners()
    path = path_of(settled, "configmaps", f"{pool}-code")
    before = api.get(path)
    metadata = {name: before["metadata"][name] for name in ("name", "labels", "annotations", "ownerReferences")}
    replaced(settled, {"metadata": metadata, "data": {"code.py": "evil()"}, "immutable": True})
    soon(lambda: (found := api.find(path)) and (found["data"], found["immutable"]) == (before["data"], True))


def replaced(place: Place, config_map: Object) -> None:
    """Somebody's ConfigMap is where ours was, however quick the operator is."""
    api, collection = place.api, path_of(place, "configmaps", "").rstrip("/")
    path = f"{collection}/{config_map['metadata']['name']}"

    def put() -> bool:
        api.delete(path)
        try:
            api.create(collection, config_map)
        except Refused:
            return False
        return True

    eventually(put)


def stated(document: Object) -> Any:
    """What the operator states of a document, and what others can change of it."""
    found = json.loads(json.dumps({name: value for name, value in document.items() if name not in {"metadata", "status"}}))
    metadata = document["metadata"]
    return [found, metadata.get("labels"), metadata.get("ownerReferences")]


def test_what_is_deleted_is_made_again(settled: Place) -> None:
    """Each object that the operator made, its Secrets too, deleted by hand, is there again and says the same."""
    api, [pool] = settled.api, settled.runners()
    gone = [
        (kind, name) for kind in ("deployments", "poddisruptionbudgets", "networkpolicies") for name in (pool, "stepwell-gateway")
    ]
    gone += [("configmaps", f"{pool}-code"), ("services", "stepwell-gateway"), ("serviceaccounts", "stepwell-gateway")]
    gone += [("secrets", "stepwell-gateway"), ("secrets", "stepwell-store")]
    for kind, name in gone:
        path = path_of(settled, kind, name)
        before = api.get(path)
        api.delete(path)
        soon(lambda path=path, before=before: (one := api.find(path)) and one["metadata"]["uid"] != before["metadata"]["uid"])
        after = api.get(path)
        assert after["metadata"]["labels"] == before["metadata"]["labels"]
        assert after["metadata"]["ownerReferences"] == before["metadata"]["ownerReferences"]
        assert after.get("data", {}).keys() == before.get("data", {}).keys()
    settled.ready("one")
