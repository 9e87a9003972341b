"""Row 12: the time-outs `start` and `finish`."""

import asyncio
from datetime import timedelta

import stepwell
from stepwell import Backoff, Context, Event, Timeouts
from stepwell.engine.run import RunStatus
from stepwell.testing import Durable

GO = Event(name="go", data={}, id="go-1")
HOUR = timedelta(hours=1)


async def test_start_while_queued(durable: Durable) -> None:
    """A run that nobody could begin in time is cancelled; one that began is not."""

    @stepwell.function(id="one", triggers=[stepwell.on_event("go")], concurrency=1, timeouts=Timeouts(start="1h"))
    async def one(ctx: Context) -> None:
        await asyncio.Event().wait()

    first = await durable.send(one, GO)
    second = await durable.send(one, Event(name="go", id="go-2"))
    await durable.advance(HOUR + timedelta(seconds=5))
    assert await first.status() is RunStatus.RUNNING
    assert await second.status() is RunStatus.CANCELLED
    assert (await second.error())["name"] == "StartTimeout"


async def test_finish_while_sleeping(durable: Durable) -> None:
    """A sleeping run is cancelled when its time to finish is over."""

    @stepwell.function(id="nap", triggers=[stepwell.on_event("go")], timeouts=Timeouts(finish="1h"))
    async def nap(ctx: Context) -> None:
        await ctx.step.sleep("nap", "2h")

    run = await durable.send(nap, GO)
    await durable.advance(HOUR + timedelta(seconds=5))
    assert await run.status() is RunStatus.CANCELLED
    assert (await run.error())["name"] == "FinishTimeout"


async def test_finish_while_retrying(durable: Durable) -> None:
    """A run that waits for a retry is cancelled when its time to finish is over."""

    @stepwell.function(
        id="retry",
        triggers=[stepwell.on_event("go")],
        timeouts=Timeouts(finish="1h"),
        backoff=Backoff(strategy="fixed", base="2h", jitter="0s"),
    )
    async def retry(ctx: Context) -> None:
        raise RuntimeError("no")

    run = await durable.send(retry, GO)
    await durable.advance(HOUR + timedelta(seconds=5))
    assert await run.status() is RunStatus.CANCELLED


async def test_finish_while_executing(durable: Durable) -> None:
    """A run whose step hangs is cancelled when its time to finish is over, and its code is stopped."""
    stopped: list[str] = []

    @stepwell.function(id="hang", triggers=[stepwell.on_event("go")], timeouts=Timeouts(finish="1h"))
    async def hang(ctx: Context) -> None:
        async def body() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                stopped.append("stopped")

        await ctx.step.run("hang", body)

    run = await durable.send(hang, GO)
    await durable.advance(HOUR + timedelta(seconds=5))
    assert await run.status() is RunStatus.CANCELLED
    assert stopped == ["stopped"]


async def test_finish_while_queued(durable: Durable) -> None:
    """A run that is due again, and held back by a limit, is cancelled when its time to finish is over."""

    @stepwell.function(id="one", triggers=[stepwell.on_event("go")], concurrency=1, timeouts=Timeouts(finish="1h"))
    async def one(ctx: Context) -> None:
        await ctx.step.sleep("nap", "1m")
        await asyncio.Event().wait()

    first = await durable.send(one, GO)
    second = await durable.send(one, Event(name="go", id="go-2"))
    third_start = Event(name="go", id="go-3")
    await durable.advance(timedelta(minutes=2))
    assert await first.status() is RunStatus.RUNNING
    assert (await second.row()).blocked_on == "one"
    await durable.advance(timedelta(minutes=50))
    third = await durable.send(one, third_start)
    await durable.advance(timedelta(minutes=9))
    assert {await first.status(), await second.status()} == {RunStatus.CANCELLED}
    assert (await second.error())["name"] == "FinishTimeout"
    assert await third.status() is not RunStatus.CANCELLED


async def test_start_of_a_run_that_is_meant_for_later(durable: Durable) -> None:
    """The time to start counts from the instant that a delayed run is meant for; a retry of the first try has started."""

    @stepwell.function(id="later", triggers=[stepwell.on_event("go")], timeouts=Timeouts(start="1m"))
    async def later(ctx: Context) -> int:
        if ctx.attempt == 0:
            raise RuntimeError("once")
        return ctx.attempt

    run = await durable.send(later, Event(name="go", ts=durable.clock.now() // 1000 + 3_600_000))
    await durable.advance(HOUR + timedelta(minutes=2))
    assert await run.result() == 1
