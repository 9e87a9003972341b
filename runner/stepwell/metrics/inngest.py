"""Inngest's own series beside ours, for whoever brings dashboards along; switched on by STEPWELL_METRICS_INNGEST=1.

The names are those of its self-hosted export. An SDK request runs one step there, so attempts of steps stand for it. `date`, a
label of its cloud, is left out: it makes a new series each day.
"""

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from stepwell.metrics import catalogue as names
from stepwell.metrics.cells import Shelf
from stepwell.metrics.figures import StoreFigures
from stepwell.metrics.function import FunctionMetrics

FN, FN_STATUS = ("fn",), ("fn", "status")


class InngestNames(Collector):
    """The same figures under other names."""

    def __init__(self, shelf: Shelf, functions: Mapping[str, FunctionMetrics], figures: StoreFigures) -> None:
        self._shelf = shelf
        self._functions = functions
        self._figures = figures

    def describe(self) -> list[Family]:
        """Nothing that could clash with ours."""
        return []

    def collect(self) -> Iterator[Family]:
        """Runs and requests, scheduled, started and ended, and the depth of the queue."""
        created = self._shelf.totals(names.RUNS_CREATED, 0)
        attempts = self._shelf.totals(names.STEP_ATTEMPTS, 0)
        started = {(one.id,): one.started.value for one in self._functions.values()}
        yield _family("inngest_function_run_scheduled", "Function runs scheduled", FN, created)
        yield _family("inngest_function_run_started", "Function runs started", FN, started)
        ended = _titled(self._shelf.totals(names.RUNS_FINISHED, 0, 1))
        yield _family("inngest_function_run_ended", "Function runs ended", FN_STATUS, ended)
        yield _family("inngest_sdk_req_scheduled", "Executions scheduled", FN, attempts)
        yield _family("inngest_sdk_req_started", "Executions started", FN, attempts)
        done = self._shelf.totals(names.STEP_ATTEMPTS, 0, 1)
        yield _family("inngest_sdk_req_ended", "Executions ended", FN_STATUS, done)
        depth = self._figures.queue_depth()
        if depth is not None:
            yield GaugeMetricFamily("inngest_queue_depth", "Queue items that are due", value=depth)


def _titled(found: Mapping[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    return {(function_id, status.capitalize()): value for (function_id, status), value in found.items()}


def _family(name: str, told: str, labels: tuple[str, ...], values: Mapping[tuple[str, ...], float]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, told, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family
