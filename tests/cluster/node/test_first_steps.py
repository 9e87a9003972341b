"""What a user does first: `helm install`, `kubectl apply`, an event, and a look."""

import pytest
from chart.rendering import ROOT
from cluster.node.release import Release, Town

pytestmark = [pytest.mark.cluster, pytest.mark.node, pytest.mark.timeout(300)]
ORDERS = ROOT / "examples" / "cluster" / "orders.yaml"


def test_the_first_order(town: Town) -> None:
    """After `helm install` and `kubectl apply`, an event at the namespace's gateway starts a run that completes in a pod."""
    town.api.kubectl("-n", town.namespace, "apply", "--server-side", "-f", str(ORDERS))
    town.api.kubectl("-n", town.namespace, "wait", "--for=condition=Ready", "--timeout=60s", "dfn/process-order")
    assert town.row("process-order")[1:3] == ["True", "Available"]
    [event] = town.send(town.key("event-key"), {"name": "order/created", "data": {"orderId": "7", "total": 30}})
    run = town.run_of(event)
    assert run["status"] == "COMPLETED"
    assert run["output"] == {"order": "7", "parcel": "parcel-7", "receipt": "7/30", "tries": 2}
    steps = {step["id"]: step for step in town.ask(f"/v1/runs/{run['run_id']}/steps")}
    assert list(steps) == ["charge", "cool-off", "ship"]
    [pod] = town.pods()
    said = town.api.kubectl("-n", town.namespace, "logs", pod["metadata"]["name"])
    assert "order processed" in said


def test_the_line_that_the_notes_say(town: Town) -> None:
    """The three commands of the chart's notes work as they stand, `kubectl exec … stepwell send --wait` among them."""
    town.api.kubectl("-n", town.namespace, "apply", "--server-side", "-f", str(ORDERS))
    town.api.kubectl("-n", town.namespace, "wait", "--for=condition=Ready", "--timeout=3m", "dfn/process-order")
    data = '{"orderId": "1", "total": 30}'
    command = ("stepwell", "send", "order/created", "--data", data, "--wait")
    said = town.api.kubectl("-n", town.namespace, "exec", "deploy/stepwell-gateway", "--", *command)
    assert "COMPLETED" in said
    assert "parcel-1" in said


def test_helm_test(release: Release) -> None:
    """`helm test` passes, and prints what the operator says of itself."""
    said = release.run("test", "stepwell", "--logs")
    assert "Phase:          Succeeded" in said
