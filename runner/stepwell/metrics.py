"""What Prometheus sees. Labels are `namespace`, `function` and closed sets; never an id, a key or an error's text.

Counters of a registered function begin at zero, so that `rate()` and "never ran" work; its label sets go when it goes. What only
the store knows is read in one look, at most every five seconds, and neither holds up nor fails a scrape.
"""

import asyncio
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Gauge, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from stepwell.clock import Clock
from stepwell.engine.run import RunStatus
from stepwell.errors import StoreError
from stepwell.metric_families import OWN, Families
from stepwell.spec.function import CronTrigger, FunctionSpec
from stepwell.store.protocol import Store
from stepwell.store.records import FunctionStats, Limit, RunnerRow, Stats, TickOutcome, TriggerKind

disable_created_metrics()

CACHE = 5_000_000
STALE = 60_000_000
PATIENCE = 1.0
MOST_FUNCTIONS = 2000
OTHER = "other"
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

    def __init__(
        self, component: str = "dev", namespace: str = "default", registry: CollectorRegistry | None = None, store: str = ""
    ) -> None:
        self.registry = registry or CollectorRegistry(auto_describe=False)
        self.namespace = namespace
        self.component = component
        self.families = Families(self.registry)
        self._functions: dict[str, FunctionMetrics] = {}
        self.store_figures = StoreFigures(self.namespace, self._functions)
        self.registry.register(self.store_figures)
        self._received = {one: self.families.events_received.labels(self.namespace, one) for one in RESULTS}
        info = Gauge("stepwell_build_info", "What runs", ("version", "component", "python", "store"), registry=self.registry)
        info.labels(version("stepwell"), component, platform.python_version(), store).set(1)

    def of(self, function_id: str) -> "FunctionMetrics":
        """The metrics of one function; made at its first mention, with counters at zero. Past 2,000 functions share one."""
        found = self._functions.get(function_id)
        if found is None:
            if len(self._functions) > MOST_FUNCTIONS and function_id != OTHER:
                self.families.dropped.labels(self.namespace).inc()
                return self.of(OTHER)
            found = self._functions[function_id] = FunctionMetrics(self.families, self.namespace, function_id)
        return found

    def keep(self, specs: Iterable[FunctionSpec]) -> None:
        """Have the metrics of these functions, which are all that are registered, and let go of those of any other."""
        known = {spec.id: spec for spec in specs}
        for function_id in [one for one in self._functions if one not in known]:
            self._functions.pop(function_id).forget()
        for spec in known.values():
            self.of(spec.id).configured(spec)

    def event_received(self, result: str) -> None:
        """Count an offered event by what became of it."""
        self._received[result].inc()

    def ingested(self, result: str, seconds: float) -> None:
        """Time of one request that offered events."""
        self.families.ingest_duration.labels(self.namespace, result).observe(seconds)

    def expression_tried(self, kind: str, seconds: float) -> None:
        """Time of one expression on one event."""
        self.families.expression_seconds.labels(self.namespace, kind).observe(seconds)

    def store_done(self, op: str, seconds: float) -> None:
        """Time of one store verb."""
        self.families.store_operation.labels(self.namespace, op).observe(seconds)

    def store_failed(self, op: str, kind: str) -> None:
        """A store verb failed: conflict, timeout, unavailable, full or other."""
        self.families.store_errors.labels(self.namespace, op, kind).inc()

    def store_connections(self, used: int, idle: int, waiting: int) -> None:
        """Connections that this process holds or waits for."""
        for state, number in (("used", used), ("idle", idle), ("waiting", waiting)):
            self.families.store_connections.labels(self.namespace, state).set(number)

    async def look(self, store: Store, clock: Clock, limits: Iterable[Limit]) -> None:
        """Read what only the store knows, at most every five seconds and waiting for a second.

        A store that is away leaves the last figures for a minute.
        """
        await self.store_figures.look(store, clock, limits)

    def render(self) -> tuple[bytes, str]:
        """The exposition text and its content type."""
        return generate_latest(self.registry), "text/plain; version=0.0.4; charset=utf-8"


class FunctionMetrics:
    """One function's metrics; every increment is one attribute and one call."""

    def __init__(self, families: Families, namespace: str, function_id: str) -> None:
        self._families = families
        self._own = (namespace, function_id)
        self._children: dict[tuple[Any, ...], Any] = {}
        self._made: list[tuple[MetricWrapperBase, tuple[str, ...]]] = []
        self.spec: FunctionSpec | None = None
        self._created = {kind: self._child(families.runs_created, name) for kind, name in TRIGGERS.items()}
        self._finished = {status: self._child(families.runs_finished, status.value) for status in ENDS}
        self._attempts = {outcome: self._child(families.step_attempts, outcome) for outcome in OUTCOMES}
        self._retries = {reason: self._child(families.step_retries, reason) for reason in REASONS}
        self._errors = {kind: self._child(families.expression_errors, kind) for kind in KINDS}
        self._waits = {outcome: self._child(families.waits_resolved, outcome) for outcome in ("event", "timeout")}
        self._claims = self._child(families.claims)
        self._recovered = self._child(families.recovered, "lease_expired")
        self._retry_lost = self._child(families.retry_lost)
        self.parked = self._child(families.parked)
        self.memoized = self._child(families.memoized)
        self.fenced = self._child(families.fenced)
        self.loop_blocked = self._child(families.loop_blocked)
        self._queue_wait: Any = None
        self._step_seconds: Any = None

    def configured(self, spec: FunctionSpec) -> None:
        """What the function is: its schedules' ticks are counted from zero, its limits have their scopes."""
        self.spec = spec
        if any(isinstance(trigger, CronTrigger) for trigger in spec.triggers):
            for outcome in TICKS.values():
                self._later(self._families.cron_ticks, outcome)

    def forget(self) -> None:
        """Let go of every label set of this function."""
        for family, labels in self._made:
            with suppress(KeyError):
                family.remove(*labels)

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
            self._queue_wait = self._child(self._families.queue_wait)
        self._queue_wait.observe(max(waited, 0.0))
        if recovered:
            self._recovered.inc()

    def recovered(self, cause: str, seconds: float) -> None:
        """A run was taken over (lease_expired, drain or restart) so long after its runner's last beat."""
        self._later(self._families.recovered, cause).inc()
        self._families.recovery.labels(self._own[0], cause).observe(max(seconds, 0.0))

    def lease_lost(self) -> None:
        """The lease ended before the execution."""
        self._later(self._families.leases_lost).inc()

    def finished(self, status: RunStatus, seconds: float) -> None:
        """A run ended here."""
        self._finished[status].inc()
        self._later(self._families.run_duration, status.value).observe(max(seconds, 0.0))

    def ended_elsewhere(self, status: RunStatus) -> None:
        """A run was ended by a cancellation."""
        self._finished[status].inc()

    def step_done(self, seconds: float, outcome: str) -> None:
        """One try of a step: ok, error, timeout, cancelled or fenced."""
        counter = self._attempts.get(outcome)
        if counter is None:
            counter = self._attempts[outcome] = self._child(self._families.step_attempts, outcome)
        counter.inc()
        if self._step_seconds is None:
            self._step_seconds = self._child(self._families.step_duration)
        self._step_seconds.observe(seconds)

    def retried(self, reason: str, wait: float, lost: float = 0.0) -> None:
        """A failed try that is followed by another; `reason` is the error's class name, or "lost"."""
        known = {"TimeoutError": "timeout", "RetryAfterError": "retry_after", "lost": "lost"}.get(reason, "error")
        self._retries[known].inc()
        self._later(self._families.retry_wait).observe(wait)
        self._retry_lost.inc(max(lost, 0.0))

    def expression_error(self, kind: str) -> None:
        """An expression gave no boolean, or no value."""
        self._errors[kind].inc()

    def wait_resolved(self, outcome: str) -> None:
        """A wait ended."""
        self._waits[outcome].inc()

    def timer_fired(self, late: float) -> None:
        """A sleep was over `late` seconds ago."""
        self._families.timer_lateness.labels(self._own[0]).observe(late)

    def ticked(self, outcome: TickOutcome, lag: float | None = None, next_due: int | None = None) -> None:
        """A ledger row was written, `lag` seconds after its instant; the next one is due at `next_due` (µs)."""
        self._later(self._families.cron_ticks, TICKS[outcome]).inc()
        if lag is not None:
            self._later(self._families.cron_lag).observe(max(lag, 0.0))
        if next_due is not None:
            self._later(self._families.cron_next).set(next_due / 1e6)

    def log_refused(self, run_id: str, error: Exception) -> None:
        """The store would not take a turn."""
        structlog.get_logger("stepwell.engine").error(
            "a turn was refused; its run is tried again", run_id=run_id, error=str(error)
        )

    def log_conflict(self, run_id: str, event_ids: Sequence[str]) -> None:
        """Events that code sent under ids of other events: the first ones stay."""
        structlog.get_logger("stepwell.engine").warning(
            "a step sent events whose ids belong to other events; these were not accepted, choose ids of their own",
            run_id=run_id,
            events=list(event_ids),
        )

    def _later(self, family: MetricWrapperBase, *labels: str) -> Any:
        """The child that appears with its first figure."""
        key = (family, *labels)
        found = self._children.get(key)
        if found is None:
            found = self._children[key] = self._child(family, *labels)
        return found

    def _child(self, family: MetricWrapperBase, *labels: str) -> Any:
        self._made.append((family, (*self._own, *labels)))
        return family.labels(*self._own, *labels)


class StoreFigures(Collector):
    """Gauges made of the last look at the store. Functions that have nothing to do are there too, with zeros."""

    def __init__(self, namespace: str, functions: Mapping[str, FunctionMetrics]) -> None:
        self._namespace = namespace
        self._functions = functions
        self._stats: Stats | None = None
        self._limits: dict[str, Limit] = {}
        self._looked: int | None = None
        self._looking: asyncio.Task[None] | None = None

    async def look(self, store: Store, clock: Clock, limits: Iterable[Limit]) -> None:
        """Look again, unless the last look is fresh; go on without an answer after a second."""
        self._limits = {limit.function_id: limit for limit in limits}
        fresh = self._looked is not None and clock.now() - self._looked < CACHE and clock.pinned() is None
        if fresh and self._stats is not None:
            return
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look(store, clock))
        await asyncio.wait({self._looking}, timeout=PATIENCE)
        if self._looked is not None and clock.now() - self._looked > STALE:
            self._stats = None

    async def _look(self, store: Store, clock: Clock) -> None:
        try:
            self.show(await store.stats(clock.pinned()))
        except StoreError:
            return
        except Exception:  # noqa: BLE001 - a scrape never fails
            structlog.get_logger("stepwell.metrics").exception("the store's figures can't be read")
            return
        self._looked = clock.now()

    def show(self, stats: Stats) -> None:
        """Show these figures from now on."""
        self._stats = stats

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing is known before the first look."""
        return ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges."""
        stats = self._stats
        if stats is None:
            return
        busy = {one.function_id: one for one in stats.functions}
        idle = {
            name: FunctionStats(name, 0, 0, 0, 0, 0, 0, 0, 0, 0) for name in sorted({*self._functions, *self._limits} - set(busy))
        }
        functions = {**busy, **idle}
        runs = GaugeMetricFamily("stepwell_runs", "Live runs", labels=(*OWN, "status"))
        depth = GaugeMetricFamily(
            "stepwell_queue_depth", "Queue items; due ones are the scaling signal", labels=(*OWN, "revision", "state")
        )
        oldest = GaugeMetricFamily("stepwell_queue_oldest_age_seconds", "Age of the oldest due queue item", labels=OWN)
        for one in functions.values():
            self._runs(one, runs, depth)
            oldest.add_metric((self._namespace, one.function_id), one.oldest_due_age / 1e6)
        yield from (runs, depth, oldest)
        yield from self._concurrency(functions)
        slots = GaugeMetricFamily("stepwell_runner_slots", "Slots of live runners that may execute it", labels=(*OWN, "state"))
        for function_id, (used, free) in slots_of([one for one in stats.runners if one.expires > stats.now], busy).items():
            slots.add_metric((self._namespace, function_id, "used"), used)
            slots.add_metric((self._namespace, function_id, "free"), free)
        yield slots
        overdue = GaugeMetricFamily("stepwell_timers_overdue", "Timers more than 1 s past due", labels=("namespace",))
        overdue.add_metric((self._namespace,), stats.timers_overdue)
        age = GaugeMetricFamily(
            "stepwell_store_oldest_xmin_age_seconds", "Oldest snapshot that holds vacuum back", labels=("namespace",)
        )
        age.add_metric((self._namespace,), stats.oldest_xmin_age / 1e6)
        dead = GaugeMetricFamily("stepwell_store_dead_tuples", "Dead rows", labels=("namespace", "table"))
        for table, count in stats.dead_tuples:
            dead.add_metric((self._namespace, table), count)
        yield from (overdue, age, dead)

    def _runs(self, one: FunctionStats, runs: GaugeMetricFamily, depth: GaugeMetricFamily) -> None:
        queued = one.queued_due + one.queued_later
        figures = {"queued": queued, "running": one.running, "sleeping": one.sleeping, "waiting": one.waiting}
        for status, figure in figures.items():
            runs.add_metric((self._namespace, one.function_id, status), figure)
        for revision, due, later in one.revision_due:
            depth.add_metric((self._namespace, one.function_id, revision, "due"), due)
            depth.add_metric((self._namespace, one.function_id, revision, "later"), later)

    def _concurrency(self, functions: Mapping[str, FunctionStats]) -> Iterator[GaugeMetricFamily]:
        labels = (*OWN, "scope")
        limit = GaugeMetricFamily("stepwell_concurrency_limit", "Limit of unexpired leases", labels=labels)
        used = GaugeMetricFamily(
            "stepwell_concurrency_in_use", "Unexpired leases under the limit (key: the fullest key)", labels=labels
        )
        blocked = GaugeMetricFamily("stepwell_concurrency_blocked_runs", "Due runs held back by the limit", labels=labels)
        oldest = GaugeMetricFamily(
            "stepwell_concurrency_oldest_blocked_age_seconds", "Age of the oldest run held back", labels=labels
        )
        for one in functions.values():
            scopes = self._scopes(one.function_id)
            for scope, most in scopes.items():
                limit.add_metric((self._namespace, one.function_id, scope), most)
            # The store tells one figure a function: it is that of the widest scope.
            for scope in list(scopes)[:1]:
                own = (self._namespace, one.function_id, scope)
                used.add_metric(own, one.fullest_key)
                blocked.add_metric(own, one.blocked)
                oldest.add_metric(own, one.oldest_blocked_age / 1e6)
        yield from (limit, used, blocked, oldest)

    def _scopes(self, function_id: str) -> dict[str, int]:
        """The limits of a function by scope, the one without a key first."""
        known = self._functions.get(function_id)
        if known is not None and known.spec is not None:
            scopes: dict[str, int] = {}
            for rule in sorted(known.spec.concurrency, key=lambda rule: rule.key is not None):
                scope = "function" if rule.key is None else "key" if rule.scope == "function" else "namespace"
                scopes.setdefault(scope, rule.limit)
            return scopes
        limit = self._limits.get(function_id)
        return {} if limit is None else {"function": limit.first}


def slots_of(runners: Iterable[RunnerRow], functions: Mapping[str, FunctionStats]) -> dict[str, tuple[int, int]]:
    """Used and free slots by function. Runners of one set of functions share their slots; draining ones have none free."""
    pools: dict[tuple[str, ...], tuple[int, int]] = {}
    for one in runners:
        total, draining = pools.get(one.functions, (0, 0))
        pools[one.functions] = (total + one.slots, draining + (one.slots if one.draining else 0))
    found: dict[str, tuple[int, int]] = {}
    for names, (total, draining) in pools.items():
        used = min(total, sum(functions[name].running for name in names if name in functions))
        free = max(total - draining - used, 0)
        for name in names:
            before = found.get(name, (0, 0))
            found[name] = (before[0] + used, before[1] + free)
    return dict(sorted(found.items()))
