"""Row 16: conditional, parallel and looped steps."""

import asyncio
import threading
from datetime import timedelta

import stepwell
from stepwell import Backoff, Context, Event, StepError
from stepwell.engine.run import RunStatus
from stepwell.testing import Durable

GO = Event(name="go", data={}, id="go-1")


async def test_one_branch_sleeps_while_another_retries(durable: Durable) -> None:
    """Branches of gather go on by themselves: a sleep in one, retries in another, and both results count."""
    tries: list[int] = []

    @stepwell.function(id="both", triggers=[stepwell.on_event("go")], backoff=Backoff(strategy="fixed", base="10s", jitter="0s"))
    async def both(ctx: Context) -> list[str]:
        async def sleeper() -> str:
            await ctx.step.sleep("nap", "25s")
            return await ctx.step.run("after", lambda: "slept")

        async def flaky() -> str:
            tries.append(durable.clock.now())
            if len(tries) < 4:
                raise RuntimeError("again")
            return "retried"

        return list(await asyncio.gather(sleeper(), ctx.step.run("flaky", flaky)))

    run = await durable.send(both, GO)
    await durable.advance(timedelta(minutes=1))
    assert await run.result() == ["slept", "retried"]
    assert [(at - tries[0]) // 1_000_000 for at in tries] == [0, 10, 20, 30]


async def test_task_groups(durable: Durable) -> None:
    """Steps run in a TaskGroup, before and after the run was put away."""

    @stepwell.function(id="group", triggers=[stepwell.on_event("go")])
    async def group(ctx: Context) -> list[int]:
        async with asyncio.TaskGroup() as tasks:
            one = tasks.create_task(ctx.step.run("one", lambda: 1))
            two = tasks.create_task(ctx.step.run("two", lambda: 2))
            tasks.create_task(ctx.step.sleep("nap", "2h"))
        return [one.result(), two.result()]

    run = await durable.send(group, GO)
    await durable.crash()
    await durable.advance(timedelta(hours=2))
    assert await run.result() == [1, 2]
    assert sorted(run.steps) == ["nap", "one", "two"]


async def test_a_failing_branch_is_caught(durable: Durable) -> None:
    """The error of one branch reaches the code that gathers; the other branch's result is kept."""

    @stepwell.function(id="fan", triggers=[stepwell.on_event("go")])
    async def fan(ctx: Context) -> list[str]:
        async def boom() -> None:
            raise stepwell.NonRetriableError("boom")

        results = await asyncio.gather(ctx.step.run("good", lambda: "good"), ctx.step.run("bad", boom), return_exceptions=True)
        return [type(one).__name__ if isinstance(one, StepError) else str(one) for one in results]

    run = await durable.send(fan, GO)
    assert await run.result() == ["good", "StepError"]


async def test_a_thousand_steps_and_no_more(durable: Durable) -> None:
    """A run may have 1,000 steps; the next one fails it and names the limit."""

    @stepwell.function(id="many", triggers=[stepwell.on_event("go")], retries=0)
    async def many(ctx: Context) -> int:
        count = int(ctx.event.data["n"])
        for _ in range(count):
            await ctx.step.run("one", lambda: 1)
        return count

    fits = await durable.send(many, Event(name="go", data={"n": 1000}))
    assert await fits.result() == 1000
    over = await durable.send(many, Event(name="go", data={"n": 1001}))
    assert await over.status() is RunStatus.FAILED
    assert "1000" in (await over.error())["message"]


async def test_except_exception_cannot_swallow_control_flow(durable: Durable) -> None:
    """`except Exception` around a step doesn't see the run being put away; `finally` runs, and steps in it do nothing."""
    ran: list[str] = []

    @stepwell.function(id="greedy", triggers=[stepwell.on_event("go")])
    async def greedy(ctx: Context) -> str:
        try:
            await ctx.step.sleep("nap", "2h")
        except Exception:
            ran.append("swallowed")
        finally:
            await ctx.step.run("clean", lambda: ran.append("cleaned"))
        return "done"

    run = await durable.send(greedy, GO)
    await durable.crash()
    await durable.advance(timedelta(hours=2))
    assert await run.result() == "done"
    assert ran == ["cleaned"]
    assert run.steps == ["nap", "clean"]


async def test_a_blocking_function_runs_in_a_thread(durable: Durable) -> None:
    """A synchronous step runs in a thread, with the step's context."""
    import threading

    @stepwell.function(id="thread", triggers=[stepwell.on_event("go")])
    async def thread(ctx: Context) -> list[str]:
        def body() -> list[str]:
            return [threading.current_thread().name, stepwell.current_step().id]

        return await ctx.step.run("body", body)

    run = await durable.send(thread, GO)
    name, step = await run.result()
    assert name.startswith("stepwell-step")
    assert step == "body"


async def test_the_kit_waits_for_threads(durable: Durable) -> None:
    """A synchronous step that takes a while is waited for by the test kit, as nothing else can be told of it."""

    @stepwell.function(id="slow", triggers=[stepwell.on_event("go")])
    async def slow(ctx: Context) -> str:
        await ctx.step.run("blocks", threading.Event().wait, 0.4)
        return "done"

    run = await durable.send(slow, GO)
    assert await run.result() == "done"


async def test_crash_everywhere(durable: Durable) -> None:
    """A crash before or after any commit leaves the outcome as it is."""

    @stepwell.function(id="all", triggers=[stepwell.on_event("go")], backoff=Backoff(strategy="fixed", base="10s", jitter="0s"))
    async def everything(ctx: Context) -> list[object]:
        one, two = await asyncio.gather(ctx.step.run("one", lambda: 1), ctx.step.run("two", lambda: 2))
        await ctx.step.sleep("nap", "5m")
        event = await ctx.step.wait_for_event("wait", event="late", timeout="1h")

        async def flaky() -> int:
            if stepwell.current_step().attempt < 1:
                raise RuntimeError("again")
            return 3

        three = await ctx.step.run("flaky", flaky)
        return [one, two, three, event is None]

    crashes = await durable.crash_everywhere(everything, GO, advance=timedelta(hours=2))
    assert crashes >= 10


async def test_crash_everywhere_among_others(durable: Durable) -> None:
    """A crash at any commit of a run that invokes, signals, sends and falls back changes nothing, and does nothing twice."""

    @stepwell.function(id="child")
    async def child(ctx: Context) -> int:
        return await ctx.step.run("double", lambda: 2 * ctx.event.data["n"])

    @stepwell.function(id="hears", triggers=[stepwell.on_event("go")])
    async def hears(ctx: Context) -> object:
        return await ctx.step.wait_for_signal("hear", signal="ready", timeout="1h")

    @stepwell.function(id="told", triggers=[stepwell.on_event("said")])
    async def told(ctx: Context) -> object:
        return ctx.event.data["n"]

    @stepwell.function(id="parent", triggers=[stepwell.on_event("go")])
    async def parent(ctx: Context) -> list[object]:
        def broken() -> None:
            raise stepwell.NonRetriableError("no")

        doubled = await asyncio.gather(*(ctx.step.invoke("child", child, {"n": n}) for n in (1, 2)))
        await ctx.step.sleep("nap", "1m")
        heard = await ctx.step.send_signal("tell", signal="ready", data={"n": 1})
        await ctx.step.send_event("say", [Event(name="said", data={"n": n}) for n in (1, 2)])
        try:
            await ctx.step.run("broken", broken)
        except stepwell.StepError as error:
            return [doubled, heard, error.message]
        return []

    await durable.serve(child, hears, told)
    run = await durable.send(parent, GO)
    await durable.advance(timedelta(minutes=1))
    assert await run.result() == [[2, 4], True, "no"]
    crashes = await durable.crash_everywhere(parent, Event(name="go", id="go-2"), advance=timedelta(minutes=1))
    assert crashes >= 10
