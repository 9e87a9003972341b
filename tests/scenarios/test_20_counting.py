"""Row 20: what the engine does is counted once, where it is certain, by function and reason."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

import stepwell
from stepwell import Backoff, Context, Event, RetryAfterError
from stepwell.decorator import Function
from stepwell.engine.run import RunStatus
from stepwell.store.registry import PauseRow
from stepwell.store.results import Overdue, PileResult
from stepwell.testing import Durable
from stepwell.worker import WorkerOptions

OWN = 'namespace="default"'


def figures(durable: Durable, name: str) -> dict[str, float]:
    """A metric's samples by what stands between the brackets, without those at zero."""
    found: dict[str, float] = {}
    for line in durable.metrics.render()[0].decode().splitlines():
        if line.startswith(f"stepwell_{name}{{"):
            labels, _, value = line.partition("{")[2].rpartition("} ")
            if float(value):
                found[labels.replace(',namespace="default"', "").replace('namespace="default",', "")] = float(value)
    return found


async def test_attempts_retries_and_what_they_cost(durable: Durable) -> None:
    """Each attempt is counted by its outcome, each retry by its reason, with the time until the next and the time that was lost."""
    errors: list[Exception] = [ValueError("bad"), TimeoutError(), RetryAfterError("later", after="30s")]

    async def call() -> str:
        if errors:
            raise errors.pop(0)
        return "ok"

    @stepwell.function(id="f", triggers=[stepwell.on_event("go")], backoff=Backoff(strategy="fixed", base="10s", jitter=0))
    async def f(ctx: Context) -> str:
        return await ctx.step.run("call", call)

    run = await durable.send(f, Event(name="go"))
    await durable.advance(timedelta(minutes=2))
    assert await run.result() == "ok"
    assert figures(durable, "step_attempts_total") == {
        'function="f",outcome="ok"': 1,
        'function="f",outcome="error"': 2,
        'function="f",outcome="timeout"': 1,
    }
    assert figures(durable, "step_retries_total") == {
        'function="f",reason="error"': 1,
        'function="f",reason="timeout"': 1,
        'function="f",reason="retry_after"': 1,
    }
    assert figures(durable, "step_retry_wait_seconds_sum") == {'function="f"': pytest.approx(50, abs=1)}
    assert figures(durable, "step_duration_seconds_count") == {'function="f"': 4}


async def test_code_between_steps_has_attempts_too(durable: Durable) -> None:
    """A failure of the code between steps is an attempt and a retry, without a time of its own."""
    failures = [ValueError("first")]

    @stepwell.function(id="f", triggers=[stepwell.on_event("go")])
    async def f(ctx: Context) -> str:
        del ctx
        if failures:
            raise failures.pop()
        return "ok"

    run = await durable.send(f, Event(name="go"))
    await durable.advance(timedelta(minutes=10))
    assert await run.result() == "ok"
    assert figures(durable, "step_attempts_total") == {'function="f",outcome="error"': 1}
    assert figures(durable, "step_retries_total") == {'function="f",reason="error"': 1}
    assert figures(durable, "step_duration_seconds_count") == {}


async def test_an_attempt_that_a_cancel_cuts_off(durable: Durable) -> None:
    """A body that runs while its run is cancelled is an attempt that was cancelled, and no retry."""
    hold = asyncio.Event()

    @stepwell.function(id="f", triggers=[stepwell.on_event("go")], cancel_on=[stepwell.CancelOn("stop")])
    async def f(ctx: Context) -> Any:
        return await ctx.step.run("hold", hold.wait)

    run = await durable.send(f, Event(name="go"))
    await durable.send_event(Event(name="stop"))
    await durable.advance(timedelta(seconds=5))
    assert await run.status() is RunStatus.CANCELLED
    assert figures(durable, "step_attempts_total") == {'function="f",outcome="cancelled"': 1}
    assert figures(durable, "step_retries_total") == {}
    assert figures(durable, "runs_finished_total") == {'function="f",status="cancelled"': 1}
    assert figures(durable, "run_duration_seconds_count") == {'function="f",status="cancelled"': 1}


@pytest.mark.parametrize("cold", [False, True])
async def test_waits_are_counted_once_warm_or_cold(durable: Durable, cold: bool) -> None:
    """A wait that an event ends is counted once, whether its execution was in memory or is replayed; a time-out likewise."""

    @stepwell.function(id="f", triggers=[stepwell.on_event("go")])
    async def f(ctx: Context) -> bool:
        heard = await ctx.step.wait_for_event("hear", event="word", timeout="1h")
        await ctx.step.sleep("nap", "1m")
        other = await ctx.step.wait_for_event("other", event="never", timeout="1h")
        return heard is not None and other is None

    run = await durable.send(f, Event(name="go"))
    if cold:
        await durable.crash()
        await durable.serve(f)
    await durable.send_event(Event(name="word"))
    await durable.advance(timedelta(minutes=2))
    if cold:
        await durable.crash()
        await durable.serve(f)
    await durable.advance(timedelta(hours=2))
    assert await run.result() is True
    assert figures(durable, "waits_resolved_total") == {'function="f",outcome="event"': 1, 'function="f",outcome="timeout"': 1}


async def test_expressions_are_timed_by_kind(durable: Durable) -> None:
    """A filter, a key and a wait's condition that were asked have their time, under their kind; no filter, no time."""

    @stepwell.function(id="plain", triggers=[stepwell.on_event("go")])
    async def plain(ctx: Context) -> None:
        del ctx

    @stepwell.function(id="f", triggers=[stepwell.on_event("go", if_="event.data.n > 1")], idempotency="event.data.n")
    async def f(ctx: Context) -> None:
        await ctx.step.wait_for_event("word", event="word", if_="async.data.n > 2", timeout="1h")

    await durable.serve(plain, f)
    for number in (1, 2, 2):
        await durable.send_event(Event(name="go", data={"n": number}))
    await durable.send_event(Event(name="word", data={"n": 1}))
    assert figures(durable, "expression_seconds_count") == {'kind="trigger"': 3, 'kind="key"': 2, 'kind="wait"': 1}
    assert figures(durable, "flow_control_total") == {'decision="skipped",function="f"': 1}


async def test_ticks_and_their_lag(durable: Durable) -> None:
    """A tick that fired is counted with how late it was; the next one's instant is told."""

    @stepwell.function(id="f", triggers=[stepwell.on_cron("@hourly")])
    async def f(ctx: Context) -> None:
        del ctx

    await durable.serve(f)
    await durable.advance(timedelta(hours=2))
    assert figures(durable, "cron_ticks_total") == {'function="f",outcome="fired"': 2}
    assert figures(durable, "cron_lag_seconds_count") == {'function="f"': 2}
    assert figures(durable, "runs_created_total") == {'function="f",trigger="cron"': 2}


@pytest.mark.parametrize("slots", [1, 5])
async def test_a_timer_that_a_limit_holds_back_is_not_late(durable: Durable, slots: int) -> None:
    """What sleeps under a full limit, be the runner full too or not, is no late timer; one that nobody looks after in time is."""
    gate = asyncio.Event()

    @stepwell.function(id="f", triggers=[stepwell.on_event("go")], concurrency=1)
    async def f(ctx: Context) -> None:
        if ctx.event.data["how"] == "hold":
            await ctx.step.run("hold", gate.wait)
        else:
            await ctx.step.sleep("nap", ctx.event.data["how"])

    durable.options = WorkerOptions(slots=slots)
    held = [await durable.send(f, Event(name="go", data={"how": how})) for how in ("1h", "2h")]
    await durable.send(f, Event(name="go", data={"how": "hold"}))
    await durable.advance(timedelta(hours=3))
    assert [await run.status() for run in held] == [RunStatus.QUEUED] * 2
    gate.set()
    await durable.settle()
    assert [await run.status() for run in held] == [RunStatus.COMPLETED] * 2
    assert figures(durable, "timer_lateness_seconds_count") == {}
    await durable.send(f, Event(name="go", data={"how": "1h"}))
    await durable.advance(timedelta(hours=1))
    assert figures(durable, "timer_lateness_seconds_count") == {OWN: 1}
    assert figures(durable, "timer_lateness_seconds_sum") == {}
    await durable.send(f, Event(name="go", data={"how": "1h"}))
    await durable.clock.advance_to(durable.clock.now() + 3_607_000_000)
    await durable.settle()
    assert figures(durable, "timer_lateness_seconds_sum") == {OWN: 7}


@pytest.fixture
def gated() -> tuple[asyncio.Event, Function[Any, Any]]:
    """A function of which one run executes at a time, and what lets its runs end; one with a `nap` sleeps first."""
    gate = asyncio.Event()

    @stepwell.function(id="f", triggers=[stepwell.on_event("go")], concurrency=1)
    async def f(ctx: Context) -> None:
        if "nap" in ctx.event.data:
            await ctx.step.sleep("nap", ctx.event.data["nap"])
        await ctx.step.run("hold", gate.wait)

    return gate, f


async def test_a_full_limit_is_no_wait_for_a_runner(durable: Durable, gated: tuple[asyncio.Event, Function[Any, Any]]) -> None:
    """Runs that a full limit holds back, be they new or have they slept, waited for no runner once they are claimed."""
    gate, f = gated
    runs = [await durable.send(f, Event(name="go", data=data)) for data in ({"nap": "1h"}, {}, {}, {})]
    await durable.advance(timedelta(hours=3))
    assert figures(durable, "run_queue_wait_seconds_count") == {'function="f"': 2}
    gate.set()
    await durable.settle()
    assert [await run.status() for run in runs] == [RunStatus.COMPLETED] * 4
    assert figures(durable, "run_queue_wait_seconds_count") == {'function="f"': 5}
    assert figures(durable, "run_queue_wait_seconds_sum") == {}


async def test_a_pause_is_no_wait_for_a_runner(durable: Durable, gated: tuple[asyncio.Event, Function[Any, Any]]) -> None:
    """Runs that a pause holds back, be they new or have they slept, waited for no runner once the function is resumed."""
    gate, f = gated
    gate.set()
    slept = await durable.send(f, Event(name="go", data={"nap": "5m"}))
    await durable.well.pause(PauseRow("f", durable.clock.now(), "ada"))
    runs = [slept, *[await durable.send(f, Event(name="go", data={})) for _ in range(3)]]
    await durable.advance(timedelta(minutes=10))
    assert figures(durable, "run_queue_wait_seconds_count") == {'function="f"': 1}
    await durable.well.resume("f")
    await durable.settle()
    assert [await run.status() for run in runs] == [RunStatus.COMPLETED] * 4
    assert figures(durable, "run_queue_wait_seconds_count") == {'function="f"': 5}
    assert figures(durable, "run_queue_wait_seconds_sum") == {}


async def test_a_run_that_no_runner_takes_waits(durable: Durable, gated: tuple[asyncio.Event, Function[Any, Any]]) -> None:
    """A run that nothing but the lack of a runner held back has waited since it was due."""
    gate, f = gated
    gate.set()
    run = await durable.send(f, Event(name="go", data={"nap": "1h"}))
    await durable.stop()
    await durable.clock.advance_to(durable.clock.now() + 3_607_000_000)
    await durable.advance(timedelta())
    assert await run.status() is RunStatus.COMPLETED
    assert figures(durable, "run_queue_wait_seconds_sum") == {'function="f"': 7}


async def test_a_parked_run_is_counted_once_however_many_sweeps_find_it(durable: Durable) -> None:
    """Every process's sweep finds a run that kills its runner until it is ended: the one whose commit ends it counts it."""

    @stepwell.function(id="f", triggers=[stepwell.on_event("go")])
    async def f(ctx: Context) -> None:
        await ctx.step.sleep("nap", "1h")

    run = await durable.send(f, Event(name="go"))
    found = PileResult(durable.clock.now(), overdue=(Overdue(run.run_id, "f", "poison"),))
    durable.well.look_after(found)
    assert figures(durable, "runs_parked_total") == {}, "nothing is written yet"
    durable.well.look_after(found)
    await durable.advance(timedelta(seconds=1))
    assert await run.status() is RunStatus.FAILED
    durable.well.look_after(found)
    await durable.advance(timedelta(seconds=1))
    assert figures(durable, "runs_parked_total") == {'function="f"': 1}
    assert figures(durable, "runs_finished_total") == {'function="f",status="failed"': 1}
