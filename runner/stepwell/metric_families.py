"""The metric families that this process counts itself: name, help, labels and buckets, each once.

Histograms have eight buckets with the infinite one. The families further down appear with their first figure.
"""

from collections.abc import Sequence
from functools import cached_property

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

FAST = (0.005, 0.02, 0.1, 0.5, 1, 2.5, 10)
WAITS = (0.01, 0.1, 1, 5, 60, 600, 3600)
LONG = (0.05, 0.5, 5, 60, 600, 3600, 86400)
OWN = ("namespace", "function")


class Families:
    """The families of one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        count, time = self._counter, self._histogram
        self.events_received = count(
            "events_received", "Events offered to the gateway, by what became of them", ("namespace", "result")
        )
        self.ingest_duration = time(
            "event_ingest_duration_seconds", "Time from the request's first byte to its answer", ("namespace", "result"), FAST
        )
        self.expression_errors = count(
            "expression_errors", "Expressions that gave no boolean; each counted as no match", (*OWN, "kind")
        )
        self.runs_created = count("runs_created", "Runs created", (*OWN, "trigger"))
        self.runs_finished = count("runs_finished", "Runs that ended, by how", (*OWN, "status"))
        self.parked = count("runs_parked", "Runs failed because they killed their runner five times without progress", OWN)
        self.queue_wait = time("run_queue_wait_seconds", "Time from due to claimed", OWN, WAITS)
        self.run_duration = time("run_duration_seconds", "Time from created to ended", (*OWN, "status"), LONG)
        self.step_attempts = count("step_attempts", "Attempts of steps", (*OWN, "outcome"))
        self.step_retries = count("step_retries", "Attempts that were followed by another", (*OWN, "reason"))
        self.retry_wait = time("step_retry_wait_seconds", "Wait between a failed attempt and the next", OWN, LONG)
        self.retry_lost = count("step_retry_lost_seconds", "Time spent in attempts that failed and were retried", OWN)
        self.step_duration = time("step_duration_seconds", "Time of one attempt of a step", OWN, FAST)
        self.memoized = count("steps_memoized", "Steps answered from the journal", OWN)
        self.claims = count("claims", "Queue items claimed", OWN)
        self.fenced = count("fenced_writes", "Writes refused by the epoch", OWN)
        self.recovered = count("runs_recovered", "Executions taken over", (*OWN, "cause"))
        self.loop_blocked = count("loop_blocked_seconds", "Time that user code held the event loop, past 1 s at a stretch", OWN)
        self.timer_lateness = time("timer_lateness_seconds", "Lateness of sleeps when they were over", ("namespace",), FAST)
        self.cron_ticks = count("cron_ticks", "Ledger rows written", (*OWN, "outcome"))
        self.waits_resolved = count("waits_resolved", "Waits ended", (*OWN, "outcome"))

    @cached_property
    def leases_lost(self) -> Counter:
        """By function."""
        return self._counter("leases_lost", "Leases that ended before their execution", OWN)

    @cached_property
    def recovery(self) -> Histogram:
        """By cause."""
        return self._histogram("recovery_seconds", "Time from the last beat to the new claim", ("namespace", "cause"), LONG)

    @cached_property
    def expression_seconds(self) -> Histogram:
        """By kind."""
        buckets = (0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01)
        return self._histogram("expression_seconds", "Time of one expression on one event", ("namespace", "kind"), buckets)

    @cached_property
    def cron_lag(self) -> Histogram:
        """By function."""
        return self._histogram("cron_lag_seconds", "Fired minus due", OWN, WAITS)

    @cached_property
    def cron_next(self) -> Gauge:
        """By function."""
        return Gauge("stepwell_cron_next_timestamp_seconds", "Next due instant", OWN, registry=self.registry)

    @cached_property
    def store_operation(self) -> Histogram:
        """By verb."""
        return self._histogram("store_operation_seconds", "Time of one store verb", ("namespace", "op"), FAST)

    @cached_property
    def store_errors(self) -> Counter:
        """By verb and class."""
        return self._counter("store_errors", "Store verbs that failed", ("namespace", "op", "class"))

    @cached_property
    def store_connections(self) -> Gauge:
        """By state."""
        told = "Connections of this process"
        return Gauge("stepwell_store_pool_connections", told, ("namespace", "state"), registry=self.registry)

    @cached_property
    def dropped(self) -> Counter:
        """All together."""
        return self._counter(
            "metrics_dropped_series", "Functions past the cap, counted under the function `other`", ("namespace",)
        )

    def _counter(self, name: str, told: str, labels: Sequence[str]) -> Counter:
        return Counter(f"stepwell_{name}", told, labels, registry=self.registry)

    def _histogram(self, name: str, told: str, labels: Sequence[str], buckets: Sequence[float]) -> Histogram:
        return Histogram(f"stepwell_{name}", told, labels, registry=self.registry, buckets=buckets)
