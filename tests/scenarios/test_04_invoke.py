"""Row 4: `step.invoke`."""

import asyncio
from datetime import timedelta
from typing import Any

import stepwell
from stepwell import Backoff, Context, Event, StepError, Timeouts
from stepwell.engine.run import RunStatus
from stepwell.testing import Durable

GO = Event(name="go", data={}, id="go-1")


@stepwell.function(id="double", triggers=[])
async def double(ctx: Context) -> int:
    return await ctx.step.run("double", lambda: ctx.event.data["n"] * 2)


async def test_invoke_by_function_and_by_id(durable: Durable) -> None:
    """A function is invoked by itself or by its id, and gives its result back."""

    @stepwell.function(id="parent", triggers=[stepwell.on_event("go")])
    async def parent(ctx: Context) -> list[int]:
        one = await ctx.step.invoke("one", double, {"n": 1})
        two = await ctx.step.invoke("two", "double", data={"n": 2})
        return [one, two]

    await durable.serve(double)
    run = await durable.send(parent, GO)
    assert await run.result() == [2, 4]
    assert len(await durable.runs(double)) == 2


async def test_many_children_at_once(durable: Durable) -> None:
    """A parent awaits children that run side by side."""

    @stepwell.function(id="parent", triggers=[stepwell.on_event("go")])
    async def parent(ctx: Context) -> int:
        return sum(await asyncio.gather(*(ctx.step.invoke(f"child-{n}", double, {"n": n}) for n in range(20))))

    await durable.serve(double)
    run = await durable.send(parent, GO)
    assert await run.result() == 380


async def test_a_failed_child_is_a_step_error(durable: Durable) -> None:
    """A child that fails for good raises StepError in its parent, with the child's error as the cause."""

    @stepwell.function(id="child", retries=0)
    async def child(ctx: Context) -> None:
        raise ValueError("broken child")

    @stepwell.function(id="parent", triggers=[stepwell.on_event("go")])
    async def parent(ctx: Context) -> list[Any]:
        try:
            await ctx.step.invoke("child", child)
        except StepError as error:
            return [
                error.step_id,
                error.name,
                error.cause.name if error.cause else None,
                error.cause.message if error.cause else None,
            ]
        return []

    await durable.serve(child)
    run = await durable.send(parent, GO)
    assert await run.result() == ["child", "InvokedFunctionFailed", "ValueError", "broken child"]


async def test_a_missing_target_is_a_clear_error(durable: Durable) -> None:
    """Invoking what isn't registered is an error that names the id and what there is."""

    @stepwell.function(id="parent", triggers=[stepwell.on_event("go")])
    async def parent(ctx: Context) -> str:
        try:
            await ctx.step.invoke("gone", "no-such-function")
        except StepError as error:
            return f"{error.name}: {error.message}"
        return "?"

    run = await durable.send(parent, GO)
    result = await run.result()
    assert result.startswith("FunctionNotFound")
    assert "no-such-function" in result
    assert "parent" in result


async def test_an_invoke_times_out(durable: Durable) -> None:
    """A child that takes longer than the time-out fails the step; the child goes on."""

    @stepwell.function(id="slow")
    async def slow(ctx: Context) -> str:
        await ctx.step.sleep("nap", "2h")
        return "late"

    @stepwell.function(id="parent", triggers=[stepwell.on_event("go")])
    async def parent(ctx: Context) -> str:
        try:
            return await ctx.step.invoke("slow", slow, timeout="1h")
        except StepError as error:
            return error.name

    await durable.serve(slow)
    run = await durable.send(parent, GO)
    await durable.advance(timedelta(hours=1))
    assert await run.result() == "InvokeTimeout"
    await durable.advance(timedelta(hours=1))
    assert await (await durable.runs(slow))[0].result() == "late"


async def test_a_cancelled_child_is_a_step_error(durable: Durable) -> None:
    """A child that is cancelled raises StepError in its parent."""

    @stepwell.function(id="slow", timeouts=Timeouts(finish="1h"))
    async def slow(ctx: Context) -> None:
        await ctx.step.sleep("nap", "2h")

    @stepwell.function(id="parent", triggers=[stepwell.on_event("go")])
    async def parent(ctx: Context) -> str:
        try:
            await ctx.step.invoke("slow", slow)
        except StepError as error:
            return error.name
        return "?"

    await durable.serve(slow)
    run = await durable.send(parent, GO)
    await durable.advance(timedelta(hours=1, seconds=5))
    assert await run.result() == "InvokedFunctionCancelled"


async def test_an_idempotent_child_gives_its_first_result(durable: Durable) -> None:
    """Invoked twice with one idempotency key, a function runs once and both parents get the first result."""
    ran: list[int] = []

    @stepwell.function(id="once", idempotency="event.data.key")
    async def once(ctx: Context) -> int:
        await ctx.step.run("count", lambda: ran.append(1))
        return len(ran)

    @stepwell.function(id="parent", triggers=[stepwell.on_event("go")])
    async def parent(ctx: Context) -> list[int]:
        first = await ctx.step.invoke("first", once, {"key": "k"})
        second = await ctx.step.invoke("second", once, {"key": "k"})
        return [first, second]

    await durable.serve(once)
    run = await durable.send(parent, GO)
    assert await run.result() == [1, 1]
    assert ran == [1]


async def test_both_wait_for_an_idempotent_child_that_is_still_running(durable: Durable) -> None:
    """An invoke that finds the first run still alive waits for that run."""

    @stepwell.function(id="once", idempotency="event.data.key")
    async def once(ctx: Context) -> str:
        await ctx.step.sleep("nap", "1h")
        return "once"

    @stepwell.function(id="parent", triggers=[stepwell.on_event("go")], retries=0, backoff=Backoff(strategy="fixed", base="1s"))
    async def parent(ctx: Context) -> list[str]:
        both = await asyncio.gather(ctx.step.invoke("first", once, {"key": "k"}), ctx.step.invoke("second", once, {"key": "k"}))
        return list(both)

    await durable.serve(once)
    run = await durable.send(parent, GO)
    assert await run.status() is RunStatus.WAITING
    await durable.advance(timedelta(hours=1))
    assert await run.result() == ["once", "once"]
    live = [one for one in await durable.runs(once) if await one.status() is not RunStatus.SKIPPED]
    assert len(live) == 1
