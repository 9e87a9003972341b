"""Row 1: retries, back-off, and where they are counted."""

from datetime import timedelta

import pytest

import stepwell
from stepwell import Backoff, Context, Event, StepError
from stepwell.engine.run import RunStatus
from stepwell.testing import Durable

GO = Event(name="go", data={}, id="go-1")
FIXED = Backoff(strategy="fixed", base="10s", jitter="0s")


async def test_a_step_has_five_tries(durable: Durable) -> None:
    """With the default of 4 retries a step is tried five times, then its error ends the run."""
    tries: list[int] = []

    @stepwell.function(id="five", triggers=[stepwell.on_event("go")], backoff=FIXED)
    async def five(ctx: Context) -> None:
        async def boom() -> None:
            tries.append(stepwell.current_step().attempt)
            raise RuntimeError("no luck")

        await ctx.step.run("boom", boom)

    run = await durable.send(five, GO)
    await durable.advance(timedelta(minutes=2))
    assert tries == [0, 1, 2, 3, 4]
    assert await run.status() is RunStatus.FAILED
    error = await run.error()
    assert error["name"] == "StepError"
    assert "no luck" in error["message"]


async def test_the_stretch_between_steps_has_tries_of_its_own(durable: Durable) -> None:
    """Code between steps is tried five times from the last recorded step on; a recorded step is not run again."""
    attempts: list[int] = []
    ran: list[str] = []

    @stepwell.function(id="between", triggers=[stepwell.on_event("go")], backoff=FIXED)
    async def between(ctx: Context) -> str:
        await ctx.step.run("first", lambda: ran.append("first"))
        attempts.append(ctx.attempt)
        if len(attempts) < 4:
            raise ValueError("not yet")
        await ctx.step.run("second", lambda: ran.append("second"))
        attempts.append(ctx.attempt)
        return "done"

    run = await durable.send(between, GO)
    await durable.advance(timedelta(minutes=2))
    assert await run.result() == "done"
    assert ran == ["first", "second"]
    assert attempts == [0, 1, 2, 3, 0]


async def test_the_back_off_table(durable: Durable) -> None:
    """The default back-off waits 15 s, 30 s, 1 m and 2 m, each with 0 to 30 s of jitter on top."""
    at: list[int] = []

    @stepwell.function(id="table", triggers=[stepwell.on_event("go")])
    async def table(ctx: Context) -> None:
        async def boom() -> None:
            at.append(durable.clock.now())
            raise RuntimeError("no")

        await ctx.step.run("boom", boom)

    await durable.send(table, GO)
    await durable.advance(timedelta(minutes=10))
    waits = [(after - before) / 1e6 for before, after in zip(at, at[1:], strict=False)]
    assert len(waits) == 4
    for waited, base in zip(waits, (15, 30, 60, 120), strict=True):
        assert base <= waited <= base + 30


async def test_a_step_has_its_own_retries_and_back_off(durable: Durable) -> None:
    """`retries` and `backoff` of a step override the function's, for that step alone."""
    at: list[int] = []

    @stepwell.function(id="own", triggers=[stepwell.on_event("go")])
    async def own(ctx: Context) -> str:
        async def boom() -> None:
            at.append(durable.clock.now())
            raise RuntimeError("no")

        try:
            await ctx.step.run("boom", boom, retries=2, backoff=Backoff(strategy="linear", base="1s", jitter="0s"))
        except StepError as error:
            return f"{error.name} after {error.attempts}"
        return "?"

    run = await durable.send(own, GO)
    await durable.advance(timedelta(minutes=1))
    assert await run.result() == "RuntimeError after 3"
    assert [(after - before) // 1_000_000 for before, after in zip(at, at[1:], strict=False)] == [1, 2]


async def test_a_step_times_out(durable: Durable) -> None:
    """A step over its timeout is a failed try like any other."""
    import asyncio

    @stepwell.function(id="slow", triggers=[stepwell.on_event("go")])
    async def slow(ctx: Context) -> str:
        async def hang() -> None:
            await asyncio.Event().wait()

        try:
            await ctx.step.run("hang", hang, retries=0, timeout=0.01)
        except StepError as error:
            return error.name
        return "?"

    run = await durable.send(slow, GO)
    assert await run.result() == "TimeoutError"


def test_more_than_twenty_retries_are_refused() -> None:
    """`retries` goes from 0 to 20; more is refused at registration, naming the option."""
    with pytest.raises(stepwell.StepwellError, match="retries"):

        @stepwell.function(id="many", retries=21)
        async def many(ctx: Context) -> None: ...


async def test_retries_survive_a_crash(durable: Durable) -> None:
    """The count of tries is in the journal: a runner that dies while a retry is pending doesn't reset it."""
    tries: list[int] = []

    @stepwell.function(id="five", triggers=[stepwell.on_event("go")], backoff=FIXED, retries=2)
    async def five(ctx: Context) -> None:
        async def boom() -> None:
            tries.append(stepwell.current_step().attempt)
            raise RuntimeError("no luck")

        await ctx.step.run("boom", boom)

    run = await durable.send(five, GO)
    await durable.crash()
    await durable.advance(timedelta(minutes=1))
    assert tries == [0, 1, 2]
    assert await run.status() is RunStatus.FAILED
