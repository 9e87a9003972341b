"""Functions, their namespace and the operator are deleted in any order: nothing hangs, and nothing stays but the kinds."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from cluster.harness.api import Api
from cluster.operation import FUNCTIONS, Installed, Kubelet, OperatorProcess, Place, eventually, function
from cluster.scripts import run_script

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
GONE_WITHIN = 60
OURS = (
    "/apis/apps/v1/namespaces/{}/deployments",
    "/api/v1/namespaces/{}/configmaps",
    "/api/v1/namespaces/{}/services",
    "/api/v1/namespaces/{}/serviceaccounts",
    "/api/v1/namespaces/{}/secrets",
)
STEPS = ("functions", "namespace", "operator")


SHORT = {("functions", "namespace", "operator"), ("operator", "namespace", "functions")}
ORDERS = [pytest.param(one, marks=[] if one in SHORT else [pytest.mark.long]) for one in itertools.permutations(STEPS)]


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_any_order_of_deletions_ends(api: Api, tmp_path: Path, postgres_dsn: str, order: tuple[str, ...]) -> None:
    """With runs in flight, whether they are cancelled or waited for, the namespaces are gone within a minute of the last deletion."""
    installed = Installed(api, tmp_path, postgres_dsn)
    plain, drains = (Place(api, api.make_namespace()) for _ in range(2))
    operator = installed.operator()
    with operator, Kubelet(api):
        for place, policy in ((plain, "Cancel"), (drains, "Drain")):
            place.apply(function("one", deletionPolicy=policy))
            place.ready("one")
            place.start_run("one")
        acts: dict[str, Callable[[], None]] = {
            "functions": lambda: delete_functions(
                plain, drains, gone_at_once="namespace" not in order[: order.index("functions")]
            ),
            "namespace": lambda: delete_namespaces(plain, drains),
            "operator": lambda: uninstall(api, installed, operator, tmp_path),
        }
        for step in order:
            acts[step]()
        for place in (plain, drains):
            api.wait_gone(f"/api/v1/namespaces/{place.namespace}", GONE_WITHIN)
    installed.remove()


def delete_functions(plain: Place, drains: Place, *, gone_at_once: bool) -> None:
    """Delete the functions; where nobody waits for runs, all that was made for them goes too, operator or not."""
    for place in (plain, drains):
        place.api.try_kubectl("-n", place.namespace, "delete", "dfn", "--all", "--wait=false")
    if gone_at_once:
        eventually(lambda: left(plain) == [], GONE_WITHIN)


def left(place: Place) -> list[str]:
    """The functions of a namespace and all that was made for them."""
    found = [one["metadata"]["name"] for one in place.api.items(FUNCTIONS.format(place.namespace))]
    for path in OURS:
        ours = f"{path.format(place.namespace)}?labelSelector=app.kubernetes.io%2Fmanaged-by%3Dstepwell-operator"
        found += [one["metadata"]["name"] for one in place.api.items(ours)]
    return found


def delete_namespaces(*places: Place) -> None:
    for place in places:
        place.api.delete(f"/api/v1/namespaces/{place.namespace}")


def uninstall(api: Api, installed: Installed, operator: OperatorProcess, folder: Path) -> None:
    """The operator ends, then its rights, then the chart's clean-up runs: the order of `helm uninstall`."""
    operator.stop()
    rights = [
        {"apiGroups": ["stepwell.dev"], "resources": ["durablefunctions"], "verbs": ["get", "list", "patch"]},
    ]
    role = f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{installed.namespace}"
    api.patch(role, {"rules": rights})
    done = run_script(api, (installed.namespace, "stepwell-operator"), "release_finalizers.py", {"NAMESPACES": ""}, folder)
    assert done.returncode == 0, done.stderr
