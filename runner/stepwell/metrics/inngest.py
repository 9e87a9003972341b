"""Inngest's own series beside ours, for whoever brings dashboards along; switched on by STEPWELL_METRICS_INNGEST=1.

The names are those of its self-hosted export. An SDK request runs one step there, so attempts of steps stand for it. `date`, a
label of its cloud, is left out: it makes a new series each day.
"""

from collections.abc import Iterator, Mapping

from stepwell.metrics import catalogue as names
from stepwell.metrics.catalogue import By, Label, Metric, Type
from stepwell.metrics.cells import Labels, Shelf
from stepwell.metrics.collector import Family
from stepwell.metrics.figures import StoreFigures
from stepwell.metrics.function import FunctionMetrics

_FN, _STATUS = Label("fn"), Label("status")


def _counter(name: str, labels: tuple[Label, ...], told: str) -> Metric:
    return Metric(f"inngest_{name}", Type.COUNTER, By.DISPATCH, labels, told, namespaced=False)


RUNS_SCHEDULED = _counter("function_run_scheduled_total", (_FN,), "Function runs scheduled")
RUNS_STARTED = _counter("function_run_started_total", (_FN,), "Function runs started")
RUNS_ENDED = _counter("function_run_ended_total", (_FN, _STATUS), "Function runs ended")
REQUESTS_SCHEDULED = _counter("sdk_req_scheduled_total", (_FN,), "Executions scheduled")
REQUESTS_STARTED = _counter("sdk_req_started_total", (_FN,), "Executions started")
REQUESTS_ENDED = _counter("sdk_req_ended_total", (_FN, _STATUS), "Executions ended")
QUEUE_DEPTH = Metric("inngest_queue_depth", Type.GAUGE, By.STORE, (), "Queue items that are due", namespaced=False)


def families(shelf: Shelf, functions: Mapping[str, FunctionMetrics], figures: StoreFigures) -> Iterator[Family]:
    """Runs and requests, scheduled, started and ended, and the depth of the queue: the same figures under other names."""
    attempts = shelf.totals(names.STEP_ATTEMPTS, 0)
    yield RUNS_SCHEDULED, [*shelf.totals(names.RUNS_CREATED, 0).items()]
    yield RUNS_STARTED, [((one.id,), one.started.value) for one in list(functions.values())]
    yield RUNS_ENDED, [*_titled(shelf.totals(names.RUNS_FINISHED, 0, 1)).items()]
    yield REQUESTS_SCHEDULED, [*attempts.items()]
    yield REQUESTS_STARTED, [*attempts.items()]
    yield REQUESTS_ENDED, [*shelf.totals(names.STEP_ATTEMPTS, 0, 1).items()]
    depth = figures.queue_depth()
    if depth is not None:
        yield QUEUE_DEPTH, [((), depth)]


def _titled(found: Mapping[Labels, float]) -> dict[Labels, float]:
    return {(function_id, status.capitalize()): value for (function_id, status), value in found.items()}
