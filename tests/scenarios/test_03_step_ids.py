"""Row 3: step ids may be reused; they are counted."""

import asyncio
from datetime import timedelta

import pytest

import stepwell
from stepwell import Context, Event
from stepwell.engine.run import RunStatus
from stepwell.testing import Durable

GO = Event(name="go", data={}, id="go-1")


async def test_one_id_in_a_loop(durable: Durable) -> None:
    """The same id in a loop names a new step each time; each is recorded once."""
    ran: list[int] = []

    @stepwell.function(id="loop", triggers=[stepwell.on_event("go")])
    async def loop(ctx: Context) -> list[int]:
        found: list[int] = []
        for place in range(3):

            def fetch(number: int = place) -> int:
                ran.append(number)
                return number * 10

            found.append(await ctx.step.run("fetch", fetch))
            await ctx.step.sleep("nap", "2h")
        return found

    run = await durable.send(loop, GO)
    await durable.advance(timedelta(hours=6))
    assert await run.result() == [0, 10, 20]
    assert ran == [0, 1, 2]


async def test_one_id_in_parallel(durable: Durable) -> None:
    """The same id used in parallel is counted in the order of the calls."""

    @stepwell.function(id="fan", triggers=[stepwell.on_event("go")])
    async def fan(ctx: Context) -> list[int]:
        async def fetch(number: int) -> int:
            return number

        first = await asyncio.gather(*(ctx.step.run("fetch", fetch, number) for number in range(5)))
        await ctx.step.sleep("nap", "2h")
        return list(first)

    run = await durable.send(fan, GO)
    await durable.advance(timedelta(hours=2))
    assert await run.result() == [0, 1, 2, 3, 4]


async def test_ids_that_look_counted_do_not_collide(durable: Durable) -> None:
    """An id like `fetch:1` is not the second `fetch`."""

    @stepwell.function(id="alike", triggers=[stepwell.on_event("go")])
    async def alike(ctx: Context) -> list[str]:
        return [
            await ctx.step.run("fetch", lambda: "a"),
            await ctx.step.run("fetch", lambda: "b"),
            await ctx.step.run("fetch:1", lambda: "c"),
        ]

    run = await durable.send(alike, GO)
    assert await run.result() == ["a", "b", "c"]
    assert run.steps == ["fetch", "fetch", "fetch:1"]


async def test_a_changed_kind_fails_loudly(durable: Durable) -> None:
    """Code that asks for another kind of step under a recorded key fails the run, naming step, kinds and remedy."""

    @stepwell.function(id="changed", triggers=[stepwell.on_event("go")])
    async def before(ctx: Context) -> None:
        await ctx.step.run("one", lambda: 1)
        await ctx.step.sleep("nap", "2h")

    run = await durable.send(before, GO)

    @stepwell.function(id="changed", triggers=[stepwell.on_event("go")])
    async def after(ctx: Context) -> None:
        await ctx.step.sleep("one", "1s")
        await ctx.step.sleep("nap", "2h")

    await durable.serve(after)
    await durable.advance(timedelta(hours=2))
    assert await run.status() is RunStatus.FAILED
    error = await run.error()
    assert "'one'" in error["message"]
    assert "new id" in error["message"]


@pytest.mark.parametrize("verb", ["send_event", "send_signal"])
async def test_a_wait_that_became_a_send_fails_loudly(durable: Durable, verb: str) -> None:
    """Code that sends under the key of a wait that is still open fails the run, and sends nothing."""

    @stepwell.function(id="changed", triggers=[stepwell.on_event("go")])
    async def before(ctx: Context) -> None:
        await asyncio.gather(ctx.step.sleep("nap", "1h"), ctx.step.wait_for_event("one", event="never", timeout="2d"))

    @stepwell.function(id="changed", triggers=[stepwell.on_event("go")])
    async def after(ctx: Context) -> None:
        send = (
            ctx.step.send_event("one", Event(name="sent"))
            if verb == "send_event"
            else ctx.step.send_signal("one", signal="s", data=1)
        )
        await asyncio.gather(ctx.step.sleep("nap", "1h"), send)

    @stepwell.function(id="heard", triggers=[stepwell.on_event("sent")])
    async def heard(ctx: Context) -> None:
        raise AssertionError

    run = await durable.send(before, GO)
    await durable.serve(after, heard)
    await durable.advance(timedelta(hours=1))
    error = await run.error()
    assert "'one'" in error["message"]
    assert "new id" in error["message"]
    assert await durable.runs(heard) == []


async def test_a_step_in_a_step_is_refused(durable: Durable) -> None:
    """Steps don't nest: the error names the outer and the inner step."""

    @stepwell.function(id="nested", triggers=[stepwell.on_event("go")])
    async def nested(ctx: Context) -> None:
        async def outer() -> None:
            await ctx.step.run("inner", lambda: 1)

        await ctx.step.run("outer", outer)

    run = await durable.send(nested, GO)
    message = (await run.error())["message"]
    assert "'inner'" in message
    assert "'outer'" in message
