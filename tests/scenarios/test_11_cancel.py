"""Row 11: cancellation by event, API and time-out of the listener."""

import asyncio
from datetime import timedelta

import pytest

import stepwell
from stepwell import CancelOn, Context, Event
from stepwell.engine import bulk
from stepwell.engine.run import RunStatus
from stepwell.store.views import RunFilter, RunRow
from stepwell.testing import Durable

GO = Event(name="go", data={"orderId": "7"}, id="go-1")


@stepwell.function(
    id="order",
    triggers=[stepwell.on_event("go")],
    cancel_on=[CancelOn("stop", if_="event.data.orderId == async.data.orderId", timeout="1d")],
)
async def order(ctx: Context) -> str:
    await ctx.step.sleep("nap", "7d")
    return "done"


def stop(order_id: str) -> Event:
    return Event(name="stop", data={"orderId": order_id})


async def test_an_event_cancels_its_run(durable: Durable) -> None:
    """An event that matches the listener cancels the run; one for another order, or an earlier one, doesn't."""
    await durable.serve(order)
    await durable.send_event(stop("7"))
    run = await durable.send(order, GO)
    await durable.send_event(stop("8"))
    assert await run.status() is RunStatus.SLEEPING
    [receipt] = await durable.send_event(stop("7"))
    assert await run.status() is RunStatus.CANCELLED
    assert receipt.id in (await run.error())["message"]
    await durable.advance(timedelta(days=8))
    assert await run.recorded() == []


async def test_a_listener_has_a_time_out(durable: Durable) -> None:
    """After its time-out the listener hears nothing; the run goes on to its end."""
    run = await durable.send(order, GO)
    await durable.advance(timedelta(days=1, seconds=1))
    await durable.send_event(stop("7"))
    await durable.advance(timedelta(days=6))
    assert await run.result() == "done"


async def test_a_listeners_time_out_is_by_the_stores_clock(durable: Durable) -> None:
    """What an event says of its own time (`ts`) neither prolongs a listener nor ends it early."""
    run = await durable.send(order, GO)
    late = Event(name="stop", data={"orderId": "7"}, ts=durable.clock.now() // 1000)
    await durable.advance(timedelta(days=1, seconds=1))
    await durable.send_event(late)
    assert await run.status() is RunStatus.SLEEPING
    other = await durable.send(order, Event(name="go", data={"orderId": "9"}))
    ahead = (durable.clock.now() + 2 * 86_400_000_000) // 1000
    await durable.send_event(Event(name="stop", data={"orderId": "9"}, ts=ahead))
    assert await other.status() is RunStatus.CANCELLED


async def test_a_residual_condition_over_both_events(durable: Durable) -> None:
    """`if` may use `event` and `async` beside the equality."""

    @stepwell.function(
        id="limit",
        triggers=[stepwell.on_event("go")],
        cancel_on=[CancelOn("stop", if_="event.data.orderId == async.data.orderId && async.data.level > event.data.level")],
    )
    async def limit(ctx: Context) -> None:
        await ctx.step.sleep("nap", "7d")

    run = await durable.send(limit, Event(name="go", data={"orderId": "7", "level": 3}))
    await durable.send_event(Event(name="stop", data={"orderId": "7", "level": 3}))
    assert await run.status() is RunStatus.SLEEPING
    await durable.send_event(Event(name="stop", data={"orderId": "7", "level": 4}))
    assert await run.status() is RunStatus.CANCELLED


async def test_cancel_by_hand(durable: Durable) -> None:
    """A cancelled run keeps its status; cancelling an ended run changes nothing."""
    run = await durable.send(order, GO)
    assert await durable.well.cancel(run.run_id, "a test") is RunStatus.CANCELLED
    await durable.settle()
    assert await durable.well.cancel(run.run_id, "a test") is RunStatus.CANCELLED
    assert "a test" in (await run.error())["message"]


async def test_cancel_while_a_step_runs(durable: Durable) -> None:
    """A running step's code is stopped, and nothing of it is recorded."""
    stopped: list[str] = []

    @stepwell.function(id="busy", triggers=[stepwell.on_event("go")])
    async def busy(ctx: Context) -> None:
        async def hang() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                stopped.append("stopped")

        await ctx.step.run("hang", hang)

    run = await durable.send(busy, GO)
    assert await run.status() is RunStatus.RUNNING
    await durable.well.cancel(run.run_id, "a test")
    await durable.settle()
    assert stopped == ["stopped"]
    assert await run.status() is RunStatus.CANCELLED
    assert await run.recorded() == []


async def test_cancelling_many_misses_none_that_moves(durable: Durable, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that goes from one status to another between two looks is cancelled like the others."""
    await durable.serve(order)
    await durable.send_event(GO, Event(name="go", data={"orderId": "8"}))
    listed = durable.store.inner.runs
    hidden = [(await durable.runs(order))[0].run_id]

    async def runs(which: RunFilter) -> list[RunRow]:
        rows = await listed(which)
        if which.status is RunStatus.SLEEPING and hidden:
            moved = hidden.pop()
            return [row for row in rows if row.run_id != moved]
        return rows

    monkeypatch.setattr(durable.store.inner, "runs", runs)
    assert await bulk.cancel(durable.well, bulk.Selection(RunFilter("order"), bulk.LIVE), "a test") == 2
    assert {await run.status() for run in await durable.runs(order)} == {RunStatus.CANCELLED}
