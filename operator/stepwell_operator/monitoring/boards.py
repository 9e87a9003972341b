"""The seven boards. Pure data: every query names its metrics by the table's rows."""

from stepwell.metrics import catalogue as m
from stepwell.metrics.catalogue import Metric
from stepwell_operator.monitoring.panels import Ask, Board, Panel

NS = 'namespace=~"$namespace"'
FN = 'namespace=~"$namespace", function=~"$function"'
EACH = "namespace, function"
RATE = "$__rate_interval"


def _rate(metric: Metric | str, by: str, where: str = FN) -> str:
    return f"sum by ({by}) (rate({metric}{{{where}}}[{RATE}]))"


def _now(metric: Metric, by: str, where: str = FN, how: str = "sum") -> str:
    return f"{how} by ({by}) ({metric}{{{where}}})"


def _quantiles(metric: Metric, where: str = FN, by: str = "") -> tuple[Ask, ...]:
    grouped = f"le, {by}" if by else "le"
    named = f" {{{{{by}}}}}" if by else ""
    return tuple(
        Ask(f"histogram_quantile({share}, sum by ({grouped}) (rate({metric.bucket}{{{where}}}[{RATE}])))", f"p{percent}{named}")
        for share, percent in (("0.5", 50), ("0.95", 95), ("0.99", 99))
    )


def _p99(metric: Metric, by: str, where: str = FN) -> Ask:
    query = f"histogram_quantile(0.99, sum by (le, {by}) (rate({metric.bucket}{{{where}}}[{RATE}])))"
    return Ask(query, f"{{{{{by}}}}}")


FINISHED_WELL = f'{FN}, status="completed"'
LIMIT_SHARE = f"topk(10, max by ({EACH}, scope) ({m.CONCURRENCY_IN_USE}{{{FN}}} / {m.CONCURRENCY_LIMIT}{{{FN}}}))"
SLOTS_USED = f'{FN}, state="used"'
SLOT_SHARE = f"topk(10, {_now(m.RUNNER_SLOTS, EACH, SLOTS_USED)} / {_now(m.RUNNER_SLOTS, EACH)})"
RETRY_RATIO = f"{_rate(m.STEP_RETRIES, EACH)} / {_rate(m.STEP_ATTEMPTS, EACH)}"

OVERVIEW = Board(
    "overview",
    "Overview",
    "What goes in, what comes out, how long it waits.",
    (
        Panel(
            "Throughput",
            "Runs created and ended a second.",
            (
                Ask(f"sum(rate({m.RUNS_CREATED}{{{FN}}}[{RATE}]))", "created"),
                Ask(f"sum(rate({m.RUNS_FINISHED}{{{FN}}}[{RATE}]))", "ended"),
            ),
            "ops",
        ),
        Panel(
            "Success ratio",
            "Completed runs of all that ended, cancelled and skipped ones left out.",
            (
                Ask(
                    f"sum(rate({m.RUNS_FINISHED}{{{FINISHED_WELL}}}[{RATE}])) / "
                    f'sum(rate({m.RUNS_FINISHED}{{{FN}, status=~"completed|failed"}}[{RATE}]))',
                    "completed",
                ),
            ),
            "percentunit",
        ),
        Panel("Queue wait", "From due, or let go by a limit or a pause, to claimed.", _quantiles(m.RUN_QUEUE_WAIT), "s"),
        Panel("Live runs", "By what they do now.", (Ask(_now(m.RUNS, "status"), "{{status}}"),)),
        Panel("Oldest due run", "By function.", (Ask(_now(m.QUEUE_OLDEST_AGE, EACH, how="max"), "{{function}}"),), "s"),
        Panel("Events", "By what became of them.", (Ask(_rate(m.EVENTS_RECEIVED, "result", NS), "{{result}}"),), "ops"),
        Panel("Answering a sender", "Time of one request that offers events.", _quantiles(m.EVENT_INGEST_DURATION, NS), "s"),
        Panel(
            "Failures",
            "Runs that failed for good in the time shown, by function.",
            (Ask(f'sort_desc(sum by ({EACH}) (increase({m.RUNS_FINISHED}{{{FN}, status="failed"}}[$__range])))'),),
            kind="table",
            width=16,
        ),
    ),
)

FUNCTION = Board(
    "function",
    "Function",
    "One function: its runs, its steps, its limits.",
    (
        Panel("Starts", "By trigger.", (Ask(_rate(m.RUNS_CREATED, "trigger"), "{{trigger}}"),), "ops"),
        Panel("Ends", "By status.", (Ask(_rate(m.RUNS_FINISHED, "status"), "{{status}}"),), "ops"),
        Panel(
            "Refused and delayed starts",
            "By the rule's decision.",
            (Ask(_rate(m.FLOW_CONTROL, "decision"), "{{decision}}"),),
            "ops",
        ),
        Panel("Duration of runs", "From created to ended, sleeps and waits included.", _quantiles(m.RUN_DURATION), "s"),
        Panel("Duration of steps", "One attempt.", _quantiles(m.STEP_DURATION), "s"),
        Panel("Attempts", "By outcome.", (Ask(_rate(m.STEP_ATTEMPTS, "outcome"), "{{outcome}}"),), "ops"),
        Panel("Retries", "By reason.", (Ask(_rate(m.STEP_RETRIES, "reason"), "{{reason}}"),), "ops"),
        Panel(
            "In use against limit",
            "The share of each limit that leases use, by scope; of many functions the ten fullest.",
            (Ask(LIMIT_SHARE, "{{function}} {{scope}}"),),
            "percentunit",
        ),
        Panel(
            "Backlog",
            "Queue items, and those held by a pause.",
            (Ask(_now(m.QUEUE_DEPTH, "state"), "{{state}}"), Ask(_now(m.PAUSED_RUNS, "function"), "{{function}} paused")),
        ),
        Panel(
            "Answered from the journal",
            "Steps that were not run again.",
            (Ask(_rate(m.STEPS_MEMOIZED, "function"), "{{function}}"),),
            "ops",
        ),
        Panel("Waits ended", "By outcome.", (Ask(_rate(m.WAITS_RESOLVED, "outcome"), "{{outcome}}"),), "ops"),
        Panel("Cron ticks", "By outcome.", (Ask(_rate(m.CRON_TICKS, "outcome"), "{{outcome}}"),), "ops"),
        Panel(
            "Expression errors",
            "By kind; each counted as no match.",
            (Ask(_rate(m.EXPRESSION_ERRORS, "kind"), "{{kind}}"),),
            "ops",
        ),
        Panel("Time of expressions", "99 of 100 take less.", (_p99(m.EXPRESSION_SECONDS, "kind", NS),), "s"),
        Panel(
            "Progress",
            "What the attempt that is furthest back tells of itself; of functions in STEPWELL_METRICS_STEPS alone.",
            (Ask(_now(m.RUN_PROGRESS, "function", how="min"), "{{function}}"),),
            "percentunit",
        ),
    ),
)

RETRIES = Board(
    "retries",
    "Retries and concurrency",
    "What retries cost, and which limit holds runs back.",
    (
        Panel("Retry ratio", "Attempts that were followed by another.", (Ask(RETRY_RATIO, "{{function}}"),), "percentunit"),
        Panel("Retries by reason", "A second.", (Ask(_rate(m.STEP_RETRIES, "reason"), "{{reason}}"),), "ops"),
        Panel(
            "Time lost",
            "Seconds a second spent in attempts that failed and were retried.",
            (Ask(_rate(m.STEP_RETRY_LOST, "function"), "{{function}}"),),
            "s",
        ),
        Panel("Wait for the next attempt", "From a failed attempt to the next.", _quantiles(m.STEP_RETRY_WAIT), "s"),
        Panel(
            "Fullest limits",
            "The share of each limit that is in use (keyed: under its fullest key); what stays at 100 % is the bottleneck.",
            (Ask(LIMIT_SHARE, "{{function}} {{scope}}"),),
            "percentunit",
        ),
        Panel(
            "Held back",
            "Due runs for which the limit has no room.",
            (Ask(_now(m.CONCURRENCY_BLOCKED_RUNS, "function, scope"), "{{function}} {{scope}}"),),
        ),
        Panel(
            "Held back the longest",
            "Age of the oldest of them.",
            (Ask(_now(m.CONCURRENCY_OLDEST_BLOCKED_AGE, "function, scope", how="max"), "{{function}} {{scope}}"),),
            "s",
        ),
        Panel(
            "In use",
            "Of a keyed limit: under the fullest key.",
            (Ask(_now(m.CONCURRENCY_IN_USE, "function, scope", how="max"), "{{function}} {{scope}}"),),
        ),
        Panel(
            "Limit",
            "By function and scope.",
            (Ask(_now(m.CONCURRENCY_LIMIT, "function, scope", how="max"), "{{function}} {{scope}}"),),
        ),
        Panel(
            "The ten that retry most",
            "Retries in the time shown.",
            (Ask(f"topk(10, sum by ({EACH}) (increase({m.STEP_RETRIES}{{{FN}}}[$__range])))"),),
            kind="table",
            width=24,
        ),
    ),
)

RUNNERS = Board(
    "runners",
    "Runners",
    "Who executes, how much room there is, what was taken over.",
    (
        Panel(
            "Slots",
            "Used of all that the function's runners have, the ten fullest; a shared pool counts for each of its functions.",
            (Ask(SLOT_SHARE, "{{function}}"),),
            "percentunit",
        ),
        Panel("Claims", "A second.", (Ask(_rate(m.CLAIMS, "function"), "{{function}}"),), "ops"),
        Panel(
            "Leases lost", "They ended before their execution.", (Ask(_rate(m.LEASES_LOST, "function"), "{{function}}"),), "ops"
        ),
        Panel(
            "Fenced writes",
            "Refused, for the run was somebody else's.",
            (Ask(_rate(m.FENCED_WRITES, "function"), "{{function}}"),),
            "ops",
        ),
        Panel("Recoveries", "Executions taken over, by cause.", (Ask(_rate(m.RUNS_RECOVERED, "cause"), "{{cause}}"),), "ops"),
        Panel("Time to recover", "From the last beat to the new claim.", _quantiles(m.RECOVERY_SECONDS, NS), "s"),
        Panel(
            "Parked", "Runs that killed their runner five times.", (Ask(_rate(m.RUNS_PARKED, "function"), "{{function}}"),), "ops"
        ),
        Panel(
            "Event loop held",
            "Seconds a second, past one second at a stretch.",
            (Ask(_rate(m.LOOP_BLOCKED, "function"), "{{function}}"),),
            "s",
        ),
        Panel(
            "Timers overdue",
            "By more than a second, though no limit holds them back.",
            (Ask(_now(m.TIMERS_OVERDUE, "namespace", NS, "max"), "{{namespace}}"),),
        ),
        Panel(
            "Lateness of timers",
            "Of those that fired and that no limit and no lack of slots held back.",
            _quantiles(m.TIMER_LATENESS, NS),
            "s",
        ),
        Panel(
            "Spans lost",
            "Of runners that send traces: no room in the queue, or refused by the collector.",
            (Ask(_rate(m.SPANS_LOST, "reason", NS), "{{reason}}"),),
            "ops",
        ),
        Panel("Versions", "What runs.", (Ask(f"count by (component, version, python, store) ({m.BUILD_INFO})"),), kind="table"),
    ),
)

STORE = Board(
    "store",
    "Store",
    "How fast the store answers, what fails, what keeps it from being cleaned.",
    (
        Panel("Time of a call", "99 of 100 take less, by verb.", (_p99(m.STORE_OPERATION, "op", NS),), "s"),
        Panel("Calls", "A second, by verb.", (Ask(_rate(m.STORE_OPERATION.count, "op", NS), "{{op}}"),), "ops"),
        Panel("Errors", "By verb and class.", (Ask(_rate(m.STORE_ERRORS, "op, class", NS), "{{op}} {{class}}"),), "ops"),
        Panel("Connections", "Of all processes, by state.", (Ask(_now(m.STORE_POOL_CONNECTIONS, "state", NS), "{{state}}"),)),
        Panel("Dead rows", "By table.", (Ask(_now(m.STORE_DEAD_TUPLES, "table", NS, "max"), "{{table}}"),)),
        Panel(
            "Oldest snapshot",
            "It holds vacuum back.",
            (Ask(_now(m.STORE_OLDEST_XMIN_AGE, "namespace", NS, "max"), "{{namespace}}"),),
            "s",
        ),
        Panel(
            "Invariants broken",
            "In the time shown; there should be none.",
            (Ask(f"sum by (invariant) (increase({m.INVARIANT_VIOLATIONS}{{{NS}}}[$__range]))", "{{invariant}}"),),
            kind="stat",
        ),
        Panel(
            "Series refused",
            "By the cap on series a process.",
            (Ask(f"sum({m.DROPPED_SERIES}{{{NS}}})", "refused"),),
            kind="stat",
        ),
    ),
    by=("namespace",),
)

CRON = Board(
    "cron",
    "Cron",
    "Which ticks fired, when the next ones do, and which were missed.",
    (
        Panel("Ticks", "By outcome.", (Ask(_rate(m.CRON_TICKS, "outcome"), "{{outcome}}"),), "ops"),
        Panel("Lag", "Fired minus due.", _quantiles(m.CRON_LAG), "s"),
        Panel(
            "Until the next tick",
            "Below zero it is late.",
            (Ask(f"min by ({EACH}) ({m.CRON_NEXT}{{{FN}}}) - time()", "{{function}}"),),
            "s",
        ),
        Panel(
            "Missed",
            "Ticks in the time shown that fell out of their window, or that another stood for.",
            (Ask(f'sum by ({EACH}, outcome) (increase({m.CRON_TICKS}{{{FN}, outcome!="fired"}}[$__range]))'),),
            kind="table",
            width=16,
        ),
    ),
)

OPERATOR = Board(
    "operator",
    "Operator",
    "From manifests to pods.",
    (
        Panel("Reconciles", "By what became of them.", (Ask(_rate(m.RECONCILES_DONE, "result", ""), "{{result}}"),), "ops"),
        Panel("Errors", "By reason.", (Ask(_rate(m.RECONCILE_ERRORS, "reason", ""), "{{reason}}"),), "ops"),
        Panel("Time of a reconcile", "", _quantiles(m.RECONCILE_SECONDS, ""), "s"),
        Panel("Waiting for a reconcile", "Objects.", (Ask(f"sum({m.RECONCILE_QUEUE_DEPTH})", "objects"),)),
        Panel(
            "Watches",
            "Since they were last known to have told everything.",
            (Ask(f"time() - max by (resource) ({m.WATCH_LAST_EVENT})", "{{resource}}"),),
            "s",
        ),
        Panel("Leader", "One, and one only.", (Ask(f"sum({m.OPERATOR_LEADER})", "leaders"),), kind="stat"),
        Panel(
            "Requests to the API server",
            "By status of the answer.",
            (Ask(_rate(m.API_REQUESTS, "verb, code", ""), "{{verb}} {{code}}"),),
            "ops",
        ),
        Panel("Functions", "By condition.", (Ask(f"max by (condition, status) ({m.FUNCTIONS})"),), kind="table"),
    ),
    by=(),
)

BOARDS = (OVERVIEW, FUNCTION, RETRIES, RUNNERS, STORE, CRON, OPERATOR)
