"""For each alert: figures on which it fires, with the labels and the value that it then has, and figures on which it doesn't."""

from dataclasses import dataclass

ORDERS = 'namespace="shop",function="orders"'


@dataclass(frozen=True)
class Case:
    """Series in promtool's notation, when to look, and what is expected: None, or (labels, the value as it is written)."""

    series: dict[str, str]
    at: str
    fires: tuple[dict[str, str], str] | None = None
    severities: tuple[str, ...] = ()
    """Which rules of that name fire; all, if empty."""


LABELS = {"namespace": "shop", "function": "orders"}
SHOP = {"namespace": "shop"}


def counter(rate: float, count: int = 400) -> str:
    """A counter that grows by so much a minute."""
    return f"0+{rate:g}x{count}"


def ingest(refused: float, accepted: float, count: int) -> dict[str, str]:
    return {
        'stepwell_events_received_total{namespace="shop",result="unavailable"}': counter(refused, count),
        'stepwell_events_received_total{namespace="shop",result="accepted"}': counter(accepted, count),
    }


def slow(fast: float, all_: float, count: int) -> dict[str, str]:
    return {
        f'stepwell_run_queue_wait_seconds_bucket{{{ORDERS},le="5.0"}}': counter(fast, count),
        f"stepwell_run_queue_wait_seconds_count{{{ORDERS}}}": counter(all_, count),
    }


DAY = 1440
CASES: dict[str, list[Case]] = {
    "StepwellIngestErrorBudgetBurn": [
        Case(ingest(5, 95, 90), "1h", (SHOP, "5%"), ("page", "ticket")),
        Case(ingest(1, 99, 6 * 60 + 30), "6h", (SHOP, "1%"), ("page", "ticket")),
        Case(ingest(0.5, 99.5, DAY + 60), "1d", (SHOP, "0.5%"), ("ticket",)),
        Case(ingest(0.2, 99.8, 3 * DAY + 60), "3d", (SHOP, "0.2%"), ("ticket",)),
        Case(ingest(0.05, 99.95, 3 * DAY + 60), "3d"),
    ],
    "StepwellRunStartLatencyBurn": [
        Case(slow(80, 100, 90), "1h", (SHOP, "20%"), ("page", "ticket")),
        Case(slow(96, 100, DAY + 60), "1d", (SHOP, "4%"), ("ticket",)),
        Case(slow(99.5, 100, 3 * DAY + 60), "3d"),
    ],
    "StepwellRunFailureRatioHigh": [
        Case(
            {
                f'stepwell_runs_finished_total{{{ORDERS},status="failed"}}': counter(2),
                f'stepwell_runs_finished_total{{{ORDERS},status="completed"}}': counter(8),
            },
            "20m",
            (LABELS, "30"),
        ),
        Case(
            {
                f'stepwell_runs_finished_total{{{ORDERS},status="failed"}}': counter(2),
                f'stepwell_runs_finished_total{{{ORDERS},status="completed"}}': counter(98),
            },
            "20m",
        ),
        Case({f'stepwell_runs_finished_total{{{ORDERS},status="failed"}}': counter(0.2)}, "20m"),
    ],
    "StepwellRetryStorm": [
        Case(
            {
                f'stepwell_step_retries_total{{{ORDERS},reason="timeout"}}': counter(6),
                f'stepwell_step_attempts_total{{{ORDERS},outcome="timeout"}}': counter(8),
            },
            "40m",
            (LABELS, "75%"),
        ),
        Case(
            {
                f'stepwell_step_retries_total{{{ORDERS},reason="timeout"}}': counter(2),
                f'stepwell_step_attempts_total{{{ORDERS},outcome="ok"}}': counter(8),
            },
            "40m",
        ),
    ],
    "StepwellRunsParked": [
        Case({f"stepwell_runs_parked_total{{{ORDERS}}}": "0x5 1x20"}, "10m", (LABELS, "")),
        Case({f"stepwell_runs_parked_total{{{ORDERS}}}": "1x60"}, "30m"),
    ],
    "StepwellQueueBacklogGrowing": [
        Case({f"stepwell_queue_oldest_age_seconds{{{ORDERS}}}": "0+60x60"}, "40m", (LABELS, "40m 0s")),
        Case({f"stepwell_queue_oldest_age_seconds{{{ORDERS}}}": "3600-60x50"}, "40m"),
        Case({f"stepwell_queue_oldest_age_seconds{{{ORDERS}}}": "0+1x60"}, "40m"),
    ],
    "StepwellConcurrencySaturated": [
        Case(
            {
                f'stepwell_concurrency_in_use{{{ORDERS},scope="key"}}': "2x60",
                f'stepwell_concurrency_limit{{{ORDERS},scope="key"}}': "2x60",
                f'stepwell_concurrency_blocked_runs{{{ORDERS},scope="key"}}': "7x60",
            },
            "31m",
            ({**LABELS, "scope": "key"}, "1"),
        ),
        Case(
            {
                f'stepwell_concurrency_in_use{{{ORDERS},scope="key"}}': "2x60",
                f'stepwell_concurrency_limit{{{ORDERS},scope="key"}}': "2x60",
                f'stepwell_concurrency_blocked_runs{{{ORDERS},scope="key"}}': "0x60",
            },
            "45m",
        ),
    ],
    "StepwellNoRunners": [
        Case(
            {
                f'stepwell_queue_depth{{{ORDERS},revision="r1",state="due"}}': "3x60",
                'stepwell_runner_slots{namespace="shop",function="mail",state="free"}': "10x60",
            },
            "5m",
            (LABELS, "3"),
        ),
        Case(
            {
                f'stepwell_queue_depth{{{ORDERS},revision="r1",state="due"}}': "3x60",
                f'stepwell_runner_slots{{{ORDERS},state="used"}}': "10x60",
            },
            "5m",
        ),
    ],
    "StepwellLeaseLossHigh": [
        Case(
            {f"stepwell_leases_lost_total{{{ORDERS}}}": counter(1), f"stepwell_claims_total{{{ORDERS}}}": counter(20)},
            "40m",
            (SHOP, "5%"),
        ),
        Case({f"stepwell_leases_lost_total{{{ORDERS}}}": counter(1), f"stepwell_claims_total{{{ORDERS}}}": counter(200)}, "40m"),
    ],
    "StepwellCronMissed": [
        Case({f'stepwell_cron_ticks_total{{{ORDERS},outcome="window_skipped"}}': "0x5 1x30"}, "10m", (LABELS, "")),
        Case({f'stepwell_cron_ticks_total{{{ORDERS},outcome="overlap_skipped"}}': "0x5 1x30"}, "10m"),
    ],
    "StepwellCronStalled": [
        Case({f"stepwell_cron_next_timestamp_seconds{{{ORDERS}}}": "300x60"}, "10m", (LABELS, "5m 0s")),
        Case({f"stepwell_cron_next_timestamp_seconds{{{ORDERS}}}": "900x60"}, "10m"),
    ],
    "StepwellTimersOverdue": [
        Case({'stepwell_timers_overdue{namespace="shop"}': "4x60"}, "6m", (SHOP, "4")),
        Case({'stepwell_timers_overdue{namespace="shop"}': "4x3 0x60"}, "6m"),
    ],
    "StepwellStoreUnavailable": [
        Case({'stepwell_store_errors_total{namespace="shop",op="commit",class="unavailable"}': counter(3)}, "10m", (SHOP, "")),
        Case({'stepwell_store_errors_total{namespace="shop",op="commit",class="conflict"}': counter(3)}, "10m"),
    ],
    "StepwellStoreSlow": [
        Case(
            {
                'stepwell_store_operation_seconds_bucket{namespace="shop",op="commit",le="0.25"}': counter(10),
                'stepwell_store_operation_seconds_bucket{namespace="shop",op="commit",le="1.0"}': counter(100),
                'stepwell_store_operation_seconds_bucket{namespace="shop",op="commit",le="+Inf"}': counter(100),
            },
            "30m",
            ({**SHOP, "op": "commit"}, "991.7ms"),
        ),
        Case(
            {
                'stepwell_store_operation_seconds_bucket{namespace="shop",op="stats",le="0.25"}': counter(0),
                'stepwell_store_operation_seconds_bucket{namespace="shop",op="stats",le="1.0"}': counter(2),
                'stepwell_store_operation_seconds_bucket{namespace="shop",op="stats",le="+Inf"}': counter(2),
            },
            "30m",
        ),
        Case(
            {
                'stepwell_store_operation_seconds_bucket{namespace="shop",op="commit",le="0.1"}': counter(0),
                'stepwell_store_operation_seconds_bucket{namespace="shop",op="commit",le="0.25"}': counter(100),
                'stepwell_store_operation_seconds_bucket{namespace="shop",op="commit",le="+Inf"}': counter(100),
            },
            "30m",
        ),
    ],
    "StepwellStoreHorizonPinned": [
        Case({'stepwell_store_oldest_xmin_age_seconds{namespace="shop"}': "3600x5"}, "2m", (SHOP, "")),
        Case(
            {'stepwell_store_dead_tuples{namespace="shop",table="queue"}': "200000x5"},
            "2m",
            ({**SHOP, "table": "queue"}, ""),
        ),
        Case(
            {
                'stepwell_store_oldest_xmin_age_seconds{namespace="shop"}': "60x5",
                'stepwell_store_dead_tuples{namespace="shop",table="queue"}': "2000x5",
            },
            "2m",
        ),
    ],
    "StepwellExpressionErrors": [
        Case(
            {f'stepwell_expression_errors_total{{{ORDERS},kind="trigger"}}': counter(1)},
            "25m",
            ({**LABELS, "kind": "trigger"}, ""),
        ),
        Case({f'stepwell_expression_errors_total{{{ORDERS},kind="trigger"}}': "0x3 1x60"}, "25m"),
    ],
    "StepwellOperatorStale": [
        Case(
            {'stepwell_watch_last_event_timestamp_seconds{resource="durablefunctions"}': "60x60"},
            "6m",
            ({"resource": "durablefunctions"}, "5m 0s"),
        ),
        Case({'stepwell_watch_last_event_timestamp_seconds{resource="durablefunctions"}': "0+60x60"}, "6m"),
    ],
    "StepwellInvariantViolation": [
        Case(
            {'stepwell_invariant_violations_total{namespace="shop",invariant="I9"}': "0x5 2x30"},
            "10m",
            ({**SHOP, "invariant": "I9"}, ""),
        ),
        Case({'stepwell_invariant_violations_total{namespace="shop",invariant="I9"}': "2x60"}, "30m"),
    ],
    "StepwellMetricsAbsent": [
        Case({'stepwell_build_info{component="operator",version="1"}': "1x60"}, "6m", ({"component": "gateway"}, "")),
        Case(
            {
                'stepwell_build_info{component="operator",version="1"}': "1x60",
                'stepwell_build_info{component="gateway",version="1"}': "1x60",
            },
            "6m",
        ),
    ],
}
