"""The operator's own metrics; names begin with `stepwell_operator_`."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

DURATIONS = (0.005, 0.02, 0.1, 0.5, 2.5, 10, 60)
Key = tuple[str, str]


class OperatorMetrics:
    """All metrics of an operator process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._reconciles = Counter(
            "stepwell_operator_reconciles", "Reconciles, by what became of them", ("kind", "error"), registry=self.registry
        )
        self._seconds = Histogram(
            "stepwell_operator_reconcile_seconds", "Time of one reconcile", ("kind",), registry=self.registry, buckets=DURATIONS
        )
        self._status_writes = Counter("stepwell_operator_status_writes", "Statuses written", registry=self.registry)
        self.leader = Gauge("stepwell_operator_leader", "Whether this operator leads", registry=self.registry)
        self._conditions: dict[Key, tuple[tuple[str, str], ...]] = {}
        info = Gauge("stepwell_operator_build_info", "What runs", ("version",), registry=self.registry)
        info.labels(version("stepwell")).set(1)
        self.leader.set(0)

    def reconciled(self, kind: str, error: str, seconds: float) -> None:
        """One reconcile was done; `error` is a class name, or none."""
        self._reconciles.labels(kind, error).inc()
        self._seconds.labels(kind).observe(seconds)

    def status_written(self) -> None:
        """A status was written."""
        self._status_writes.inc()

    def conditions(self, key: Key, conditions: Iterable[Mapping[str, Any]]) -> None:
        """A function's conditions, as they are now."""
        self._conditions[key] = tuple((one["type"], one["status"]) for one in conditions)

    def forget(self, key: Key) -> None:
        """A function is gone."""
        self._conditions.pop(key, None)

    def watch(self, live: "Live") -> None:
        """Show these figures too, read at every scrape."""
        self.registry.register(_Scrape(live, self._conditions))

    def render(self) -> bytes:
        """The exposition text."""
        return generate_latest(self.registry)


class Live:
    """What is read at a scrape: callables, so that nothing has to be pushed."""

    def __init__(
        self,
        queue: Callable[[], int],
        ages: Callable[[], Mapping[str, float]],
        calls: Callable[[], Mapping[tuple[str, str], int]],
        failures: Callable[[], Mapping[tuple[str, int], int]],
    ) -> None:
        self.queue = queue
        self.ages = ages
        self.calls = calls
        self.failures = failures


class _Scrape(Collector):
    def __init__(self, live: Live, conditions: Mapping[Key, tuple[tuple[str, str], ...]]) -> None:
        self._live = live
        self._conditions = conditions

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> Iterator[Any]:
        yield GaugeMetricFamily("stepwell_operator_queue_depth", "Objects that wait to be reconciled", value=self._live.queue())
        ages = GaugeMetricFamily(
            "stepwell_operator_watch_last_event_age_seconds", "Time since a watch was last known to hear all", labels=("kind",)
        )
        for kind, age in self._live.ages().items():
            ages.add_metric((kind,), age)
        yield ages
        calls = CounterMetricFamily("stepwell_operator_api_calls", "Calls to the API server", labels=("verb", "resource"))
        for (verb, resource), count in sorted(self._live.calls().items()):
            calls.add_metric((verb, resource), count)
        yield calls
        errors = CounterMetricFamily(
            "stepwell_operator_api_errors", "Calls that failed; 0 is no answer", labels=("verb", "status")
        )
        for (verb, status), count in sorted(self._live.failures().items()):
            errors.add_metric((verb, str(status)), count)
        yield errors
        yield self._functions()

    def _functions(self) -> GaugeMetricFamily:
        counts: dict[tuple[str, str, str], int] = {}
        for (namespace, _), conditions in self._conditions.items():
            for kind, status in conditions:
                counts[namespace, kind, status] = counts.get((namespace, kind, status), 0) + 1
        family = GaugeMetricFamily(
            "stepwell_operator_functions", "DurableFunctions, by condition", labels=("namespace", "condition", "status")
        )
        for labels, count in sorted(counts.items()):
            family.add_metric(labels, count)
        return family
