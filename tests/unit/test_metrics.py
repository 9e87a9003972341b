"""Metrics: names and labels are frozen, series are few, counters begin at zero, and a scrape neither waits nor fails."""

import asyncio
import gzip
import re
import threading
import time
import timeit
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import asyncpg
import pytest
from prometheus_client import Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from stepwell.clock import ManualClock, SystemClock
from stepwell.engine.run import RunStatus
from stepwell.engine.well import Well
from stepwell.errors import StoreError, StoreUnavailable
from stepwell.metrics import Metrics, figures, process
from stepwell.metrics.catalogue import (
    CATALOGUE,
    RECOVERY_SECONDS,
    RUN_QUEUE_WAIT,
    STORE_OPERATION,
    TIMER_LATENESS,
    By,
    Type,
)
from stepwell.metrics.collector import written
from stepwell.metrics.figures import GATEWAYS, by_scope, slots_of
from stepwell.metrics.timed_store import failure_class, timed
from stepwell.processes import examine
from stepwell.settings import MetricSettings
from stepwell.spec.function import Concurrency, CronTrigger, EventTrigger, FunctionSpec
from stepwell.store.protocol import Store
from stepwell.store.records import TickOutcome, TriggerKind
from stepwell.store.views import FunctionStats, Horizon, LimitStats, OverdueTimers, RunnerRow, Stats, Violation

GOLDEN = Path(__file__).parent / "metrics.golden"
ORDERS = FunctionSpec(id="orders", triggers=[EventTrigger(event="order/created")], concurrency=[Concurrency(limit=10)])
NIGHTLY = FunctionSpec(id="nightly", triggers=[CronTrigger(cron="0 3 * * *")])
RUNNERS = (
    RunnerRow("A", ("p",), ("mail", "orders"), 10, 2000, draining=False),
    RunnerRow("B", ("p",), ("mail", "orders"), 5, 2000, draining=True),
    RunnerRow("dead", ("p",), ("mail", "orders"), 99, 1000, draining=False),
    RunnerRow("C", ("q",), ("nightly",), 2, 2000, draining=False),
)
STATS = Stats(
    now=1000,
    functions=(
        FunctionStats("orders", 5, 4, 5, 6, 7_500_000, (LimitStats(1, 4, 8, 9_000_000),), (("r1", 3, 2),), paused=2),
        FunctionStats("mail", running=2),
    ),
    runners=RUNNERS,
    overdue=(OverdueTimers("mail", (0, 0), 1),),
    next_ticks=(("nightly", 7_000_000),),
    horizon=Horizon(700, 1000 - 2_000_000),
    dead_tuples=(("queue", 12),),
)


class Told:
    """A store that tells these figures, or fails, or doesn't answer until told to."""

    def __init__(self, answer: Stats | Exception) -> None:
        self.answer = answer
        self.asked = 0
        self.held: asyncio.Event | None = None
        self.enrolled: RunnerRow | None = None

    async def enrol(self, runner: RunnerRow) -> None:
        self.enrolled = runner

    async def leave(self, runner_id: str, now: int | None = None) -> None:
        del now
        assert self.enrolled is not None
        assert self.enrolled.runner_id == runner_id
        self.enrolled = None

    async def doctor(self, now: int | None = None) -> list[Violation]:
        del now
        return [Violation("I9", "a running run is leased", ("a", "b")), Violation("I11_lost", "live or ended", ("c",))]

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


def everything(namespace: str = "shop") -> Metrics:
    """Metrics on which everything has happened once."""
    metrics = Metrics("dev", namespace, "postgres", MetricSettings(frozenset({"nightly"})))
    metrics.keep([ORDERS, NIGHTLY])
    metrics.ratios = lambda: {"nightly": 0.4}
    metrics.figures.show(STATS)
    one = metrics.of("orders")
    one.created(TriggerKind.EVENT, landed=True, skipped=False)
    one.created(TriggerKind.EVENT, landed=False, skipped=True)
    one.claimed(0.1, fresh=True)
    one.recovered("lease_expired")
    one.finished(RunStatus.COMPLETED, 1.0)
    one.step_done(0.1, "ok")
    one.retried("ValueError", 1.0, 0.1)
    one.ticked(TickOutcome.FIRED, 0.1)
    metrics.timer_fired(0.1)
    metrics.recovered_after("drain", 1.0)
    metrics.ingested("accepted", 0.01)
    metrics.expression_tried("trigger", 0.001)
    metrics.store_done("commit", 0.01)
    metrics.store_failed("commit", "timeout")
    metrics.store_connections(1, 2, 3)
    metrics.spans_lost("dropped", 1)
    return metrics


def test_the_table_is_frozen() -> None:
    """Dashboards and alerts stand on these names: a change of the list is a change of the product."""
    told = "".join(sorted(f"{one} | {one.type} | {', '.join(one.label_names)} | {one.help}\n" for one in CATALOGUE))
    assert told == GOLDEN.read_text(encoding="utf-8")


def test_what_is_shown_is_what_the_table_says() -> None:
    """Every family has the type, help and labels of its row; all rows but the operator's are there once they have a figure."""
    table = {one.name: one for one in CATALOGUE}
    shown: set[str] = set()
    for family in text_string_to_metric_families(everything().render()[0].decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        row = table[name]
        shown.add(name)
        assert (family.type, family.documentation) == (row.type, row.help)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} <= set(row.label_names)
            assert {"namespace", "function"} & set(row.label_names) <= set(sample.labels)
            for label in row.labels:
                assert not label.values or sample.labels.get(label.name, label.values[0]) in label.values
    assert shown == {one.name for one in CATALOGUE if one.by is not By.OPERATOR}


def test_names_have_units_and_say_what_they_are() -> None:
    """Names begin with `stepwell_`, counters alone end in `_total`, times are in seconds, a function is the first label."""
    for one in CATALOGUE:
        assert re.fullmatch(r"stepwell_[a-z_]+", one.name)
        assert one.name.endswith("_total") is (one.type is Type.COUNTER)
        assert not re.search(r"_(ms|millis|minutes|us|count|bucket|sum)(_total)?$", one.name)
        assert len(one.buckets) == (7 if one.type is Type.HISTOGRAM else 0)
        assert "id" not in {label.name for label in one.labels}
        if one.of_function:
            assert one.labels[0].name == "function"
    assert "_created" not in "".join(re.findall(r"^stepwell_\w+_created\b", everything().render()[0].decode(), re.MULTILINE))


def test_bounds_lie_where_alerts_look_and_quantiles_are_near() -> None:
    """A threshold of an alert on a histogram is one of its bounds, and up to an hour no bound is twelve times the one before."""
    thresholds = {RUN_QUEUE_WAIT: 5.0, STORE_OPERATION: 0.25, TIMER_LATENESS: 1.0, RECOVERY_SECONDS: 32.0}
    assert all(threshold in metric.buckets for metric, threshold in thresholds.items())
    for one in CATALOGUE:
        assert all(before < after for before, after in pairwise(one.buckets))
        assert all(after <= 12 * before for before, after in pairwise(one.buckets) if after <= 3600)


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


def test_five_hundred_functions_fit_the_budget() -> None:
    """500 functions that have each done something have no more series than 60 each, 200 a process, and their histograms."""
    metrics = Metrics("dev")
    specs = [ORDERS.model_copy(update={"id": f"f{number}"}) for number in range(500)]
    metrics.keep(specs)
    metrics.figures.show(Stats(0, tuple(FunctionStats(spec.id, revision_due=(("r1", 0, 0),)) for spec in specs), (), ()))
    for spec in specs:
        metrics.of(spec.id).step_done(0.1, "ok")
        metrics.of(spec.id).finished(RunStatus.COMPLETED, 1.0)
    found = lines(metrics)
    simple = [sample for sample in found if not re.match(r"\w+_(bucket|sum|count)\{", sample)]
    assert len(simple) <= 500 * 60 + 200
    assert len(found) - len(simple) == 500 * 2 * 10 + 2 * 10  # the last are the times of recoveries
    assert lines(metrics, "stepwell_metrics_dropped_series_total") == {
        'stepwell_metrics_dropped_series_total{namespace="default"}': 0
    }


def test_counters_of_a_registered_function_begin_at_zero() -> None:
    """Before anything has happened every counter that a function can reach is there, with 0, and no histogram is."""
    metrics = Metrics("dev")
    metrics.keep([ORDERS])
    own = {sample: value for sample, value in lines(metrics).items() if 'function="orders"' in sample}
    for name in ("runs_created_total", "runs_finished_total", "step_attempts_total", "step_retries_total", "claims_total"):
        assert any(sample.startswith(f"stepwell_{name}{{") for sample in own)
    assert set(own.values()) == {0}
    assert not any("_bucket" in sample or "cron" in sample or "skipped" in sample or 'kind="key"' in sample for sample in own)
    metrics.keep([ORDERS, NIGHTLY])
    assert len(lines(metrics, "stepwell_cron_ticks_total")) == len(TickOutcome)
    assert 'stepwell_runs_created_total{function="nightly",namespace="default",trigger="event"}' not in lines(metrics)


def test_the_first_recovery_is_an_increase() -> None:
    """What a sweep takes over is counted from zero, by cause, and so is the time that it took: no series begins with it."""
    metrics = Metrics("dev")
    metrics.keep([ORDERS])
    before = lines(metrics)
    metrics.of("orders").recovered("restart")
    metrics.recovered_after("restart", 2.0)
    after = lines(metrics)
    assert before.keys() == after.keys()
    grown = {sample for sample in after if after[sample] > before[sample]}
    assert 'stepwell_runs_recovered_total{cause="restart",function="orders",namespace="default"}' in grown
    assert 'stepwell_recovery_seconds_count{cause="restart",namespace="default"}' in grown


def test_each_process_has_what_it_can_reach() -> None:
    """A gateway has no figures of execution; a runner has those of its own functions, and of others only that it starts them."""
    gateway, runner = Metrics("gateway"), Metrics("runner")
    for metrics in (gateway, runner):
        metrics.keep([ORDERS, NIGHTLY])
    runner.executes(["orders"])
    assert not lines(gateway, "stepwell_step_attempts_total")
    assert lines(gateway, "stepwell_events_received_total")
    assert {re.findall(r'function="(\w+)"', one)[0] for one in lines(runner, "stepwell_claims_total")} == {"orders"}
    assert {re.findall(r'function="(\w+)"', one)[0] for one in lines(runner, "stepwell_runs_created_total")} == {
        "orders",
        "nightly",
    }
    assert not lines(runner, "stepwell_cron_ticks_total")
    assert not lines(runner, "stepwell_events_received_total")


def test_a_function_that_goes_takes_its_series_with_it() -> None:
    """After `keep` without it no series of a function is left, its late increments come to nothing, and it may come back."""
    metrics = everything()
    one = metrics.of("orders")
    before = metrics.shelf.size
    metrics.figures.show(Stats(0, (), (), ()))
    metrics.keep([NIGHTLY])
    one.memoized.inc()
    assert not [sample for sample in lines(metrics) if 'function="orders"' in sample]
    assert [sample for sample in lines(metrics) if 'function="nightly"' in sample]
    assert metrics.shelf.size < before
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
        (lambda one: one.created(TriggerKind.EVENT, landed=False, skipped=True), 'flow_control_total{decision="skipped"}', 1),
        (lambda one: one.created(TriggerKind.EVENT, landed=False, skipped=False), 'runs_created_total{trigger="event"}', 0),
        (lambda one: one.claimed(-1, fresh=False), "run_queue_wait_seconds_sum{}", 0),
        (lambda one: one.recovered("drain", 2), 'runs_recovered_total{cause="drain"}', 2),
        (lambda one: one.lease_lost(), "leases_lost_total{}", 1),
        (lambda one: one.finished(RunStatus.FAILED, 3), 'run_duration_seconds_sum{status="failed"}', 3),
        (lambda one: one.finished(RunStatus.CANCELLED, 3), 'runs_finished_total{status="cancelled"}', 1),
        (lambda one: one.step_done(0.5, "cancelled"), 'step_attempts_total{outcome="cancelled"}', 1),
        (lambda one: one.step_done(None, "error"), 'step_attempts_total{outcome="error"}', 1),
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
        (lambda one: one.ticked(TickOutcome.FIRED, 0.5), "cron_lag_seconds_sum{}", 0.5),
        (lambda one: one.loop_blocked.inc(2.5), "loop_blocked_seconds_total{}", 2.5),
    ],
)
def test_what_happens_is_counted_where_it_belongs(act: Callable[[Any], None], sample: str, value: float) -> None:
    """Each report of the engine moves its own series, under the labels of its function."""
    metrics = Metrics("dev", "shop")
    metrics.keep([ORDERS])
    act(metrics.of("orders"))
    name, _, label = sample.rstrip("}").partition("{")
    labels = ",".join(sorted(['function="orders"', 'namespace="shop"', *([label] if label else [])]))
    assert lines(metrics)[f"stepwell_{name}{{{labels}}}"] == value


def test_the_process_tells_what_it_is() -> None:
    """Version, component, Python and store are labels of one gauge; offered events are counted by fate from zero."""
    metrics = Metrics("gateway", store="sqlite")
    metrics.event_received("duplicate")
    (info,) = lines(metrics, "stepwell_build_info")
    assert 'component="gateway"' in info
    assert 'store="sqlite"' in info
    received = lines(metrics, "stepwell_events_received_total")
    assert len(received) == 8
    assert sum(received.values()) == received['stepwell_events_received_total{namespace="default",result="duplicate"}'] == 1
    assert metrics.render()[1].startswith("text/plain")


async def test_a_scrape_is_written_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry is asked on another thread, so that however long its text is, runs go on; the text is the same."""
    metrics = everything()
    threads: list[int] = []
    asked = metrics.registry.collect

    def told() -> Any:
        threads.append(threading.get_ident())
        return asked()

    monkeypatch.setattr(metrics.registry, "collect", told)
    text, headers = await metrics.exposition()
    packed, more = await metrics.exposition("gzip")
    assert len(threads) == 2
    assert threading.get_ident() not in threads
    assert (text, headers["Content-Type"]) == metrics.render()
    assert gzip.decompress(packed) == text
    assert more == {**headers, "Content-Encoding": "gzip"}


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [("", False), ("identity", False), ("gzip;q=0", False), ("gzip; q=0.0", False), ("gzip;q=0.5", True), ("br, GZIP", True)],
)
async def test_only_who_takes_gzip_gets_it(accepted: str, packed: bool) -> None:
    """A scraper is answered in a packing that it named, or in none."""
    body, headers = await everything().exposition(accepted)
    assert (body[:2] == b"\x1f\x8b") is packed
    assert ("Content-Encoding" in headers) is packed


@pytest.mark.parametrize("namespace", ["shop", 'a"b\\c\nd{0}'])
def test_the_text_is_that_of_prometheus_own_client(namespace: str) -> None:
    """What is written is, byte for byte, what `generate_latest` makes of the same registry, whatever the labels and figures."""
    metrics = everything(namespace)
    odd = metrics.of('o"d\\d\n{1}')
    for figure in (0.25, 1, 999_999, 1_000_000, 12_345_678.5, 1e22, 1e-7, float("inf"), float("nan"), -3):
        odd.claims.set(figure)
        odd.queue_wait.observe(figure)
        assert written(metrics.registry) == generate_latest(metrics.registry)
    odd.queue_wait.counts[0] = 20_000_000
    assert written(metrics.registry) == generate_latest(metrics.registry)


def test_writing_takes_less_than_half_the_time_of_prometheus_own_client() -> None:
    """So that ten thousand functions fit into the ten seconds of a scrape; it takes a quarter, the best of five on this very machine."""
    metrics = Metrics("dev")
    metrics.keep([ORDERS.model_copy(update={"id": f"f{number}"}) for number in range(100)])
    for number in range(100):
        metrics.of(f"f{number}").step_done(0.1, "ok")
    ours, theirs = (
        min(timeit.repeat(partial(write, metrics.registry), timer=time.thread_time, number=1, repeat=5))
        for write in (written, generate_latest)
    )
    assert ours < theirs / 2


def test_other_collectors_are_written_too() -> None:
    """Whatever else is registered stands in the text as prometheus-client writes it."""
    metrics = Metrics("runner")
    Gauge("other", "Of another library", ["of"], registry=metrics.registry).labels("x").set(2)
    assert b'\nother{of="x"} 2.0\n' in written(metrics.registry)
    assert written(metrics.registry) == generate_latest(metrics.registry)


def test_labels_are_escaped_and_empty_ones_left_out() -> None:
    """A name with quotes, backslashes and line ends comes back as it was; each process has a registry of its own."""
    odd = 'a"b\\c\nd'
    metrics = Metrics("runner", odd)
    metrics.of("orders").step_done(0.1, "ok")
    families = {one.name: one for one in text_string_to_metric_families(metrics.render()[0].decode())}
    (sample,) = families["stepwell_step_attempts"].samples
    assert sample.labels == {"namespace": odd, "function": "orders", "outcome": "ok"}
    assert not lines(Metrics("runner"), "stepwell_step_attempts")


def test_series_past_the_cap_are_refused_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of functions can't make series without end; what is refused counts for nothing but the one that tells of it."""
    monkeypatch.setattr(process, "MOST_SERIES", 100)
    metrics = Metrics("runner")
    for number in range(500):
        metrics.of(f"f{number}").memoized.inc()
    counted = lines(metrics, "stepwell_steps_memoized_total")
    (refused,) = lines(metrics, "stepwell_metrics_dropped_series_total").values()
    assert len(counted) + refused == 500
    assert len(lines(metrics)) <= 101
    metrics.keep([])
    metrics.of("late").memoized.inc()
    assert len(lines(metrics, "stepwell_steps_memoized_total")) == 1


def test_steps_have_series_of_their_own_only_where_asked_for() -> None:
    """`step` is a label of the functions that were named, for fifty ids and `other`; elsewhere there is none."""
    metrics = Metrics("dev", settings=MetricSettings(steps=frozenset({"orders"})))
    metrics.keep([ORDERS, NIGHTLY])
    for number in range(60):
        metrics.of("orders").step_done(0.1, "ok", f"step-{number}")
        metrics.of("nightly").step_done(0.1, "ok", f"step-{number}")
    metrics.of("orders").retried("KeyError", 1.0, 1.0, "step-59")
    found = lines(metrics, "stepwell_step_attempts_total")
    assert len([one for one in found if 'function="orders"' in one]) == 51
    assert found['stepwell_step_attempts_total{function="orders",namespace="default",outcome="ok",step="other"}'] == 10
    assert found['stepwell_step_attempts_total{function="nightly",namespace="default",outcome="ok"}'] == 60
    retries = lines(metrics, "stepwell_step_retries_total")
    assert retries['stepwell_step_retries_total{function="orders",namespace="default",reason="error",step="other"}'] == 1


def test_inngests_names_are_a_switch() -> None:
    """Switched on, the same figures stand under Inngest's names too; without it there is none of them."""
    assert not lines(everything(), "inngest_")
    metrics = Metrics("dev", settings=MetricSettings(inngest=True))
    metrics.keep([ORDERS])
    metrics.figures.show(STATS)
    one = metrics.of("orders")
    one.created(TriggerKind.EVENT, landed=True, skipped=False)
    one.claimed(0.0, fresh=True)
    one.claimed(0.0, fresh=False)
    one.step_done(0.1, "ok")
    one.step_done(0.1, "error")
    one.finished(RunStatus.FAILED, 1.0)
    found = lines(metrics, "inngest_")
    for name, value in (
        ('function_run_scheduled_total{fn="orders"}', 1),
        ('function_run_started_total{fn="orders"}', 1),
        ('function_run_ended_total{fn="orders",status="Failed"}', 1),
        ('function_run_ended_total{fn="orders",status="Completed"}', 0),
        ('sdk_req_started_total{fn="orders"}', 2),
        ('sdk_req_ended_total{fn="orders",status="error"}', 1),
        ("queue_depth", 3),
    ):
        assert found[f"inngest_{name}"] == value


# --- what only the store knows ---


def test_a_timer_behind_a_full_limit_is_not_overdue() -> None:
    """Of timers past due those count whose limits have room, or that have none; a full one holds the others back."""
    metrics = everything()
    for in_use, function_id, shown in (
        ((9, 0), "orders", 2),
        ((10, 0), "orders", 0),
        ((11, 3), "orders", 0),
        ((99, 99), "mail", 2),
    ):
        metrics.figures.show(replace(STATS, overdue=(OverdueTimers(function_id, in_use, 2),)))
        assert lines(metrics, "stepwell_timers_overdue") == {'stepwell_timers_overdue{namespace="shop"}': shown}


def test_the_stores_figures_are_shown_for_every_function() -> None:
    """Live runs, queue, limits and slots come from the last look; idle functions are there with zeros."""
    found = everything().render()[0].decode()
    for line in (
        'stepwell_runs{function="orders",namespace="shop",status="queued"} 5.0',
        'stepwell_runs{function="orders",namespace="shop",status="sleeping"} 5.0',
        'stepwell_runs{function="nightly",namespace="shop",status="running"} 0.0',
        'stepwell_queue_depth{function="orders",namespace="shop",revision="r1",state="due"} 3.0',
        'stepwell_queue_depth{function="nightly",namespace="shop",state="due"} 0.0',
        'stepwell_queue_oldest_age_seconds{function="orders",namespace="shop"} 7.5',
        'stepwell_paused_runs{function="orders",namespace="shop"} 2.0',
        'stepwell_concurrency_limit{function="orders",namespace="shop",scope="function"} 10.0',
        'stepwell_concurrency_in_use{function="orders",namespace="shop",scope="function"} 4.0',
        'stepwell_concurrency_blocked_runs{function="orders",namespace="shop",scope="function"} 8.0',
        'stepwell_concurrency_oldest_blocked_age_seconds{function="orders",namespace="shop",scope="function"} 9.0',
        'stepwell_runner_slots{function="mail",namespace="shop",state="used"} 6.0',
        'stepwell_runner_slots{function="orders",namespace="shop",state="free"} 4.0',
        'stepwell_runner_slots{function="nightly",namespace="shop",state="free"} 2.0',
        'stepwell_timers_overdue{namespace="shop"} 1.0',
        'stepwell_cron_next_timestamp_seconds{function="nightly",namespace="shop"} 7.0',
        'stepwell_store_oldest_xmin_age_seconds{namespace="shop"} 2.0',
        'stepwell_store_dead_tuples{namespace="shop",table="queue"} 12.0',
    ):
        assert line in found.splitlines()


def test_limits_have_the_scope_of_their_rule() -> None:
    """Function, key and namespace are told apart; of two rules of one scope the fuller one is shown, what they block is added."""
    key, whole = Concurrency(limit=2, key="event.data.user"), Concurrency(limit=10)
    shared = Concurrency(limit=3, key="'mail'", scope="namespace")
    assert by_scope([key, whole], [LimitStats(1, 2, 7, 9), LimitStats(2, 4, 0, 0)]) == {
        "key": (2, LimitStats(1, 2, 7, 9)),
        "function": (10, LimitStats(2, 4, 0, 0)),
    }
    assert by_scope([shared], []) == {"namespace": (3, LimitStats(1, 0, 0, 0))}
    other = Concurrency(limit=10, key="event.data.shop")
    assert by_scope([other, key], [LimitStats(1, 4, 1, 5), LimitStats(2, 1, 2, 3)]) == {"key": (2, LimitStats(2, 1, 3, 5))}
    assert by_scope([], [LimitStats(1, 4, 1, 5)]) == {}


def test_slots_are_shared_within_a_pool_and_never_negative() -> None:
    """Runs of any of a pool's functions use its slots; more runs than slots leave none free."""
    busy = {"a": FunctionStats("a", running=7)}
    rows = [RunnerRow("1", ("p",), ("a", "b"), 5, 9, draining=False), RunnerRow("2", ("q",), ("b",), 3, 9, draining=False)]
    assert slots_of(rows, busy) == {"a": (5, 0), "b": (5, 3)}
    assert slots_of([], busy) == {}


async def test_one_gateway_of_a_well_shows_its_figures() -> None:
    """Of all gateways that are scraped the oldest shows what the store knows; when its lease is over the next one does."""
    up = [0]
    clock = SystemClock(lambda: up[0] * 1000, lambda: 1_700_000_000_000_000)
    ours, theirs, told = Metrics("gateway"), Metrics("gateway"), Told(STATS)
    leases: dict[str, RunnerRow] = {}
    for metrics in (ours, theirs):
        up[0] += 5_000_000
        await metrics.look(told.store, clock)
        assert told.enrolled is not None
        assert (told.enrolled.pools, told.enrolled.functions, told.enrolled.slots) == ((GATEWAYS,), (), 0)
        leases[told.enrolled.runner_id] = told.enrolled
    for expired in (0, 1):
        live = sorted(leases)[expired:]
        shown = tuple(RunnerRow(one, (GATEWAYS,), (), 0, 2000, draining=False) for one in live)
        for metrics in (ours, theirs):
            metrics.figures.show(Stats(1000, STATS.functions, (*RUNNERS, *shown), ()))
        assert [bool(lines(one, "stepwell_runs{")) for one in (ours, theirs)] == [not expired, bool(expired)]


async def test_a_gateway_that_ends_makes_room() -> None:
    """A gateway that is stopped gives its lease up, so that the next scrape of another one shows the figures."""
    clock, told, metrics = SystemClock(lambda: 0, lambda: 0), Told(STATS), Metrics("gateway")
    await metrics.figures.resign(told.store)
    await metrics.look(told.store, clock)
    assert told.enrolled is not None
    await metrics.figures.resign(told.store)
    assert told.enrolled is None


async def test_what_the_doctor_finds_is_counted_by_the_gateway_that_shows() -> None:
    """Violations are counted by invariant, whatever the query's name; a gateway that shows no figures doesn't even look."""
    told, metrics = Told(STATS), Metrics("gateway")
    well = Well(told.store, ManualClock(), metrics)
    await examine(well)
    assert not any(lines(metrics, "stepwell_invariant_violations_total").values())
    metrics.figures.show(STATS)
    await examine(well)
    found = {one: value for one, value in lines(metrics, "stepwell_invariant_violations_total").items() if value}
    assert found == {
        'stepwell_invariant_violations_total{invariant="I9",namespace="default"}': 2,
        'stepwell_invariant_violations_total{invariant="I11",namespace="default"}': 1,
    }
    assert len(lines(metrics, "stepwell_invariant_violations_total")) == 20


async def test_a_look_is_kept_for_five_seconds() -> None:
    """Scrapes within five seconds ask the store once; the next one asks again; a manual clock is always asked."""
    up = [0]
    clock, told, metrics = SystemClock(lambda: up[0] * 1000, lambda: 0), Told(STATS), Metrics("gateway")
    for at, asked in ((0, 1), (4_999_999, 1), (5_000_000, 2), (5_000_001, 2)):
        up[0] = at
        await metrics.look(told.store, clock)
        assert told.asked == asked
    for _ in range(2):
        await metrics.look(told.store, ManualClock(up[0]))
    assert told.asked == 4


async def test_a_store_that_is_away_leaves_the_last_figures_for_a_minute() -> None:
    """A scrape during an outage succeeds with what was known last; after a minute it no longer claims to know."""
    up = [0]
    clock, told, metrics = SystemClock(lambda: up[0] * 1000, lambda: 0), Told(STATS), Metrics("gateway")
    await metrics.look(told.store, clock)
    for answer in (StoreUnavailable("away"), RuntimeError("odd")):
        told.answer = answer
        for at, shown in ((30_000_000, True), (60_000_000, True)):
            up[0] = at
            await metrics.look(told.store, clock)
            assert bool(lines(metrics, "stepwell_timers_overdue")) is shown
    up[0] = 60_000_001
    await metrics.look(told.store, clock)
    assert not lines(metrics, "stepwell_timers_overdue")
    assert lines(metrics, "stepwell_build_info")


async def test_a_store_that_does_not_answer_holds_up_no_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape goes on without the answer, later ones wait for the same question, and a late answer is shown."""
    monkeypatch.setattr(figures, "PATIENCE", 0.001)
    told, metrics, clock = Told(STATS), Metrics("gateway"), ManualClock()
    told.held = asyncio.Event()
    for _ in range(3):
        await metrics.look(told.store, clock)
        assert not lines(metrics, "stepwell_timers_overdue")
    assert told.asked == 1
    told.held.set()
    await metrics.look(told.store, clock)
    assert lines(metrics, "stepwell_timers_overdue")


async def test_verbs_of_the_store_are_timed_and_their_failures_classed() -> None:
    """Each verb has its time, each failure its class, whatever the verb; what isn't a verb is handed through."""
    told, metrics = Told(STATS), Metrics("gateway")
    store = timed(told.store, metrics)
    assert await store.stats() == STATS
    told.answer = StoreUnavailable("away")
    with pytest.raises(StoreUnavailable):
        await store.stats()
    assert lines(metrics, "stepwell_store_operation_seconds_count") == {
        'stepwell_store_operation_seconds_count{namespace="default",op="stats"}': 2
    }
    assert lines(metrics, "stepwell_store_errors_total") == {
        'stepwell_store_errors_total{class="unavailable",namespace="default",op="stats"}': 1
    }
    assert cast("Any", store).asked == 2


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        (TimeoutError(), "timeout"),
        (asyncpg.QueryCanceledError("too long"), "timeout"),
        (asyncpg.DeadlockDetectedError("deadlock"), "conflict"),
        (asyncpg.SerializationError("changed"), "conflict"),
        (asyncpg.DiskFullError("full"), "full"),
        (ConnectionRefusedError(), "unavailable"),
        (None, "unavailable"),
    ],
)
def test_failures_have_a_class(cause: Exception | None, kind: str) -> None:
    """What the driver said decides; an error of ours alone is `other`."""
    error = StoreUnavailable("away")
    error.__cause__ = cause
    assert failure_class(error) == kind
    assert failure_class(StoreError("odd")) == "other"


def test_the_hot_path_costs_next_to_nothing() -> None:
    """Counting a step takes well under a microsecond on an idle machine; the bar leaves room for a busy one."""
    one = Metrics("runner").of("orders")
    best = min(timeit.repeat(lambda: one.step_done(0.01, "ok"), number=2000, repeat=10)) / 2000
    assert best < 5e-6
