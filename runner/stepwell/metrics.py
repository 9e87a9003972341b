"""What Prometheus sees. Labels are `namespace`, `function` and closed sets; never an id, a key or an error's text.

Counters of a registered function begin at zero, so that `rate()` and "never ran" work. What only the store knows is read in one
look, at most every five seconds, and never fails a scrape.
"""

import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from stepwell.clock import Clock
from stepwell.engine.run import RunStatus
from stepwell.errors import StoreError
from stepwell.store.protocol import Store
from stepwell.store.records import FunctionStats, Limit, Stats, TickOutcome, TriggerKind

disable_created_metrics()

FAST = (0.005, 0.02, 0.1, 0.5, 1, 2.5, 5, 10)
WAITS = (0.01, 0.1, 0.5, 1, 5, 60, 600, 3600)
LONG = (0.05, 0.5, 5, 60, 600, 3600, 21600, 86400)
CACHE = 5_000_000
RESULTS = ("accepted", "duplicate", "conflict", "too_large", "invalid", "unauthorized", "limited", "unavailable")
ENDS = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.SKIPPED)
OUTCOMES = ("ok", "error", "timeout")
REASONS = ("error", "timeout", "retry_after", "lost")
KINDS = ("trigger", "cancel", "wait", "key")
TICKS = {
    TickOutcome.FIRED: "fired",
    TickOutcome.COALESCED: "coalesced",
    TickOutcome.SKIPPED: "skipped",
    TickOutcome.WINDOW_SKIPPED: "window_skipped",
    TickOutcome.OVERLAP_SKIPPED: "overlap_skipped",
}
TRIGGERS = {
    TriggerKind.EVENT: "event",
    TriggerKind.CRON: "cron",
    TriggerKind.INVOKE: "invoke",
    TriggerKind.MANUAL: "manual",
    TriggerKind.RERUN: "rerun",
}


class Metrics:
    """All metrics of one process. `of(function)` gives a function's own, with the label look-ups done."""

    def __init__(self, component: str = "dev", namespace: str | None = None) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self.namespace = namespace or os.environ.get("STEPWELL_NAMESPACE", "default")
        self.component = component
        self.families = _Families(self.registry)
        self.store_figures = StoreFigures(self.namespace)
        self.registry.register(self.store_figures)
        self._functions: dict[str, FunctionMetrics] = {}
        self._received = {one: self.families.events_received.labels(self.namespace, one) for one in RESULTS}
        info = Gauge("stepwell_build_info", "What runs", ("version", "component", "python"), registry=self.registry)
        info.labels(version("stepwell"), component, platform.python_version()).set(1)

    def of(self, function_id: str) -> "FunctionMetrics":
        """The metrics of one function; made at its first mention, with counters at zero."""
        found = self._functions.get(function_id)
        if found is None:
            found = self._functions[function_id] = FunctionMetrics(self.families, self.namespace, function_id)
        return found

    def event_received(self, result: str) -> None:
        """Count an offered event by what became of it."""
        self._received[result].inc()

    def ingested(self, result: str, seconds: float) -> None:
        """Time of one request that offered events."""
        self.families.ingest_duration.labels(self.namespace, result).observe(seconds)

    async def look(self, store: Store, clock: Clock, limits: Iterable[Limit]) -> None:
        """Read what only the store knows, at most every five seconds; a store that is away leaves the last figures."""
        await self.store_figures.look(store, clock, limits)

    def render(self) -> tuple[bytes, str]:
        """The exposition text and its content type."""
        return generate_latest(self.registry), "text/plain; version=0.0.4; charset=utf-8"


class FunctionMetrics:
    """One function's metrics; every increment is one attribute and one call."""

    def __init__(self, families: "_Families", namespace: str, function_id: str) -> None:
        own = (namespace, function_id)
        self._families = families
        self._own = own
        self._created = {kind: families.runs_created.labels(*own, name) for kind, name in TRIGGERS.items()}
        self._finished = {status: families.runs_finished.labels(*own, status.value) for status in ENDS}
        self._attempts = {outcome: families.step_attempts.labels(*own, outcome) for outcome in OUTCOMES}
        self._retries = {reason: families.step_retries.labels(*own, reason) for reason in REASONS}
        self._errors = {kind: families.expression_errors.labels(*own, kind) for kind in KINDS}
        self._waits = {outcome: families.waits_resolved.labels(*own, outcome) for outcome in ("event", "timeout")}
        self._claims = families.claims.labels(*own)
        self._recovered = families.recovered.labels(*own, "lease_expired")
        self._retry_lost = families.retry_lost.labels(*own)
        self.parked = families.parked.labels(*own)
        self.memoized = families.memoized.labels(*own)
        self.fenced = families.fenced.labels(*own)
        self.loop_blocked = families.loop_blocked.labels(*own)
        self._queue_wait: Any = None
        self._step_seconds: Any = None

    def created(self, trigger: TriggerKind, *, landed: bool, skipped: bool) -> None:
        """A start that was committed."""
        if landed:
            self._created[trigger].inc()
        elif skipped:
            self._finished[RunStatus.SKIPPED].inc()

    def claimed(self, waited: float, *, recovered: bool) -> None:
        """A run was claimed `waited` seconds after it was due."""
        self._claims.inc()
        if self._queue_wait is None:
            self._queue_wait = self._families.queue_wait.labels(*self._own)
        self._queue_wait.observe(max(waited, 0.0))
        if recovered:
            self._recovered.inc()

    def finished(self, status: RunStatus, seconds: float) -> None:
        """A run ended here."""
        self._finished[status].inc()
        self._families.run_duration.labels(*self._own, status.value).observe(seconds)

    def ended_elsewhere(self, status: RunStatus) -> None:
        """A run was ended by a cancellation."""
        self._finished[status].inc()

    def step_done(self, seconds: float, outcome: str) -> None:
        """One try of a step."""
        self._attempts[outcome].inc()
        if self._step_seconds is None:
            self._step_seconds = self._families.step_duration.labels(*self._own)
        self._step_seconds.observe(seconds)

    def retried(self, reason: str, wait: float, lost: float = 0.0) -> None:
        """A failed try that is followed by another."""
        known = {"TimeoutError": "timeout", "RetryAfterError": "retry_after"}.get(reason, "error")
        self._retries[known].inc()
        self._families.retry_wait.labels(*self._own).observe(wait)
        self._retry_lost.inc(lost)

    def expression_error(self, kind: str) -> None:
        """An expression gave no boolean, or no value."""
        self._errors[kind].inc()

    def wait_resolved(self, outcome: str) -> None:
        """A wait ended."""
        self._waits[outcome].inc()

    def timer_fired(self, late: float) -> None:
        """A sleep was over `late` seconds ago."""
        self._families.timer_lateness.labels(self._own[0]).observe(late)

    def ticked(self, outcome: TickOutcome) -> None:
        """A ledger row was written."""
        self._families.cron_ticks.labels(*self._own, TICKS[outcome]).inc()

    def log_refused(self, run_id: str, error: Exception) -> None:
        """The store would not take a turn."""
        structlog.get_logger("stepwell.engine").error(
            "a turn was refused; its run is tried again", run_id=run_id, error=str(error)
        )


class _Families:
    """The metric families, each once."""

    def __init__(self, registry: CollectorRegistry) -> None:
        own = ("namespace", "function")

        def counter(name: str, told: str, labels: Sequence[str]) -> Counter:
            return Counter(name, told, labels, registry=registry)

        def histogram(name: str, told: str, labels: Sequence[str], buckets: Sequence[float]) -> Histogram:
            return Histogram(name, told, labels, registry=registry, buckets=buckets)

        self.events_received = counter(
            "stepwell_events_received", "Events offered to the gateway, by what became of them", ("namespace", "result")
        )
        self.ingest_duration = histogram(
            "stepwell_event_ingest_duration_seconds",
            "Time from the request's first byte to its answer",
            ("namespace", "result"),
            FAST,
        )
        self.expression_errors = counter(
            "stepwell_expression_errors", "Expressions that gave no boolean; each counted as no match", (*own, "kind")
        )
        self.runs_created = counter("stepwell_runs_created", "Runs created", (*own, "trigger"))
        self.runs_finished = counter("stepwell_runs_finished", "Runs that ended, by how", (*own, "status"))
        self.parked = counter(
            "stepwell_runs_parked", "Runs failed because they killed their runner five times without progress", own
        )
        self.queue_wait = histogram("stepwell_run_queue_wait_seconds", "Time from due to claimed", own, WAITS)
        self.run_duration = histogram("stepwell_run_duration_seconds", "Time from created to ended", (*own, "status"), LONG)
        self.step_attempts = counter("stepwell_step_attempts", "Attempts of steps", (*own, "outcome"))
        self.step_retries = counter("stepwell_step_retries", "Attempts that were followed by another", (*own, "reason"))
        self.retry_wait = histogram("stepwell_step_retry_wait_seconds", "Wait between a failed attempt and the next", own, LONG)
        self.retry_lost = counter("stepwell_step_retry_lost_seconds", "Time spent in attempts that failed and were retried", own)
        self.step_duration = histogram("stepwell_step_duration_seconds", "Time of one attempt of a step", own, FAST)
        self.memoized = counter("stepwell_steps_memoized", "Steps answered from the journal", own)
        self.claims = counter("stepwell_claims", "Queue items claimed", own)
        self.fenced = counter("stepwell_fenced_writes", "Writes refused by the epoch", own)
        self.recovered = counter("stepwell_runs_recovered", "Executions taken over", (*own, "cause"))
        self.loop_blocked = counter(
            "stepwell_loop_blocked_seconds", "Time that user code held the event loop, past 1 s at a stretch", own
        )
        self.timer_lateness = histogram(
            "stepwell_timer_lateness_seconds", "Lateness of sleeps when they were over", ("namespace",), FAST
        )
        self.cron_ticks = counter("stepwell_cron_ticks", "Ledger rows written", (*own, "outcome"))
        self.waits_resolved = counter("stepwell_waits_resolved", "Waits ended", (*own, "outcome"))


class StoreFigures(Collector):
    """Gauges made of the last look at the store."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._stats: Stats | None = None
        self._limits: dict[str, Limit] = {}
        self._looked = 0

    async def look(self, store: Store, clock: Clock, limits: Iterable[Limit]) -> None:
        """Look again, unless the last look is fresh."""
        now = clock.now()
        if self._stats is not None and now - self._looked < CACHE and clock.pinned() is None:
            return
        try:
            self._stats = await store.stats(clock.pinned())
        except StoreError:
            return
        self._looked = now
        self._limits = {limit.function_id: limit for limit in limits}

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing is known before the first look."""
        return ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges."""
        stats = self._stats
        if stats is None:
            return
        own = ("namespace", "function")
        runs = GaugeMetricFamily("stepwell_runs", "Live runs", labels=(*own, "status"))
        depth = GaugeMetricFamily(
            "stepwell_queue_depth", "Queue items; due ones are the scaling signal", labels=(*own, "revision", "state")
        )
        oldest = GaugeMetricFamily("stepwell_queue_oldest_age_seconds", "Age of the oldest due queue item", labels=own)
        for one in stats.functions:
            self._runs(one, runs, depth)
            oldest.add_metric((self._namespace, one.function_id), one.oldest_due_age / 1e6)
        yield from (runs, depth, oldest)
        yield from self._concurrency(stats)
        slots = GaugeMetricFamily("stepwell_runner_slots", "Slots of live runners that may execute the function", labels=own)
        for function_id in sorted({name for runner in stats.runners for name in runner.functions}):
            slots.add_metric(
                (self._namespace, function_id), sum(one.slots for one in stats.runners if function_id in one.functions)
            )
        yield slots
        overdue = GaugeMetricFamily("stepwell_timers_overdue", "Timers more than 1 s past due", labels=("namespace",))
        overdue.add_metric((self._namespace,), stats.timers_overdue)
        yield overdue
        age = GaugeMetricFamily(
            "stepwell_store_oldest_xmin_age_seconds", "Oldest snapshot that holds vacuum back", labels=("namespace",)
        )
        age.add_metric((self._namespace,), stats.oldest_xmin_age / 1e6)
        dead = GaugeMetricFamily("stepwell_store_dead_tuples", "Dead rows", labels=("namespace", "table"))
        for table, count in stats.dead_tuples:
            dead.add_metric((self._namespace, table), count)
        yield from (age, dead)

    def _runs(self, one: FunctionStats, runs: GaugeMetricFamily, depth: GaugeMetricFamily) -> None:
        figures = {
            "queued": one.queued_due + one.queued_later,
            "running": one.running,
            "sleeping": one.sleeping,
            "waiting": one.waiting,
        }
        for status, figure in figures.items():
            runs.add_metric((self._namespace, one.function_id, status), figure)
        for revision, due, later in one.revision_due:
            depth.add_metric((self._namespace, one.function_id, revision, "due"), due)
            depth.add_metric((self._namespace, one.function_id, revision, "later"), later)

    def _concurrency(self, stats: Stats) -> Iterator[GaugeMetricFamily]:
        labels = ("namespace", "function", "scope")
        limit = GaugeMetricFamily("stepwell_concurrency_limit", "Limit of unexpired leases", labels=labels)
        used = GaugeMetricFamily(
            "stepwell_concurrency_in_use", "Unexpired leases under the limit (key: the fullest key)", labels=labels
        )
        blocked = GaugeMetricFamily("stepwell_concurrency_blocked_runs", "Due runs held back by the limit", labels=labels)
        oldest = GaugeMetricFamily(
            "stepwell_concurrency_oldest_blocked_age_seconds", "Age of the oldest run held back", labels=labels
        )
        for one in stats.functions:
            known = self._limits.get(one.function_id)
            if known is None:
                continue
            own = (self._namespace, one.function_id, "function")
            limit.add_metric(own, known.first)
            used.add_metric(own, max(one.fullest_key, 0))
            blocked.add_metric(own, one.blocked)
            oldest.add_metric(own, one.oldest_blocked_age / 1e6)
        yield from (limit, used, blocked, oldest)
