"""How little the operator writes: counted in the API server's audit log, not in what the operator says of itself."""

import time
from collections import Counter
from collections.abc import Iterator

import pytest
from cluster.harness.api import Api
from cluster.harness.audit import Asked
from cluster.harness.control_plane import ControlPlane
from cluster.operation import DEPLOYMENTS, Installed, Kubelet, OperatorProcess, Place, eventually, function, says

from stepwell_operator.settling import OWNERS_PATIENCE

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]
IDLE = 60
ELECTION = ("leases", "selfsubjectaccessreviews")


@pytest.fixture
def operator(installed: Installed) -> Iterator[OperatorProcess]:
    with installed.operator() as process:
        yield process


def writes(plane: ControlPlane, installed: Installed, mark: int) -> list[Asked]:
    """What the operator wrote since then, but for its lease and its questions about rights."""
    asked = plane.audit.since(mark, user=installed.account)
    return [one for one in asked if one.is_write and one.resource not in ELECTION]


def statuses(written: list[Asked]) -> int:
    return sum(one.subresource == "status" for one in written)


def test_a_change_costs_at_most_three_status_writes(
    api: Api, control_plane: ControlPlane, installed: Installed, operator: OperatorProcess, namespace: str
) -> None:
    """From applying to Ready, for an edit that is applied live, and for a scaling: three status writes at most, each."""
    place = Place(api, namespace)
    with Kubelet(api):
        for change in (
            lambda: place.apply(function("one")),
            lambda: place.patch("one", retries=7),
            lambda: place.patch("one", replicas=2),
            lambda: place.patch("one", replicas=8),
            lambda: place.patch("one", suspend=True),
        ):
            mark = control_plane.audit.mark()
            change()
            generation = place.read("one")["metadata"]["generation"]
            place.until("one", lambda one, at=generation: one.get("status", {}).get("observedGeneration") == at)
            wanted = place.read("one")["spec"]["replicas"]
            place.until("one", lambda one, ready=wanted: one["status"].get("readyReplicas") == ready)
            settle(operator)
            assert statuses(writes(control_plane, installed, mark)) <= 3


def test_a_new_revision_costs_few_status_writes(
    api: Api, control_plane: ControlPlane, installed: Installed, operator: OperatorProcess, namespace: str
) -> None:
    """Other code, from the edit to the old Deployment's end: a write when it comes, one when it is current, one when the old is gone."""
    place = Place(api, namespace)
    with Kubelet(api) as kubelet:
        place.apply(function("one"))
        place.ready("one")
        settle(operator)
        mark = control_plane.audit.mark()
        kubelet.idle = True
        place.apply(function("one", "async def main(ctx):\n    return 2\n"))
        place.until("one", says("Progressing", "True", "NewRevision"))
        kubelet.idle = False
        place.ready("one")
        place.until("one", lambda one: len(one["status"]["revisions"]) == 1)
        settle(operator)
        assert statuses(writes(control_plane, installed, mark)) <= 4


def test_functions_that_come_and_go_in_a_burst_cost_few_writes(
    api: Api, control_plane: ControlPlane, installed: Installed, operator: OperatorProcess, namespace: str
) -> None:
    """Twenty functions of one pool come, then all but one go: what they share is written for the first, the second, and then now and again."""
    place = Place(api, namespace)
    names = [f"f{number:02}" for number in range(20)]
    with Kubelet(api):
        mark, began = control_plane.audit.mark(), time.monotonic()
        for name in names:
            place.apply(function(name, runner={"pool": "crew"}))
            place.until(name, lambda one: one.get("status", {}).get("targetRevision"))
        came = time.monotonic() - began
        eventually(lambda: owners(place) == [set(names)] * (len(SHARED) + 2))
        settle(operator)
        assert max(shared(writes(control_plane, installed, mark)).values()) <= 4 + came / OWNERS_PATIENCE
        mark, began = control_plane.audit.mark(), time.monotonic()
        for name in names[1:]:
            place.delete(name)
            eventually(lambda gone=name: all(gone not in one for one in owners(place)))
        went = time.monotonic() - began
        settle(operator)
        assert owners(place) == [{names[0]}] * (len(SHARED) + 2)
        assert max(shared(writes(control_plane, installed, mark)).values(), default=0) <= 2 + went / OWNERS_PATIENCE
        place.ready(names[0])


SHARED = (
    ("secrets", "stepwell-store"),
    ("secrets", "stepwell-gateway"),
    ("services", "stepwell-gateway"),
    ("serviceaccounts", "stepwell-gateway"),
)


def owners(place: Place) -> list[set[str]]:
    """The names of the functions that own each of what they share: the well's, the pool's Deployment and its code."""
    found = [place.api.find(f"/api/v1/namespaces/{place.namespace}/{resource}/{name}") or {} for resource, name in SHARED]
    pools = (DEPLOYMENTS.format(place.namespace), f"/api/v1/namespaces/{place.namespace}/configmaps")
    found += [one for path in pools for one in place.api.items(path) if one["metadata"]["name"].startswith("crew-")]
    return [{owner["name"] for owner in one.get("metadata", {}).get("ownerReferences", ())} for one in found]


def shared(written: list[Asked]) -> Counter[tuple[str, str]]:
    """How often each of what functions share was written."""
    names = ("stepwell-store", "stepwell-gateway", "crew-")
    return Counter((one.resource, one.name) for one in written if one.name.startswith(names))


def test_nothing_is_written_where_nothing_happens(
    api: Api, control_plane: ControlPlane, installed: Installed, operator: OperatorProcess, namespace: str
) -> None:
    """Sixty idle seconds: no write at all; nor when the operator is started anew."""
    place = Place(api, namespace)
    with Kubelet(api):
        for name in ("one", "two", "three"):
            place.apply(function(name, triggers=[{"event": "go"}, {"cron": "0 3 * * *"}]))
        place.apply(function("bad", triggers=[{"event": "go", "if": "event.data.x >"}]))
        for name in ("one", "two", "three"):
            place.ready(name)
        place.until("bad", says("SpecAccepted", "False"))
        settle(operator)
        mark = control_plane.audit.mark()
        time.sleep(IDLE)  # what is proven is that nothing happens in it
        assert writes(control_plane, installed, mark) == []
        operator.stop()
        mark = control_plane.audit.mark()
        operator.start()
        operator.wait_until(lambda: operator.metric("stepwell_functions", condition="Ready") == 4)
        settle(operator)
        assert writes(control_plane, installed, mark) == []


def settle(operator: OperatorProcess) -> None:
    """Wait until the operator has had nothing to do for two of its rounds."""
    quiet_since = time.monotonic()
    before = operator.metric("stepwell_reconcile_total")
    while time.monotonic() - quiet_since < 5:
        time.sleep(0.2)
        now = operator.metric("stepwell_reconcile_total")
        if now != before:
            before, quiet_since = now, time.monotonic()
