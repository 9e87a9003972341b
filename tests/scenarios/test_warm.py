"""Parked executions stay in memory within bounds, and none of them depends on it."""

import asyncio
from datetime import timedelta

import pytest

import stepwell
from stepwell import Context, Event
from stepwell.store.records import Pile
from stepwell.store.results import PileResult
from stepwell.testing import Durable
from stepwell.warm import Warm

ROOM = 3


@pytest.mark.parametrize("bounds", [{"most": ROOM}, {"most_bytes": ROOM * 101_000}], ids=["count", "memory"])
async def test_the_oldest_are_put_away(durable: Durable, bounds: dict[str, int]) -> None:
    """Past a count, or past the bytes of their results, the executions parked longest go; all of them end as they should."""
    entered: list[str] = []

    @stepwell.function(id="large", triggers=[stepwell.on_event("go")])
    async def large(ctx: Context) -> int:
        entered.append(ctx.run_id)
        fill = await ctx.step.run("fill", lambda: "x" * 100_000)
        await ctx.step.sleep("nap", "30s")
        return len(fill)

    await durable.serve(large)
    assert durable.worker is not None
    durable.worker.warm = Warm(**bounds)
    for number in range(5):
        await durable.send_event(Event(name="go", id=f"go-{number}"))
        await durable.advance(timedelta(milliseconds=1))
    runs = await durable.runs(large)
    assert [one.run_id for one in durable.worker.warm] == [run.run_id for run in runs[-ROOM:]]
    await durable.advance(timedelta(seconds=30))
    assert [await run.result() for run in runs] == [100_000] * 5
    assert len(entered) == 5 + (5 - ROOM)
    assert len(durable.worker.warm) == 0


async def test_one_that_is_too_large_alone_is_not_kept(durable: Durable) -> None:
    """An execution over the bound by itself is put away, and the bound is free for others again."""

    @stepwell.function(id="large", triggers=[stepwell.on_event("go")])
    async def large(ctx: Context) -> int:
        fill = await ctx.step.run("fill", lambda: "x" * ctx.event.data["size"])
        await ctx.step.sleep("nap", "30s")
        return len(fill)

    await durable.serve(large)
    assert durable.worker is not None
    durable.worker.warm = Warm(most_bytes=50_000)
    await durable.send_event(Event(name="go", data={"size": 100_000}))
    assert len(durable.worker.warm) == 0
    await durable.advance(timedelta(milliseconds=1))
    await durable.send_event(Event(name="go", data={"size": 10}))
    assert len(durable.worker.warm) == 1
    await durable.advance(timedelta(seconds=30))
    assert [await run.result() for run in await durable.runs(large)] == [100_000, 10]


async def test_a_branch_given_up_as_its_run_is_claimed_holds_up_nobody(durable: Durable) -> None:
    """Code may cancel a branch in the very turn of the loop in which its sleep is over: the others wake, and the runner goes on."""
    naps: list[asyncio.Future[None]] = []

    @stepwell.function(id="giver", triggers=[stepwell.on_event("go")])
    async def giver(ctx: Context) -> str:
        naps.append(asyncio.ensure_future(ctx.step.sleep("given-up", "10s")))
        await ctx.step.sleep("kept", "10s")
        await asyncio.wait(naps)
        return "given up" if naps[0].cancelled() else "slept"

    await durable.serve(giver)
    hooks = durable.well.hooks
    after = hooks.after

    def give_up(pile: Pile, result: PileResult) -> None:
        after(pile, result)
        if any(not one.fresh for one in result.claimed):
            naps[0].cancel()

    hooks.after = give_up
    await durable.send_event(Event(name="go"))
    await durable.advance(timedelta(seconds=10))
    (run,) = await durable.runs(giver)
    assert await run.result() == "given up"
