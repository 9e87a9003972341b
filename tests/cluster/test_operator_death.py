"""The operator dies, twice over, and is paused: what it leaves half done is finished by the next, and nothing is done twice."""

import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from cluster.harness.api import Api
from cluster.harness.control_plane import ControlPlane
from cluster.harness.faults import Seen, Side, Which, writes
from cluster.harness.proxy import FaultProxy
from cluster.operation import Installed, Kubelet, OperatorProcess, Place, end_runs, eventually, function, left

pytestmark = [pytest.mark.cluster]
OTHER = "async def main(ctx):\n    return 2\n"
QUICK = {"STEPWELL_LEASE": "15s", "STEPWELL_CENSUS": "2s", "STEPWELL_LOOK": "1s", "STEPWELL_DRAIN_CHECK": "250ms"}
KINDS = {
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "Secret": "/api/v1/namespaces/{}/secrets",
    "Service": "/api/v1/namespaces/{}/services",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
}


@pytest.fixture
def kubelet(api: Api) -> Iterator[Kubelet]:
    with Kubelet(api) as made:
        yield made


def counted(seen: Seen) -> bool:
    """The writes of reconciling: not the lease's, not Events, which are hints."""
    return writes(seen) and "/leases" not in seen.path and "/events" not in seen.path


def children(place: Place) -> dict[str, Any]:
    """What there is of ours in a namespace, without what differs from one namespace to the next."""
    found: dict[str, Any] = {}
    for kind, path in KINDS.items():
        for one in place.api.items(path.format(place.namespace)):
            labels = one["metadata"].get("labels", {})
            if labels.get("app.kubernetes.io/managed-by") != "stepwell-operator" or one["metadata"].get("deletionTimestamp"):
                continue
            spec = one.get("spec", {})
            if kind == "Deployment":
                spec = {**spec, "template": {**spec["template"], "metadata": spec["template"]["metadata"]["labels"]}}
                spec = _without(spec, place.namespace)
            elif kind == "Service":
                spec = {"ports": spec["ports"], "selector": spec["selector"]}
            owners = sorted(owner["name"] for owner in one["metadata"].get("ownerReferences", ()))
            found[f"{kind}/{one['metadata']['name']}"] = (labels, owners, spec, sorted(one.get("data", {})))
    return found


def _without(value: Any, namespace: str) -> Any:
    import json

    return json.loads(json.dumps(value).replace(namespace, "NS"))


def end_of(place: Place) -> dict[str, Any]:
    """The end state: children, what the well has registered, and the status without its times."""

    async def ask(store: Any) -> Any:
        registry = await store.registry()
        functions = [(row.function_id, row.revision, row.pool, row.owner, row.spec, row.active) for row in registry.functions]
        return functions, [(row.revision, row.pool) for row in await store.revisions()]

    status = place.read("one")["status"]
    for condition in status["conditions"]:
        del condition["lastTransitionTime"]
    return {"children": children(place), "well": place.store(ask), "status": status}


def live(place: Place) -> None:
    """A function's first hour: applied, Ready, other code, the old revision gone."""
    place.apply(function("one"))
    first = place.ready("one")["status"]["currentRevision"]
    place.apply(function("one", OTHER))
    place.until("one", lambda one: one["status"].get("currentRevision") not in {None, first})
    place.until("one", lambda one: len(one["status"]["revisions"]) == 1 and one["status"]["draining"] == 0)
    eventually(lambda: len(place.runners()) == 1)
    place.until("one", lambda one: one["status"].get("readyReplicas") == 1)


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_it_may_die_before_and_after_each_write(
    api: Api, control_plane: ControlPlane, installed: Installed, kubelet: Kubelet
) -> None:
    """Killed before or after any write of a function's life, the next operator ends where an undisturbed one does."""
    del kubelet
    with FaultProxy(control_plane) as proxy:
        operator = installed.operator(proxy.server, **QUICK)
        undisturbed = Place(api, api.make_namespace())
        with operator:
            live(undisturbed)
        expected = end_of(undisturbed)
        count = len(proxy.seen(counted))
        api.delete(f"/api/v1/namespaces/{undisturbed.namespace}")
        assert 8 <= count <= 40, [f"{one.method} {one.path}" for one in proxy.seen(counted)]
        for number in range(1, count + 1):
            for side in (Side.BEFORE, Side.AFTER):
                die_at(api, proxy, operator, number, side, expected)


def die_at(api: Api, proxy: FaultProxy, operator: OperatorProcess, number: int, side: Side, expected: dict[str, Any]) -> None:
    place = Place(api, api.make_namespace())
    here = f"/namespaces/{place.namespace}/"
    stop = proxy.hold(side, Which(lambda seen: counted(seen) and here in seen.path, at=number))
    operator.start()
    try:
        with Dying(operator, stop):
            live(place)
        operator.stop()
        assert end_of(place) == expected, f"killed {side.name} write {number}"
    finally:
        operator.stop()
        operator.forget_lease()
        proxy.clear()
        api.delete(f"/api/v1/namespaces/{place.namespace}")


class Dying:
    """Beside the test: when the held request has come, kill the operator, cut the request, start the operator again."""

    def __init__(self, operator: OperatorProcess, stop: Any) -> None:
        import threading

        self._operator = operator
        self._stop = stop
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(60)

    def _run(self) -> None:
        while not self._stop.reached and not self._over.wait(0.02):
            pass
        if self._stop.reached:
            self._operator.kill()
            self._stop.cut()
            self._operator.forget_lease()  # nobody waits here until the dead one's has run out
            self._operator.start(wait=False)


@pytest.mark.timeout(400)
def test_one_leads_and_the_other_takes_over(api: Api, installed: Installed, kubelet: Kubelet, namespace: str) -> None:
    """Of two operators one acts; told to stop it hands over at once, killed it is followed when its lease has run out."""
    del kubelet
    place = Place(api, namespace)
    # Who waited for the first one's lease would wait for two minutes.
    first, second, third = installed.operator(STEPWELL_LEASE="120s"), installed.operator(), installed.operator()
    try:
        first.start()
        second.start(wait=False)
        second.wait_until(lambda: second.metric("stepwell_operator_leader") == 0)
        assert second.ask("/readyz").status_code in {200, 503}
        second.wait_until(lambda: second.ask("/readyz").status_code == 200)
        place.apply(function("one"))
        place.ready("one")
        assert first.stop() == 0
        second.wait_until(lambda: second.metric("stepwell_operator_leader") == 1)
        third.start(wait=False)
        third.wait_until(lambda: third.metric("stepwell_operator_leader") == 0)
        began = time.monotonic()
        second.kill()
        third.wait_until(lambda: third.metric("stepwell_operator_leader") == 1)
        assert time.monotonic() - began > 6 / 2, "its lease had not run out"
        place.patch("one", replicas=2)
        place.until("one", lambda one: one["status"].get("readyReplicas") == 2)
    finally:
        for one in (first, second, third):
            one.kill()


@pytest.mark.timeout(400)
def test_a_paused_leader_is_harmless(
    api: Api, control_plane: ControlPlane, installed: Installed, kubelet: Kubelet, namespace: str
) -> None:
    """A leader that is stopped past its lease and goes on ends itself, and writes nothing, neither to the cluster nor to the well."""
    del kubelet
    place = Place(api, namespace)
    first = installed.operator(STEPWELL_OPERATOR_POD="first")
    second = installed.operator(STEPWELL_OPERATOR_POD="second")
    first.start()
    try:
        place.apply(function("one"))
        place.ready("one")
        second.start(wait=False)
        second.wait_until(lambda: second.metric("stepwell_operator_leader") == 0)
        first.send(signal.SIGSTOP)
        second.wait_until(lambda: second.metric("stepwell_operator_leader") == 1, 30)
        place.apply(function("one", OTHER))
        place.until("one", lambda one: one["status"]["observedGeneration"] == one["metadata"]["generation"])
        place.ready("one")
        place.until("one", lambda one: len(one["status"]["revisions"]) == 1 and one["status"]["draining"] == 0, 40)
        second.wait_until(lambda: second.ask("/readyz").status_code == 200)
        before = end_of(place)
        second.send(signal.SIGSTOP)  # whatever is written now is the first one's
        mark = control_plane.audit.mark()
        assert first.process is not None
        first.send(signal.SIGCONT)
        assert first.process.wait(30) == 3
        written = [one for one in control_plane.audit.since(mark, user=installed.account) if one.is_write]
        assert [one for one in written if one.resource not in {"leases", "selfsubjectaccessreviews"}] == []
        assert end_of(place) == before
    finally:
        first.kill()
        second.kill()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_it_may_die_at_each_write_of_a_drained_deletion(
    api: Api, control_plane: ControlPlane, installed: Installed, kubelet: Kubelet
) -> None:
    """Killed before or after any write of a deletion with Drain, the next operator waits for the run too, and leaves nothing."""
    del kubelet
    with FaultProxy(control_plane) as proxy:
        operator = installed.operator(proxy.server, **QUICK)
        for side in (Side.BEFORE, Side.AFTER):
            number = 1
            while drain(api, proxy, operator, number, side):
                number += 1
            assert number > 1, "nothing was written"


def drain(api: Api, proxy: FaultProxy, operator: OperatorProcess, number: int, side: Side) -> bool:
    """One deletion with a run in flight; whether there was a write at which the operator died."""
    place = Place(api, api.make_namespace())
    here = f"/namespaces/{place.namespace}/"
    operator.start()
    try:
        place.apply(function("one", deletionPolicy="Drain"))
        place.ready("one")
        run_id, dsn = place.start_run("one"), place.dsn()
        stop = proxy.hold(side, Which(lambda seen: counted(seen) and here in seen.path, at=number))
        with Dying(operator, stop):
            place.delete("one")
            eventually(lambda: left(dsn, run_id) == ("queued", []))
            assert place.read("one")["metadata"]["finalizers"] == ["stepwell.dev/drain"]
            end_runs(place, "one")
            place.api.wait_gone(place.path("one"), 60)
            eventually(lambda: children(place) == {})
        return bool(stop.reached)
    finally:
        operator.stop()
        operator.forget_lease()
        proxy.clear()
        api.delete(f"/api/v1/namespaces/{place.namespace}")
