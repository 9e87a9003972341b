"""Every metric that there is, once: name, type, labels, help, buckets, who counts it. Pure data.

What collects, the reference page, the rules, the alerts and the boards are made from this table, so that a name can't mean two
things. A name stays: whoever has a dashboard or an alert of their own relies on it. In text a metric is its name:
`f"rate({RUNS_CREATED}[5m])"`.
"""

from dataclasses import dataclass
from enum import StrEnum


class Type(StrEnum):
    """What Prometheus calls it."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class By(StrEnum):
    """The part of a process that has the figure."""

    DOOR = "gateway"
    """Takes events in: the gateway."""
    DISPATCH = "gateway, runner"
    """Commits: whoever starts, ends and sweeps."""
    CRON = "gateway (cron)"
    """Fires ticks: the gateway."""
    EXECUTION = "runner"
    """Executes runs: the runner."""
    STORE = "one gateway"
    """Read from the store by the one gateway of the well that is elected for it."""
    OPERATOR = "operator"
    ALL = "each"


@dataclass(frozen=True, slots=True)
class Label:
    """A label and, where they are a closed set, all its values."""

    name: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """One row of the table. `labels` come after `namespace`, which all but the operator's and `build_info` have."""

    name: str
    type: Type
    by: By
    labels: tuple[Label, ...]
    help: str
    buckets: tuple[float, ...] = ()
    namespaced: bool = True

    def __str__(self) -> str:
        """Its name, as queries have it."""
        return self.name

    @property
    def label_names(self) -> tuple[str, ...]:
        """All label names, in their order."""
        return (*(("namespace",) if self.namespaced else ()), *(label.name for label in self.labels))

    @property
    def of_function(self) -> bool:
        """Whether it is counted by function."""
        return any(label.name == "function" for label in self.labels)

    @property
    def bucket(self) -> str:
        """The series of a histogram's buckets."""
        return f"{self.name}_bucket"

    @property
    def count(self) -> str:
        """The series of a histogram's count."""
        return f"{self.name}_count"

    @property
    def sum(self) -> str:
        """The series of a histogram's sum."""
        return f"{self.name}_sum"


FAST = (0.005, 0.02, 0.1, 0.25, 1.0, 2.5, 10.0)
"""With bounds where a store is slow (StepwellStoreSlow) and where a timer is late (G9)."""
WAITS = (0.01, 0.1, 1.0, 5.0, 15.0, 60.0, 600.0)
"""Close above the 5 s of StepwellRunStartLatencyBurn; what waits for longer than ten minutes has a gauge of its age."""
LONG = (0.05, 0.5, 5.0, 30.0, 300.0, 3600.0, 86400.0)
PAUSES = (0.5, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0)
"""From retries at once to the longest wait of the table that `backoff` has if left out, which begins with 15 s."""
TAKEOVERS = (1.0, 5.0, 10.0, 20.0, 32.0, 60.0, 300.0)
"""With a bound where a lease of 30 s and the two seconds for its sweep end."""
TINY = (0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01)
RECONCILES = (0.005, 0.02, 0.1, 0.5, 2.5, 10.0, 60.0)
"""Seven bounds each: with the infinite one a histogram has eight buckets. A quantile is an estimate between two of them."""

_FUNCTION = Label("function")
_STEP = Label("step")
"""Only for functions named in STEPWELL_METRICS_STEPS."""
_SCOPE = Label("scope", ("function", "key", "namespace"))
_RESULT = Label("result", ("accepted", "duplicate", "conflict", "too_large", "invalid", "unauthorized", "limited", "unavailable"))
_KIND = Label("kind", ("trigger", "cancel", "wait", "key"))
_STATUS = Label("status", ("completed", "failed", "cancelled", "skipped"))
_CAUSE = Label("cause", ("lease_expired", "drain", "restart"))
TAKEN_OVER = ("lease_expired", "restart")
"""Why a sweep takes a run from its runner. These begin at zero, or the first recovery would be no increase of anything."""
_OP = Label("op")


def _counter(name: str, by: By, labels: tuple[Label, ...], told: str) -> Metric:
    return Metric(f"stepwell_{name}", Type.COUNTER, by, labels, told, namespaced=by is not By.OPERATOR)


def _gauge(name: str, by: By, labels: tuple[Label, ...], told: str) -> Metric:
    return Metric(f"stepwell_{name}", Type.GAUGE, by, labels, told, namespaced=by is not By.OPERATOR)


def _histogram(name: str, by: By, labels: tuple[Label, ...], told: str, buckets: tuple[float, ...]) -> Metric:
    return Metric(f"stepwell_{name}", Type.HISTOGRAM, by, labels, told, buckets, namespaced=by is not By.OPERATOR)


# --- events in ---

EVENTS_RECEIVED = _counter("events_received_total", By.DOOR, (_RESULT,), "Events offered to the gateway, by what became of them")
EVENT_INGEST_DURATION = _histogram(
    "event_ingest_duration_seconds", By.DOOR, (_RESULT,), "Time from the request's first byte to its answer", FAST
)
FLOW_CONTROL = _counter(
    "flow_control_total",
    By.DISPATCH,
    (_FUNCTION, Label("decision", ("throttled", "debounced", "rate_limited", "batched", "skipped"))),
    "Starts that a rule delayed, merged or refused",
)
EXPRESSION_ERRORS = _counter(
    "expression_errors_total",
    By.DISPATCH,
    (_FUNCTION, _KIND),
    "Expressions that gave no boolean; each counted as no match",
)
EXPRESSION_SECONDS = _histogram("expression_seconds", By.DISPATCH, (_KIND,), "Time of one expression on one event", TINY)

# --- runs ---

RUNS_CREATED = _counter(
    "runs_created_total",
    By.DISPATCH,
    (_FUNCTION, Label("trigger", ("event", "cron", "invoke", "manual", "rerun"))),
    "Runs created",
)
RUNS_FINISHED = _counter("runs_finished_total", By.DISPATCH, (_FUNCTION, _STATUS), "Runs that ended, by how")
RUNS_PARKED = _counter(
    "runs_parked_total",
    By.DISPATCH,
    (_FUNCTION,),
    "Runs failed because they killed their runner five times without progress (G14)",
)
RUNS = _gauge(
    "runs",
    By.STORE,
    (_FUNCTION, Label("status", ("queued", "running", "sleeping", "waiting"))),
    "Live runs; queued once their time has come",
)
PAUSED_RUNS = _gauge("paused_runs", By.STORE, (_FUNCTION,), "Live runs held by a pause; not due while it lasts")
RUN_QUEUE_WAIT = _histogram(
    "run_queue_wait_seconds",
    By.EXECUTION,
    (_FUNCTION,),
    "Time from due, or let go by the limit or pause that held it back, to claimed",
    WAITS,
)
RUN_DURATION = _histogram("run_duration_seconds", By.DISPATCH, (_FUNCTION, _STATUS), "Time from created to ended", LONG)
QUEUE_DEPTH = _gauge(
    "queue_depth",
    By.STORE,
    (_FUNCTION, Label("revision"), Label("state", ("due", "later"))),
    "Queue items; due are those too that a limit holds back, and none that a pause holds",
)
QUEUE_OLDEST_AGE = _gauge(
    "queue_oldest_age_seconds", By.STORE, (_FUNCTION,), "Age of the oldest due queue item that no limit holds back"
)

# --- steps ---

STEP_ATTEMPTS = _counter(
    "step_attempts_total",
    By.EXECUTION,
    (_FUNCTION, Label("outcome", ("ok", "error", "timeout", "cancelled", "fenced")), _STEP),
    "Attempts of steps",
)
STEP_RETRIES = _counter(
    "step_retries_total",
    By.EXECUTION,
    (_FUNCTION, Label("reason", ("error", "timeout", "retry_after", "lost")), _STEP),
    "Attempts that were followed by another",
)
STEP_RETRY_WAIT = _histogram(
    "step_retry_wait_seconds", By.EXECUTION, (_FUNCTION,), "Wait between a failed attempt and the next", PAUSES
)
STEP_RETRY_LOST = _counter(
    "step_retry_lost_seconds_total",
    By.EXECUTION,
    (_FUNCTION,),
    "Time spent in attempts that failed and were retried",
)
STEP_DURATION = _histogram("step_duration_seconds", By.EXECUTION, (_FUNCTION, _STEP), "Time of one attempt of a step", FAST)
STEPS_MEMOIZED = _counter("steps_memoized_total", By.EXECUTION, (_FUNCTION,), "Steps answered from the journal")
RUN_PROGRESS = _gauge(
    "run_progress_ratio",
    By.EXECUTION,
    (_FUNCTION,),
    "Least ratio told by the attempts under way in this process that told one; for functions in STEPWELL_METRICS_STEPS alone",
)
WAITS_RESOLVED = _counter(
    "waits_resolved_total", By.EXECUTION, (_FUNCTION, Label("outcome", ("event", "timeout"))), "Waits ended"
)

# --- concurrency ---

CONCURRENCY_LIMIT = _gauge("concurrency_limit", By.STORE, (_FUNCTION, _SCOPE), "Limit of unexpired leases")
CONCURRENCY_IN_USE = _gauge(
    "concurrency_in_use", By.STORE, (_FUNCTION, _SCOPE), "Unexpired leases under the limit (key: the fullest key)"
)
CONCURRENCY_BLOCKED_RUNS = _gauge("concurrency_blocked_runs", By.STORE, (_FUNCTION, _SCOPE), "Due runs held back by the limit")
CONCURRENCY_OLDEST_BLOCKED_AGE = _gauge(
    "concurrency_oldest_blocked_age_seconds", By.STORE, (_FUNCTION, _SCOPE), "Age of the oldest run held back"
)

# --- runners ---

RUNNER_SLOTS = _gauge(
    "runner_slots",
    By.STORE,
    (_FUNCTION, Label("state", ("used", "free"))),
    "Slots of live runners that may execute the function (a shared pool counts for each: don't sum over functions)",
)
CLAIMS = _counter("claims_total", By.EXECUTION, (_FUNCTION,), "Queue items claimed")
LEASES_LOST = _counter("leases_lost_total", By.EXECUTION, (_FUNCTION,), "Leases that ended before their execution")
FENCED_WRITES = _counter("fenced_writes_total", By.EXECUTION, (_FUNCTION,), "Writes refused by the epoch")
RUNS_RECOVERED = _counter("runs_recovered_total", By.DISPATCH, (_FUNCTION, _CAUSE), "Executions taken over")
RECOVERY_SECONDS = _histogram("recovery_seconds", By.DISPATCH, (_CAUSE,), "Time from the last beat to the new claim", TAKEOVERS)
LOOP_BLOCKED = _counter(
    "loop_blocked_seconds_total",
    By.EXECUTION,
    (_FUNCTION,),
    "Time that user code held the event loop, past 1 s at a stretch",
)

# --- timers and cron ---

TIMERS_OVERDUE = _gauge(
    "timers_overdue", By.STORE, (), "Timers more than 1 s past due (G9), but for those that a limit or a pause holds back"
)
TIMER_LATENESS = _histogram(
    "timer_lateness_seconds",
    By.EXECUTION,
    (),
    "Lateness of the timers that fired, but for those that a limit, a pause or a lack of slots held back",
    FAST,
)
CRON_TICKS = _counter(
    "cron_ticks_total",
    By.CRON,
    (_FUNCTION, Label("outcome", ("fired", "coalesced", "skipped", "overlap_skipped", "window_skipped"))),
    "Ledger rows written",
)
CRON_LAG = _histogram("cron_lag_seconds", By.CRON, (_FUNCTION,), "Fired minus due", WAITS)
CRON_NEXT = _gauge("cron_next_timestamp_seconds", By.STORE, (_FUNCTION,), "Next due instant (none while suspended)")

# --- the store ---

STORE_OPERATION = _histogram("store_operation_seconds", By.ALL, (_OP,), "Time of one store verb", FAST)
STORE_ERRORS = _counter(
    "store_errors_total",
    By.ALL,
    (_OP, Label("class", ("conflict", "timeout", "unavailable", "full", "other"))),
    "Store verbs that failed",
)
STORE_POOL_CONNECTIONS = _gauge(
    "store_pool_connections", By.ALL, (Label("state", ("used", "idle", "waiting")),), "Connections of this process"
)
STORE_OLDEST_XMIN_AGE = _gauge(
    "store_oldest_xmin_age_seconds", By.STORE, (), "Age of the oldest snapshot that holds vacuum back (Postgres)"
)
STORE_DEAD_TUPLES = _gauge("store_dead_tuples", By.STORE, (Label("table"),), "Dead rows (Postgres)")
INVARIANT_VIOLATIONS = _counter(
    "invariant_violations_total",
    By.CRON,
    (Label("invariant", tuple(f"I{number}" for number in range(1, 21))),),
    "Violations found by the hourly doctor",
)

# --- the operator ---

RECONCILES_DONE = _counter(
    "reconcile_total", By.OPERATOR, (Label("result", ("changed", "unchanged", "error")),), "Reconciles, by what became of them"
)
RECONCILE_ERRORS = _counter("reconcile_errors_total", By.OPERATOR, (Label("reason"),), "Reconciles that failed, by why")
RECONCILE_SECONDS = _histogram("reconcile_seconds", By.OPERATOR, (), "Time of one reconcile", RECONCILES)
RECONCILE_QUEUE_DEPTH = _gauge("reconcile_queue_depth", By.OPERATOR, (), "Objects waiting for a reconcile")
WATCH_LAST_EVENT = _gauge(
    "watch_last_event_timestamp_seconds",
    By.OPERATOR,
    (Label("resource"),),
    "When a watch was last known to have told everything",
)
API_REQUESTS = _counter(
    "api_requests_total",
    By.OPERATOR,
    (Label("verb"), Label("resource"), Label("code")),
    "Requests to the API server; code 0 is no answer",
)
FUNCTIONS = _gauge("functions", By.OPERATOR, (Label("condition"), Label("status")), "DurableFunctions by condition")
OPERATOR_LEADER = _gauge("operator_leader", By.OPERATOR, (), "1 on the operator that leads")

# --- all of them ---

SPANS_LOST = _counter(
    "spans_lost_total",
    By.EXECUTION,
    (Label("reason", ("dropped", "failed")),),
    "Spans that had no room in the queue (dropped), or that the collector did not take (failed); there once traces are on",
)
DROPPED_SERIES = _counter("metrics_dropped_series_total", By.ALL, (), "Series refused by the cap")
BUILD_INFO = Metric(
    "stepwell_build_info",
    Type.GAUGE,
    By.ALL,
    (Label("version"), Label("component"), Label("python"), Label("store")),
    "What runs",
    namespaced=False,
)

CATALOGUE: tuple[Metric, ...] = tuple(one for one in list(globals().values()) if isinstance(one, Metric))
"""All of them, in the order above."""
BY_NAME = {metric.name: metric for metric in CATALOGUE}
