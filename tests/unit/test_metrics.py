"""Metrics: names and labels are frozen, series are few, counters begin at zero, and a scrape neither waits nor fails."""

import asyncio
import re
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from stepwell import metrics as module
from stepwell.clock import ManualClock, SystemClock
from stepwell.engine.run import RunStatus
from stepwell.errors import StoreUnavailable
from stepwell.metrics import Metrics, slots_of
from stepwell.spec.function import Concurrency, CronTrigger, EventTrigger, FunctionSpec
from stepwell.store.protocol import Store
from stepwell.store.records import FunctionStats, Limit, RunnerRow, Stats, TickOutcome, TriggerKind

GOLDEN = Path(__file__).parent / "metrics.golden"
ORDERS = FunctionSpec(id="orders", triggers=[EventTrigger(event="order/created")], concurrency=[Concurrency(limit=10)])
NIGHTLY = FunctionSpec(id="nightly", triggers=[CronTrigger(cron="0 3 * * *")])
STATS = Stats(
    now=1000,
    functions=(
        FunctionStats("orders", 3, 2, 4, 5, 6, 7_500_000, 8, 9_000_000, 4, (("r1", 3, 2),)),
        FunctionStats("mail", 0, 0, 2, 0, 0, 0, 0, 0, 0),
    ),
    runners=(
        RunnerRow("A", ("p",), ("mail", "orders"), 10, 2000, draining=False),
        RunnerRow("B", ("p",), ("mail", "orders"), 5, 2000, draining=True),
        RunnerRow("dead", ("p",), ("mail", "orders"), 99, 1000, draining=False),
        RunnerRow("C", ("q",), ("nightly",), 2, 2000, draining=False),
    ),
    timers_overdue=1,
    oldest_xmin_age=2_000_000,
    dead_tuples=(("queue", 12),),
)


class Told:
    """A store that tells these figures, or fails, or doesn't answer until told to."""

    def __init__(self, answer: Stats | Exception) -> None:
        self.answer = answer
        self.asked = 0
        self.held: asyncio.Event | None = None

    async def stats(self, now: int | None = None) -> Stats:
        del now
        self.asked += 1
        if self.held is not None:
            await self.held.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    @property
    def store(self) -> Store:
        return cast("Store", self)


def lines(metrics: Metrics, name: str = "") -> dict[str, float]:
    """Samples whose text begins with `name`."""
    text = metrics.render()[0].decode()
    found = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {sample: float(value) for sample, _, value in found if sample.startswith(name)}


def everything() -> Metrics:
    """Metrics on which everything has happened once."""
    metrics = Metrics("runner", "shop", store="postgres")
    metrics.keep([ORDERS, NIGHTLY])
    metrics.store_figures.show(STATS)
    one = metrics.of("orders")
    one.created(TriggerKind.EVENT, landed=True, skipped=False)
    one.claimed(0.1, recovered=True)
    one.recovered("drain", 1.0)
    one.lease_lost()
    one.finished(RunStatus.COMPLETED, 1.0)
    one.step_done(0.1, "ok")
    one.retried("ValueError", 1.0, 0.1)
    one.timer_fired(0.1)
    one.ticked(TickOutcome.FIRED, 0.1, 2_000_000)
    metrics.ingested("accepted", 0.01)
    metrics.expression_tried("trigger", 0.001)
    metrics.store_done("commit", 0.01)
    metrics.store_failed("commit", "timeout")
    metrics.store_connections(1, 2, 3)
    metrics.families.dropped.labels("shop").inc()
    return metrics


def test_names_labels_and_helps_are_frozen() -> None:
    """Dashboards and alerts stand on these names: a change of the list is a change of the product."""
    told: list[str] = []
    for family in everything().registry.collect():
        labels = sorted({name for sample in family.samples for name in sample.labels} - {"le"})
        name = f"{family.name}_total" if family.type == "counter" else family.name
        told.append(f"{name} | {family.type} | {', '.join(labels)} | {family.documentation}\n")
    assert "".join(sorted(told)) == GOLDEN.read_text(encoding="utf-8")


def test_names_have_units_and_say_what_they_are() -> None:
    """Every name begins with `stepwell_`, counters end in `_total`, times are in seconds, and `_created` is off."""
    metrics = everything()
    for family in metrics.registry.collect():
        assert family.name.startswith("stepwell_")
        assert family.type in {"counter", "gauge", "histogram"}
        assert not re.search(r"_(ms|millis|minutes|us|count)$", family.name)
    assert not any(re.match(r"stepwell_\w+_created\b(?!_total)", sample) for sample in lines(metrics))


def test_a_function_with_an_event_trigger_and_one_limit_has_at_most_60_series() -> None:
    """Counters and gauges of one function fit the budget, and each histogram has eight buckets at most."""
    metrics = everything()
    metrics.keep([ORDERS])
    own = [sample for sample in lines(metrics) if 'function="orders"' in sample]
    simple = [sample for sample in own if not re.match(r"\w+_(bucket|sum|count)\{", sample)]
    assert 30 <= len(simple) <= 60
    buckets: dict[str, int] = {}
    for sample in lines(metrics):
        if "_bucket{" in sample:
            series = re.sub(r'le="[^"]*"', "", sample)
            buckets[series] = buckets.get(series, 0) + 1
    assert buckets
    assert set(buckets.values()) == {8}


def test_counters_of_a_registered_function_begin_at_zero() -> None:
    """Before anything has happened every counter of a function is there, with 0, and no histogram is."""
    metrics = Metrics("runner")
    metrics.keep([ORDERS])
    own = {sample: value for sample, value in lines(metrics).items() if 'function="orders"' in sample}
    for name in ("runs_created_total", "runs_finished_total", "step_attempts_total", "step_retries_total", "claims_total"):
        assert any(sample.startswith(f"stepwell_{name}{{") for sample in own)
    assert set(own.values()) == {0}
    assert not any("_bucket" in sample or "cron_ticks" in sample for sample in own)
    metrics.keep([ORDERS, NIGHTLY])
    assert len(lines(metrics, "stepwell_cron_ticks_total")) == len(TickOutcome)


def test_a_function_that_goes_takes_its_series_with_it() -> None:
    """After `keep` without it no series of a function is left, its late increments come to nothing, and it may come back."""
    metrics = everything()
    one = metrics.of("orders")
    metrics.store_figures.show(Stats(0, (), (), 0))
    metrics.keep([NIGHTLY])
    one.memoized.inc()
    assert not [sample for sample in lines(metrics) if 'function="orders"' in sample]
    assert [sample for sample in lines(metrics) if 'function="nightly"' in sample]
    metrics.keep([ORDERS, NIGHTLY])
    assert (
        lines(metrics, "stepwell_runs_created_total")[
            'stepwell_runs_created_total{function="orders",namespace="shop",trigger="event"}'
        ]
        == 0
    )


@pytest.mark.parametrize(
    ("act", "sample", "value"),
    [
        (lambda one: one.created(TriggerKind.CRON, landed=True, skipped=False), 'runs_created_total{trigger="cron"}', 1),
        (lambda one: one.created(TriggerKind.EVENT, landed=False, skipped=True), 'runs_finished_total{status="skipped"}', 1),
        (lambda one: one.created(TriggerKind.EVENT, landed=False, skipped=False), 'runs_created_total{trigger="event"}', 0),
        (lambda one: one.claimed(-1, recovered=True), 'runs_recovered_total{cause="lease_expired"}', 1),
        (lambda one: one.claimed(-1, recovered=False), "run_queue_wait_seconds_sum{}", 0),
        (lambda one: one.recovered("drain", 2), 'runs_recovered_total{cause="drain"}', 1),
        (lambda one: one.lease_lost(), "leases_lost_total{}", 1),
        (lambda one: one.finished(RunStatus.FAILED, 3), 'run_duration_seconds_sum{status="failed"}', 3),
        (lambda one: one.ended_elsewhere(RunStatus.CANCELLED), 'runs_finished_total{status="cancelled"}', 1),
        (lambda one: one.step_done(0.5, "cancelled"), 'step_attempts_total{outcome="cancelled"}', 1),
        (lambda one: one.step_done(0.5, "ok"), "step_duration_seconds_sum{}", 0.5),
        (lambda one: one.retried("TimeoutError", 2), 'step_retries_total{reason="timeout"}', 1),
        (lambda one: one.retried("RetryAfterError", 2), 'step_retries_total{reason="retry_after"}', 1),
        (lambda one: one.retried("KeyError", 2), 'step_retries_total{reason="error"}', 1),
        (lambda one: one.retried("lost", 2), 'step_retries_total{reason="lost"}', 1),
        (lambda one: one.retried("KeyError", 2, 0.5), "step_retry_lost_seconds_total{}", 0.5),
        (lambda one: one.retried("KeyError", 2, 0.5), "step_retry_wait_seconds_sum{}", 2),
        (lambda one: one.expression_error("wait"), 'expression_errors_total{kind="wait"}', 1),
        (lambda one: one.wait_resolved("timeout"), 'waits_resolved_total{outcome="timeout"}', 1),
        (lambda one: one.ticked(TickOutcome.OVERLAP_SKIPPED), 'cron_ticks_total{outcome="overlap_skipped"}', 1),
        (lambda one: one.ticked(TickOutcome.FIRED, 0.5, 7_000_000), "cron_next_timestamp_seconds{}", 7),
        (lambda one: one.ticked(TickOutcome.FIRED, 0.5, 7_000_000), "cron_lag_seconds_sum{}", 0.5),
        (lambda one: one.loop_blocked.inc(2.5), "loop_blocked_seconds_total{}", 2.5),
    ],
)
def test_what_happens_is_counted_where_it_belongs(act: Callable[[Any], None], sample: str, value: float) -> None:
    """Each report of the engine moves its own series, under the labels of its function."""
    metrics = Metrics("runner", "shop")
    act(metrics.of("orders"))
    name, _, label = sample.rstrip("}").partition("{")
    labels = ",".join(sorted(['function="orders"', 'namespace="shop"', *([label] if label else [])]))
    assert lines(metrics)[f"stepwell_{name}{{{labels}}}"] == value


def test_the_process_tells_what_it_is() -> None:
    """Version, component, Python and store are labels of one gauge; offered events are counted by fate from zero."""
    metrics = Metrics("gateway", registry=CollectorRegistry(), store="sqlite")
    metrics.event_received("duplicate")
    (info,) = lines(metrics, "stepwell_build_info")
    assert 'component="gateway"' in info
    assert 'store="sqlite"' in info
    received = lines(metrics, "stepwell_events_received_total")
    assert len(received) == len(module.RESULTS)
    assert sum(received.values()) == received['stepwell_events_received_total{namespace="default",result="duplicate"}'] == 1
    assert metrics.render()[1].startswith("text/plain")


def test_functions_past_the_cap_share_one_and_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of function ids can't make series without end."""
    monkeypatch.setattr(module, "MOST_FUNCTIONS", 3)
    metrics = Metrics("runner")
    for number in range(50):
        metrics.of(f"f{number}").memoized.inc()
    counted = lines(metrics, "stepwell_steps_memoized_total")
    assert len(counted) == 5
    assert sum(counted.values()) == 50
    assert lines(metrics, "stepwell_metrics_dropped_series_total") == {
        'stepwell_metrics_dropped_series_total{namespace="default"}': 46
    }


# --- what only the store knows ---


def test_the_stores_figures_are_shown_for_every_function() -> None:
    """Live runs, queue, limits and slots come from the last look; idle functions are there with zeros."""
    found = everything().render()[0].decode()
    for line in (
        'stepwell_runs{function="orders",namespace="shop",status="queued"} 5.0',
        'stepwell_runs{function="orders",namespace="shop",status="sleeping"} 5.0',
        'stepwell_runs{function="nightly",namespace="shop",status="running"} 0.0',
        'stepwell_queue_depth{function="orders",namespace="shop",revision="r1",state="due"} 3.0',
        'stepwell_queue_oldest_age_seconds{function="orders",namespace="shop"} 7.5',
        'stepwell_concurrency_limit{function="orders",namespace="shop",scope="function"} 10.0',
        'stepwell_concurrency_in_use{function="orders",namespace="shop",scope="function"} 4.0',
        'stepwell_concurrency_blocked_runs{function="orders",namespace="shop",scope="function"} 8.0',
        'stepwell_concurrency_oldest_blocked_age_seconds{function="orders",namespace="shop",scope="function"} 9.0',
        'stepwell_runner_slots{function="mail",namespace="shop",state="used"} 6.0',
        'stepwell_runner_slots{function="orders",namespace="shop",state="free"} 4.0',
        'stepwell_runner_slots{function="nightly",namespace="shop",state="free"} 2.0',
        'stepwell_timers_overdue{namespace="shop"} 1.0',
        'stepwell_store_oldest_xmin_age_seconds{namespace="shop"} 2.0',
        'stepwell_store_dead_tuples{namespace="shop",table="queue"} 12.0',
    ):
        assert line in found.splitlines()


def test_limits_have_the_scope_of_their_rule() -> None:
    """Function, key and namespace are told apart; the one figure in use belongs to the widest of them."""
    rules = [Concurrency(limit=2, key="event.data.user"), Concurrency(limit=10)]
    metrics = Metrics("gateway")
    metrics.keep(
        [
            FunctionSpec(id="orders", triggers=[], concurrency=rules),
            FunctionSpec(id="mail", triggers=[], concurrency=[Concurrency(limit=3, key="'mail'", scope="namespace")]),
        ]
    )
    metrics.store_figures.show(STATS)
    limits = lines(metrics, "stepwell_concurrency_limit")
    assert {
        (re.findall(r'"(\w+)"', sample)[0], re.findall(r'"(\w+)"', sample)[2]): value for sample, value in limits.items()
    } == {
        ("orders", "function"): 10,
        ("orders", "key"): 2,
        ("mail", "namespace"): 3,
    }
    assert len(lines(metrics, "stepwell_concurrency_in_use")) == 2


def test_slots_are_shared_within_a_pool_and_never_negative() -> None:
    """Runs of any of a pool's functions use its slots; more runs than slots leave none free."""
    busy = {"a": FunctionStats("a", 0, 0, 7, 0, 0, 0, 0, 0, 0)}
    rows = [RunnerRow("1", ("p",), ("a", "b"), 5, 9, draining=False), RunnerRow("2", ("q",), ("b",), 3, 9, draining=False)]
    assert slots_of(rows, busy) == {"a": (5, 0), "b": (5, 3)}
    assert slots_of([], busy) == {}


async def test_a_look_is_kept_for_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scrapes within five seconds ask the store once; the next one asks again; a manual clock is always asked."""
    up = [0]
    clock, told, metrics = SystemClock(lambda: up[0] * 1000, lambda: 0), Told(STATS), Metrics("gateway")
    for at, asked in ((0, 1), (4_999_999, 1), (5_000_000, 2), (5_000_001, 2)):
        up[0] = at
        await metrics.look(told.store, clock, [Limit("orders", 10)])
        assert told.asked == asked
    assert lines(metrics, "stepwell_concurrency_limit")
    for _ in range(2):
        await metrics.look(told.store, ManualClock(up[0]), [])
    assert told.asked == 4


async def test_a_store_that_is_away_leaves_the_last_figures_for_a_minute() -> None:
    """A scrape during an outage succeeds with what was known last; after a minute it no longer claims to know."""
    up = [0]
    clock, told, metrics = SystemClock(lambda: up[0] * 1000, lambda: 0), Told(STATS), Metrics("gateway")
    await metrics.look(told.store, clock, [])
    for answer in (StoreUnavailable("away"), RuntimeError("odd")):
        told.answer = answer
        for at, shown in ((30_000_000, True), (60_000_000, True)):
            up[0] = at
            await metrics.look(told.store, clock, [])
            assert bool(lines(metrics, "stepwell_timers_overdue")) is shown
    up[0] = 60_000_001
    await metrics.look(told.store, clock, [])
    assert not lines(metrics, "stepwell_timers_overdue")
    assert lines(metrics, "stepwell_build_info")


async def test_a_store_that_does_not_answer_holds_up_no_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape goes on without the answer, later ones wait for the same question, and a late answer is shown."""
    monkeypatch.setattr(module, "PATIENCE", 0.001)
    told, metrics, clock = Told(STATS), Metrics("gateway"), ManualClock()
    told.held = asyncio.Event()
    for _ in range(3):
        await metrics.look(told.store, clock, [])
        assert not lines(metrics, "stepwell_timers_overdue")
    assert told.asked == 1
    told.held.set()
    await metrics.look(told.store, clock, [])
    assert lines(metrics, "stepwell_timers_overdue")


def test_the_hot_path_costs_next_to_nothing() -> None:
    """Counting a step takes microseconds (1 to 2 on an idle machine; the bar leaves room for a busy one)."""
    one = Metrics("runner").of("orders")
    best = min(timeit.repeat(lambda: one.step_done(0.01, "ok"), number=2000, repeat=10)) / 2000
    assert best < 20e-6
