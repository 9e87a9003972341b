"""The alerts: what is wrong, since when, how bad, and which page and board help. Pure data."""

from dataclasses import dataclass

from stepwell.metrics import catalogue as m
from stepwell_operator.monitoring.recording import INGEST_ERRORS, SLOW_STARTS, recorded

FUNCTION = "namespace, function"
OF = "{{ $labels.function }} in {{ $labels.namespace }}"


@dataclass(frozen=True, slots=True)
class Alert:
    """One rule. `page` is the runbook page, where it isn't the alert's own; `board` the one to look at."""

    name: str
    severity: str
    expr: str
    lasts: str
    summary: str
    description: str
    board: str
    page: str = ""

    @property
    def runbook(self) -> str:
        """The name of its runbook page."""
        return self.page or self.name


def _burn(series: str, budget: str, *windows: tuple[str, str, str]) -> str:
    """Burn of an error budget: over both of two windows, by a factor, for any of the pairs."""
    pairs = [
        f"({recorded(series, long)} > {factor} * {budget} and {recorded(series, short)} > {factor} * {budget})"
        for factor, long, short in windows
    ]
    return " or ".join(pairs)


ON_A_RUNS_WAY = "commit|journals|registry|enrol|beat|held|hand_back"
"""Verbs of the store that runs, or who executes them, wait for. Nothing waits for a look, which may take its time."""

PAGE = (("14.4", "1h", "5m"), ("6", "6h", "30m"))
TICKET = (("3", "1d", "2h"), ("1", "3d", "6h"))


def _failed_share(window: str) -> str:
    failed = f'sum by ({FUNCTION}) (rate({m.RUNS_FINISHED}{{status="failed"}}[{window}]))'
    return f"{failed} / sum by ({FUNCTION}) (rate({m.RUNS_FINISHED}[{window}]))"


ALERTS: tuple[Alert, ...] = (
    Alert(
        "StepwellIngestErrorBudgetBurn",
        "page",
        _burn(INGEST_ERRORS, "0.001", *PAGE),
        "0m",
        "Events are being refused in {{ $labels.namespace }}",
        "The gateway answers {{ $value | humanizePercentage }} of the events with 503; 99.9 % should be taken in. "
        "Senders that don't try again lose events.",
        "overview",
    ),
    Alert(
        "StepwellIngestErrorBudgetBurn",
        "ticket",
        _burn(INGEST_ERRORS, "0.001", *TICKET),
        "0m",
        "Events are being refused in {{ $labels.namespace }}, slowly but steadily",
        "The gateway answers {{ $value | humanizePercentage }} of the events with 503; 99.9 % should be taken in.",
        "overview",
    ),
    Alert(
        "StepwellRunStartLatencyBurn",
        "page",
        _burn(SLOW_STARTS, "0.01", *PAGE),
        "0m",
        "Runs start late in {{ $labels.namespace }}",
        "{{ $value | humanizePercentage }} of the runs wait for more than 5 s until a runner claims them; at most 1 % should.",
        "overview",
    ),
    Alert(
        "StepwellRunStartLatencyBurn",
        "ticket",
        _burn(SLOW_STARTS, "0.01", *TICKET),
        "0m",
        "Runs start late in {{ $labels.namespace }}, slowly but steadily",
        "{{ $value | humanizePercentage }} of the runs wait for more than 5 s until a runner claims them; at most 1 % should.",
        "overview",
    ),
    Alert(
        "StepwellRunFailureRatioHigh",
        "warn",
        f'sum by ({FUNCTION}) (increase({m.RUNS_FINISHED}{{status="failed"}}[15m])) >= 10 and {_failed_share("15m")} > 0.10',
        "0m",
        f"Function {OF} fails",
        "At least ten runs failed for good within 15 minutes, and more than a tenth of all that ended.",
        "function",
    ),
    Alert(
        "StepwellRetryStorm",
        "warn",
        f"sum by ({FUNCTION}) (rate({m.STEP_RETRIES}[15m])) / sum by ({FUNCTION}) (rate({m.STEP_ATTEMPTS}[15m])) > 0.5",
        "15m",
        f"Retries eat the capacity of {OF}",
        "{{ $value | humanizePercentage }} of the attempts fail and are tried again. What the steps call is probably down.",
        "retries",
    ),
    Alert(
        "StepwellRunsParked",
        "warn",
        f"sum by ({FUNCTION}) (increase({m.RUNS_PARKED}[10m])) > 0",
        "0m",
        f"A run of {OF} kills its runner",
        "It was failed after its runner had died five times without a step recorded in between.",
        "runners",
    ),
    Alert(
        "StepwellQueueBacklogGrowing",
        "warn",
        f"max by ({FUNCTION}) ({m.QUEUE_OLDEST_AGE}) > 600 and max by ({FUNCTION}) (deriv({m.QUEUE_OLDEST_AGE}[15m])) > 0",
        "15m",
        f"The backlog of {OF} grows",
        "The oldest due run has waited for {{ $value | humanizeDuration }}, and it gets longer.",
        "function",
    ),
    Alert(
        "StepwellConcurrencySaturated",
        "info",
        f"max by ({FUNCTION}, scope) ({m.CONCURRENCY_IN_USE} / {m.CONCURRENCY_LIMIT}) >= 1 "
        f"and max by ({FUNCTION}, scope) ({m.CONCURRENCY_BLOCKED_RUNS}) > 0",
        "30m",
        f"A concurrency limit is the bottleneck of {OF}",
        "Its limit of scope {{ $labels.scope }} has been full for half an hour, and runs are held back by it.",
        "retries",
    ),
    Alert(
        "StepwellNoRunners",
        "page",
        f'sum by ({FUNCTION}) ({m.QUEUE_DEPTH}{{state="due"}}) > 0 '
        f"unless on ({FUNCTION}) sum by ({FUNCTION}) ({m.RUNNER_SLOTS}) > 0",
        "2m",
        f"No runner takes the work of {OF}",
        "{{ $value }} runs are due, and no live runner may execute them.",
        "runners",
    ),
    Alert(
        "StepwellLeaseLossHigh",
        "warn",
        f"sum by (namespace) (rate({m.LEASES_LOST}[15m])) / sum by (namespace) (rate({m.CLAIMS}[15m])) > 0.01",
        "15m",
        "Runners in {{ $labels.namespace }} lose their leases",
        "{{ $value | humanizePercentage }} of the executions lose their lease before they are done; what they did last "
        "is done again.",
        "runners",
    ),
    Alert(
        "StepwellCronMissed",
        "warn",
        f'sum by ({FUNCTION}) (increase({m.CRON_TICKS}{{outcome="window_skipped"}}[15m])) > 0',
        "0m",
        f"Cron ticks of {OF} fell out of their window",
        "They came due while nobody could fire them, for longer than the trigger's window allows, and were skipped.",
        "cron",
    ),
    Alert(
        "StepwellCronStalled",
        "page",
        f"time() - max by ({FUNCTION}) ({m.CRON_NEXT}) > 120",
        "0m",
        f"Cron of {OF} stands still",
        "Its next tick has been due for {{ $value | humanizeDuration }}, and nobody fires it.",
        "cron",
    ),
    Alert(
        "StepwellTimersOverdue",
        "warn",
        f"max by (namespace) ({m.TIMERS_OVERDUE}) > 0",
        "5m",
        "Sleeping runs in {{ $labels.namespace }} aren't woken",
        "{{ $value }} runs slept or waited until a time that has passed, and no runner takes them though no limit is full.",
        "runners",
    ),
    Alert(
        "StepwellStoreUnavailable",
        "page",
        f'sum by (namespace) (rate({m.STORE_ERRORS}{{class="unavailable"}}[2m])) > 0',
        "2m",
        "The store of {{ $labels.namespace }} can't be reached",
        "Events are answered with 503, and runs stand still until it is back; nothing that was acknowledged is lost.",
        "store",
    ),
    Alert(
        "StepwellStoreSlow",
        "warn",
        f"histogram_quantile(0.99, sum by (namespace, op, le) "
        f'(rate({m.STORE_OPERATION.bucket}{{op=~"{ON_A_RUNS_WAY}"}}[5m]))) > 0.25',
        "15m",
        "The store of {{ $labels.namespace }} is slow",
        "One in a hundred calls of `{{ $labels.op }}`, which runs wait for, takes more than {{ $value | humanizeDuration }}.",
        "store",
        page="StepwellStoreUnavailable",
    ),
    Alert(
        "StepwellStoreHorizonPinned",
        "warn",
        f"max by (namespace) ({m.STORE_OLDEST_XMIN_AGE}) > 1800 or max by (namespace, table) ({m.STORE_DEAD_TUPLES}) > 100000",
        "0m",
        "Something pins the vacuum horizon of {{ $labels.namespace }}'s store",
        "An old transaction keeps vacuum from removing dead rows, which makes every claim slower.",
        "store",
    ),
    Alert(
        "StepwellExpressionErrors",
        "warn",
        f"sum by ({FUNCTION}, kind) (rate({m.EXPRESSION_ERRORS}[10m])) > 0",
        "10m",
        f"An expression of {OF} errs on real events",
        "Its {{ $labels.kind }} expression gives no boolean or no value; each time it counts as no match.",
        "function",
    ),
    Alert(
        "StepwellOperatorStale",
        "page",
        f"time() - max by (resource) ({m.WATCH_LAST_EVENT}) > 180",
        "0m",
        "The operator is deaf to {{ $labels.resource }}",
        "It has been told nothing for {{ $value | humanizeDuration }}: what is applied or deleted has no effect. Runs go on.",
        "operator",
    ),
    Alert(
        "StepwellInvariantViolation",
        "page",
        f"sum by (namespace, invariant) (increase({m.INVARIANT_VIOLATIONS}[10m])) > 0",
        "0m",
        "The store of {{ $labels.namespace }} breaks invariant {{ $labels.invariant }}",
        "The doctor found rows that must not be. This is a fault of Stepwell or of whoever writes to its tables.",
        "store",
    ),
    Alert(
        "StepwellMetricsAbsent",
        "warn",
        f'absent({m.BUILD_INFO}{{component="gateway"}}) or absent({m.BUILD_INFO}{{component="operator"}})',
        "5m",
        "No metrics of a {{ $labels.component }}",
        "Prometheus has none: either none runs or none is scraped, and other alerts may be silent for that reason.",
        "overview",
    ),
)
