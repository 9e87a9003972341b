"""Functions in a well that no object stands for: deleted while nobody looked, or not applied yet in a cluster that is being restored."""

import pytest
from cluster.harness.api import Api
from cluster.operation import Installed, Kubelet, Place, eventually, function, left

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]
GRACE = 45


def test_a_function_whose_object_was_never_seen_is_not_taken_for_deleted_at_once(
    api: Api, installed: Installed, namespace: str
) -> None:
    """An operator that comes to a well leaves what it knows nothing of alone for a while; then its runs are cancelled."""
    place = Place(api, namespace)
    operator = installed.operator(STEPWELL_ORPHAN_GRACE=f"{GRACE}s")
    with Kubelet(api):
        operator.start()
        place.apply(function("one"))
        place.apply(function("two"))
        place.ready("one")
        place.ready("two")
        runs = {name: place.start_run(name) for name in ("one", "two")}
        dsn = place.dsn()
        operator.stop()
        place.delete("two")
        operator.start()
        try:
            operator.wait_until(lambda: operator.metric("stepwell_functions", condition="Ready") == 1)
            assert left(dsn, runs["two"]) == ("queued", ["one", "two"])
            eventually(lambda: left(dsn, runs["two"]) == ("cancelled", ["one"]), 3 * GRACE)
            assert left(dsn, runs["one"])[0] == "queued"
        finally:
            operator.stop()
