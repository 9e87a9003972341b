"""Functions with `deletionPolicy: Drain` are held until their store says that their runs have ended, whatever happens meanwhile."""

from collections.abc import Iterator

import pytest
from cluster.harness.api import Api
from cluster.operation import Installed, Kubelet, OperatorProcess, Place, end_runs, eventually, function, left
from postgres_server import Postgres

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
GATEWAY = "/apis/apps/v1/namespaces/{}/deployments/stepwell-gateway"


@pytest.fixture
def operator(api: Api, installed: Installed) -> Iterator[OperatorProcess]:
    """An operator that goes over everything all the time."""
    with Kubelet(api), installed.operator(STEPWELL_RESYNC="2s") as made:
        yield made


@pytest.fixture
def place(api: Api, namespace: str, operator: OperatorProcess) -> Place:
    """A namespace with one function, which drains."""
    del operator
    made = Place(api, namespace)
    made.apply(function("one", deletionPolicy="Drain"))
    made.ready("one")
    return made


def held(place: Place, words: str, times: int = 1) -> None:
    """Wait until so many operators have said in these words that the function is held."""
    path = f"/apis/events.k8s.io/v1/namespaces/{place.namespace}/events"

    def said() -> bool:
        found = [one for one in place.api.items(path) if one["reason"] == "DeletionBlocked" and words in one.get("note", "")]
        return len(found) >= times

    eventually(said)


def reconciled(operator: OperatorProcess) -> float:
    """How often this process has looked at anything."""
    return operator.metric("stepwell_reconcile_total") or 0.0


def test_another_leader_waits_for_the_runs_too(place: Place, operator: OperatorProcess) -> None:
    """A leader that comes while a function drains looks at its well first; gateway and runners stay until the last run has ended."""
    run_id, dsn = place.start_run("one"), place.dsn()
    place.delete("one")
    held(place, "runs are still under way")
    operator.stop()
    operator.start()
    held(place, "runs are still under way", times=2)
    done = reconciled(operator)
    operator.wait_until(lambda: reconciled(operator) > done + 8)
    assert place.read("one")["metadata"]["finalizers"] == ["stepwell.dev/drain"]
    assert left(dsn, run_id) == ("queued", [])
    assert len(place.runners()) == 1
    assert place.api.find(GATEWAY.format(place.namespace)) is not None, "what waits for an event or a webhook can't end"
    end_runs(place, "one")
    place.api.wait_gone(place.path("one"), 60)
    place.api.wait_gone(GATEWAY.format(place.namespace), 60)


def test_a_store_that_is_away_lets_nothing_go(place: Place, operator: OperatorProcess, postgres: Postgres) -> None:
    """While the store doesn't answer a function that drains is held, by a leader that never reached it too; its runs go on then."""
    run_id, dsn = place.start_run("one"), place.dsn()
    postgres.kill()
    try:
        place.delete("one")
        held(place, "its store doesn't tell (Unreachable)")
        operator.stop()
        operator.start()
        held(place, "its store doesn't tell (Unreachable)", times=2)
        assert place.read("one")["metadata"]["finalizers"] == ["stepwell.dev/drain"]
    finally:
        postgres.start()
    held(place, "runs are still under way")
    assert left(dsn, run_id) == ("queued", [])
    end_runs(place, "one")
    place.api.wait_gone(place.path("one"), 60)


def test_nothing_drains_in_a_namespace_that_goes(place: Place) -> None:
    """Kubernetes takes the runners of a namespace that is deleted: its functions are let go at once, and their runs cancelled."""
    run_id, dsn = place.start_run("one"), place.dsn()
    place.delete("one")
    held(place, "runs are still under way")
    place.api.delete(f"/api/v1/namespaces/{place.namespace}")
    place.api.wait_gone(f"/api/v1/namespaces/{place.namespace}", 60)
    eventually(lambda: left(dsn, run_id) == ("cancelled", []))
