"""What a process exposes is what Prometheus' own linter calls good."""

import subprocess
from pathlib import Path

from prometheus_client import generate_latest
from unit.test_metrics import everything

from stepwell.metrics import Metrics
from stepwell.metrics.collector import written
from stepwell.settings import MetricSettings
from stepwell_operator.metrics import Live, OperatorMetrics


def lint(prometheus: Path, text: bytes) -> str:
    """What `promtool check metrics` says of it."""
    command = [str(prometheus / "promtool"), "check", "metrics"]
    done = subprocess.run(command, input=text, check=False, capture_output=True, timeout=60)
    return (done.stdout + done.stderr).decode()


def operator() -> OperatorMetrics:
    metrics = OperatorMetrics()
    metrics.watch(Live(lambda: 3, lambda: {"durablefunctions": 2.0}, lambda: {("get", "pods", 200): 7}, lambda: 1000.0))
    metrics.reconciled(0.1, changed=True)
    metrics.reconciled(0.1, changed=False, failure="Conflict")
    metrics.conditions(("shop", "orders"), [{"type": "Ready", "status": "True"}])
    return metrics


def test_promtool_finds_nothing(prometheus: Path) -> None:
    """`promtool check metrics` has no complaint about a process on which everything has happened, nor about the operator."""
    assert lint(prometheus, everything().render()[0]) == ""
    assert lint(prometheus, operator().render()) == ""


def test_inngests_names_are_well_formed(prometheus: Path) -> None:
    """With Inngest's names switched on there is nothing new to complain about."""
    metrics = Metrics("dev", settings=MetricSettings(inngest=True))
    metrics.of("orders").step_done(0.1, "ok")
    assert lint(prometheus, metrics.render()[0]) == ""


def test_the_operator_tells_what_it_did() -> None:
    """Reconciles by result, errors by reason, watches by when they last told, answers by code, functions by condition."""
    lines = operator().render().decode().splitlines()
    for line in (
        'stepwell_reconcile_total{result="changed"} 1.0',
        'stepwell_reconcile_total{result="unchanged"} 0.0',
        'stepwell_reconcile_total{result="error"} 1.0',
        'stepwell_reconcile_errors_total{reason="Conflict"} 1.0',
        "stepwell_reconcile_queue_depth 3.0",
        'stepwell_watch_last_event_timestamp_seconds{resource="durablefunctions"} 998.0',
        'stepwell_api_requests_total{code="200",resource="pods",verb="get"} 7.0',
        'stepwell_functions{condition="Ready",status="True"} 1.0',
        "stepwell_operator_leader 0.0",
    ):
        assert line in lines


def test_the_operators_text_is_that_of_prometheus_own_client() -> None:
    """The operator's series have no namespace; they too are written byte for byte as `generate_latest` would."""
    metrics = operator()
    metrics.render()
    assert written(metrics.registry) == generate_latest(metrics.registry)
