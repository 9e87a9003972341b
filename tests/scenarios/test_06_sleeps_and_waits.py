"""Row 6: sleeps, waits for events and signals."""

import asyncio
from datetime import timedelta
from typing import Any

from structlog.testing import capture_logs

import stepwell
from stepwell import Context, Event
from stepwell.engine.run import RunStatus
from stepwell.testing import Durable

GO = Event(name="go", data={"orderId": "7"}, id="go-1")
SAME = "event.data.orderId == async.data.orderId"


def paid(order: Any, **more: Any) -> Event[dict[str, Any]]:
    return Event(name="paid", data={"orderId": order, **more})


async def test_a_sleep_is_never_early(durable: Durable) -> None:
    """A sleeping run wakes at its instant, not before, and says meanwhile that it sleeps."""

    @stepwell.function(id="nap", triggers=[stepwell.on_event("go")])
    async def nap(ctx: Context) -> int:
        await ctx.step.sleep("nap", "5m")
        return durable.clock.now()

    began = durable.clock.now()
    run = await durable.send(nap, GO)
    assert await run.status() is RunStatus.SLEEPING
    await durable.advance(timedelta(minutes=4, seconds=59))
    assert await run.status() is RunStatus.SLEEPING
    await durable.advance(timedelta(seconds=1))
    assert await run.result() == began + 300_000_000


async def test_past_dates_do_not_sleep(durable: Durable) -> None:
    """`sleep_until` an instant that is past goes on at once."""

    @stepwell.function(id="past", triggers=[stepwell.on_event("go")])
    async def past(ctx: Context) -> str:
        await ctx.step.sleep_until("past", "2020-01-01T00:00:00Z")
        await ctx.step.sleep("none", 0)
        return "now"

    run = await durable.send(past, GO)
    assert await run.result() == "now"


async def test_366_days_are_the_most(durable: Durable) -> None:
    """A sleep of more than 366 days fails the run with the limit."""

    @stepwell.function(id="long", triggers=[stepwell.on_event("go")])
    async def long(ctx: Context) -> None:
        await ctx.step.sleep("long", timedelta(days=367))

    run = await durable.send(long, GO)
    assert "366 days" in (await run.error())["message"]


async def test_a_wait_takes_the_first_matching_event(durable: Durable) -> None:
    """The first event that matches ends the wait; others and earlier ones don't."""

    @stepwell.function(id="pay", triggers=[stepwell.on_event("go")])
    async def pay(ctx: Context) -> Any:
        event = await ctx.step.wait_for_event("paid", event="paid", if_=SAME, timeout="1d")
        return event.data if event else None

    await durable.send_event(paid("7", n=0))
    run = await durable.send(pay, GO)
    assert await run.status() is RunStatus.WAITING
    await durable.send_event(paid("8", n=1))
    assert await run.status() is RunStatus.WAITING
    await durable.send_event(paid("7", n=2), paid("7", n=3))
    assert await run.result() == {"orderId": "7", "n": 2}


async def test_a_residual_condition_is_checked(durable: Durable) -> None:
    """Beside the equality the rest of the expression has to hold too."""

    @stepwell.function(id="pay", triggers=[stepwell.on_event("go")])
    async def pay(ctx: Context) -> Any:
        event = await ctx.step.wait_for_event("paid", event="paid", if_=f"{SAME} && async.data.n > 5", timeout="1d")
        return event.data["n"] if event else None

    run = await durable.send(pay, GO)
    await durable.send_event(paid("7", n=5))
    assert await run.status() is RunStatus.WAITING
    await durable.send_event(paid("7", n=6))
    assert await run.result() == 6


async def test_an_error_in_a_waits_expression_is_no_match_and_counted(durable: Durable) -> None:
    """An expression that errs on an event ends no wait and cancels no run; it is logged with its run, and counted."""

    @stepwell.function(
        id="strict",
        triggers=[stepwell.on_event("go")],
        cancel_on=[stepwell.CancelOn("paid", if_="event.data.id == async.data.id && async.data.void")],
    )
    async def strict(ctx: Context) -> Any:
        condition = "event.data.id == async.data.id && async.data.total > 10"
        paid = await ctx.step.wait_for_event("paid", event="paid", if_=condition, timeout="1d")
        return paid.data if paid else None

    run = await durable.send(strict, Event(name="go", data={"id": 7}))
    with capture_logs() as lines:
        await durable.send_event(
            Event(name="paid", data={"id": 7}), Event(name="paid", data={"id": 7, "total": 11, "void": False})
        )
        await durable.settle()
    assert await run.result() == {"id": 7, "total": 11, "void": False}
    told = {(line["where"], line["run_id"]) for line in lines if "erred" in line["event"]}
    assert told == {("wait", run.run_id), ("cancel", run.run_id)}
    shown = durable.metrics.render()[0].decode()
    for kind in ("wait", "cancel"):
        assert f'stepwell_expression_errors_total{{function="strict",kind="{kind}",namespace="default"}} 1.0' in shown


async def test_a_time_out_gives_none(durable: Durable) -> None:
    """When the time-out comes first, the wait gives None, and a later event changes nothing."""

    @stepwell.function(id="pay", triggers=[stepwell.on_event("go")])
    async def pay(ctx: Context) -> Any:
        event = await ctx.step.wait_for_event("paid", event="paid", if_=SAME, timeout="1d")
        await ctx.step.sleep("then", "1h")
        return event is None

    run = await durable.send(pay, GO)
    await durable.advance(timedelta(days=1))
    await durable.send_event(paid("7"))
    await durable.advance(timedelta(hours=1))
    assert await run.result() is True


async def test_an_event_cannot_end_the_wait_it_started(durable: Durable) -> None:
    """A run that waits for the event that started it waits for the next one."""

    @stepwell.function(id="again", triggers=[stepwell.on_event("paid")])
    async def again(ctx: Context) -> Any:
        event = await ctx.step.wait_for_event("next", event="paid", timeout="1h")
        return event.data["n"] if event else None

    run = await durable.send(again, Event(name="paid", data={"n": 1}))
    assert await run.status() is RunStatus.WAITING
    await durable.send_event(Event(name="paid", data={"n": 2}))
    assert await run.result() == 2


async def test_several_waits_in_parallel(durable: Durable) -> None:
    """Parallel waits are each ended by their own event, time-out or instant."""

    @stepwell.function(id="many", triggers=[stepwell.on_event("go")])
    async def many(ctx: Context) -> list[Any]:
        one, two, three, _ = await asyncio.gather(
            ctx.step.wait_for_event("a", event="a", timeout="1h"),
            ctx.step.wait_for_event("b", event="b", timeout="30m"),
            ctx.step.wait_for_signal("c", signal="c", timeout="1h"),
            ctx.step.sleep("d", "10m"),
        )
        return [one is not None, two is not None, three]

    run = await durable.send(many, GO)
    await durable.send_event(Event(name="a"))
    await durable.advance(timedelta(minutes=20))
    assert await run.status() is RunStatus.WAITING
    await durable.advance(timedelta(minutes=40))
    assert await run.result() == [True, False, None]


async def test_an_event_races_the_time_out(durable: Durable) -> None:
    """An event and a time-out at the same instant: exactly one wins, and the code sees what is recorded."""

    @stepwell.function(id="race", triggers=[stepwell.on_event("go")])
    async def race(ctx: Context) -> bool:
        event = await ctx.step.wait_for_event("paid", event="paid", timeout="1h")
        return event is not None

    runs = [await durable.send(race, Event(name="go", data={}, id=f"go-{place}")) for place in range(5)]
    await durable.advance(timedelta(minutes=59, seconds=59))
    await asyncio.gather(durable.send_event(paid("7")), durable.advance(timedelta(seconds=1)))
    for run in runs:
        recorded = [one.step.value != b"null" for one in await durable.store.steps(run.run_id)]
        assert [await run.result()] == recorded


async def test_a_signal_finds_its_wait(durable: Durable) -> None:
    """A signal goes to the one run that waits for its name; without a wait the sender learns so."""

    @stepwell.function(id="hear", triggers=[stepwell.on_event("go")])
    async def hear(ctx: Context) -> Any:
        return await ctx.step.wait_for_signal("hear", signal="order-7", timeout="1h")

    @stepwell.function(id="tell", triggers=[stepwell.on_event("tell")])
    async def tell(ctx: Context) -> bool:
        return await ctx.step.send_signal("tell", signal="order-7", data={"ok": True})

    hearing = await durable.send(hear, GO)
    telling = await durable.send(tell, Event(name="tell"))
    assert await telling.result() is True
    assert await hearing.result() == {"ok": True}
    again = await durable.send(tell, Event(name="tell"))
    assert await again.result() is False


async def test_a_signal_has_one_listener(durable: Durable) -> None:
    """A second run that waits for the same signal gets an error that it can catch."""

    @stepwell.function(id="hear", triggers=[stepwell.on_event("go")])
    async def hear(ctx: Context) -> Any:
        try:
            return await ctx.step.wait_for_signal("hear", signal="order-7", timeout="1h")
        except stepwell.StepError as error:
            return error.name

    await durable.send(hear, GO)
    second = await durable.send(hear, Event(name="go", data={}, id="go-2"))
    assert await second.result() == "SignalTaken"


async def test_waits_survive_a_crash(durable: Durable) -> None:
    """A wait is in the store: with every runner dead the event is taken, and the run goes on when one is back."""

    @stepwell.function(id="pay", triggers=[stepwell.on_event("go")])
    async def pay(ctx: Context) -> Any:
        event = await ctx.step.wait_for_event("paid", event="paid", if_=SAME, timeout="1d")
        return event.data["n"] if event else None

    run = await durable.send(pay, GO)
    await durable.crash()
    await durable.send_event(paid("7", n=4))
    assert await run.result() == 4
