"""Row 18: checkpointing: every step committed before the next, or some buffered."""

import asyncio
from datetime import timedelta

import stepwell
from stepwell import Checkpointing, Context, Event
from stepwell.testing import Durable

GO = Event(name="go", data={}, id="go-1")


async def test_by_default_a_body_begins_after_the_commit_before(durable: Durable) -> None:
    """Without checkpointing every step is durable before the next body begins."""
    known: list[list[str]] = []

    @stepwell.function(id="strict", triggers=[stepwell.on_event("go")])
    async def strict(ctx: Context) -> None:
        async def look() -> None:
            known.append([one.step.step_id for one in await durable.store.steps(ctx.run_id)])

        for name in ("a", "b", "c"):
            await ctx.step.run(name, look)

    run = await durable.send(strict, GO)
    assert known == [[], ["a"], ["a", "b"]]
    assert run.steps == ["a", "b", "c"]


async def test_buffered_steps_share_a_commit(durable: Durable) -> None:
    """With `buffered_steps=5`, twenty quick steps take a fraction of the commits, and all are recorded."""
    counts: dict[str, int] = {}

    async def one() -> int:
        return 1

    for name, rule in (("strict", Checkpointing()), ("buffered", Checkpointing(buffered_steps=5))):

        @stepwell.function(id=name, triggers=[stepwell.on_event(name)], checkpointing=rule)
        async def steps(ctx: Context) -> int:
            return sum([await ctx.step.run("one", one) for _ in range(20)])

        await durable.serve(steps)
        before = durable.store.commits
        run = await durable.send(steps, Event(name=name))
        counts[name] = durable.store.commits - before
        assert await run.result() == 20
        assert len(run.steps) == 20
    assert counts["strict"] >= 20
    assert counts["buffered"] <= 8


async def test_a_crash_repeats_what_was_buffered(durable: Durable) -> None:
    """With a buffer a crash runs the buffered steps again; the outcome is the same."""

    @stepwell.function(id="buffered", triggers=[stepwell.on_event("go")], checkpointing=Checkpointing(buffered_steps=3))
    async def buffered(ctx: Context) -> list[int]:
        async def step(number: int) -> int:
            await asyncio.sleep(0)
            return number

        return [await ctx.step.run("one", step, number) for number in range(7)]

    assert await durable.crash_everywhere(buffered, GO) >= 6


async def test_no_result_waits_longer_than_the_interval(durable: Durable) -> None:
    """With `max_interval` a buffered result is written that long after the last commit, even while the next body still runs."""
    gate = asyncio.Event()
    rule = Checkpointing(buffered_steps=100, max_interval="1s")

    @stepwell.function(id="slow", triggers=[stepwell.on_event("go")], checkpointing=rule)
    async def slow(ctx: Context) -> None:
        await ctx.step.run("quick", asyncio.sleep, 0)
        await ctx.step.run("long", gate.wait)

    run = await durable.send(slow, GO)
    assert await run.recorded() == []
    await durable.advance(timedelta(seconds=1))
    assert await run.recorded() == ["quick"]
    gate.set()
    await durable.settle()
    assert await run.recorded() == ["quick", "long"]


async def test_after_the_runtime_every_step_is_committed(durable: Durable) -> None:
    """After `max_runtime` in one execution every step is durable before the next body begins, as by default."""
    known: list[list[str]] = []

    @stepwell.function(
        id="long", triggers=[stepwell.on_event("go")], checkpointing=Checkpointing(buffered_steps=100, max_runtime="30s")
    )
    async def long(ctx: Context) -> None:
        async def look() -> None:
            known.append(await run.recorded() if run else [])

        for _ in range(2):
            await ctx.step.run("early", look)
        await gate.wait()
        for _ in range(2):
            await ctx.step.run("late", look)

    run, gate = None, asyncio.Event()
    run = await durable.send(long, GO)
    await durable.advance(timedelta(seconds=31))
    gate.set()
    await durable.settle()
    assert await run.recorded() == ["early", "early", "late", "late"]
    assert known[1] == []
    assert known[2:] == [["early", "early"], ["early", "early", "late"]]
