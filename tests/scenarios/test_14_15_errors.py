"""Rows 14 and 15: attempts, NonRetriableError, RetryAfterError, StepError."""

import itertools
from datetime import timedelta

import stepwell
from stepwell import Backoff, Context, Event, NonRetriableError, RetryAfterError, StepError
from stepwell.engine.run import RunStatus
from stepwell.testing import Durable

GO = Event(name="go", data={}, id="go-1")
FIXED = Backoff(strategy="fixed", base="10s", jitter="0s")


async def test_code_outside_steps_sees_the_attempt(durable: Durable) -> None:
    """A retry enters the function again from the top, so that code before the step sees the new attempt."""
    seen: list[int] = []

    @stepwell.function(id="attempts", triggers=[stepwell.on_event("go")], backoff=FIXED)
    async def attempts(ctx: Context) -> str:
        seen.append(ctx.attempt)

        async def flaky() -> str:
            if stepwell.current_step().attempt < 2:
                raise RuntimeError("again")
            return "ok"

        return await ctx.step.run("flaky", flaky)

    run = await durable.send(attempts, GO)
    await durable.advance(timedelta(minutes=1))
    assert await run.result() == "ok"
    assert seen == [0, 1, 2]


async def test_non_retriable_belongs_to_its_step(durable: Durable) -> None:
    """A NonRetriableError in a step ends that step's tries; the code may catch it as StepError, and it is recorded there."""
    tries: list[int] = []

    @stepwell.function(id="final", triggers=[stepwell.on_event("go")])
    async def final(ctx: Context) -> str:
        async def broken() -> None:
            tries.append(1)
            raise NonRetriableError("never")

        try:
            await ctx.step.run("broken", broken)
        except StepError as error:
            return f"{error.step_id}: {error.name}: {error.message}"
        return "?"

    run = await durable.send(final, GO)
    assert await run.result() == "broken: NonRetriableError: never"
    assert tries == [1]
    assert run.steps == ["broken"]


async def test_non_retriable_between_steps_fails_the_run(durable: Durable) -> None:
    """Between steps it fails the run at once."""

    @stepwell.function(id="final", triggers=[stepwell.on_event("go")])
    async def final(ctx: Context) -> None:
        raise NonRetriableError("never")

    run = await durable.send(final, GO)
    assert await run.status() is RunStatus.FAILED


async def test_retry_after_chooses_the_time(durable: Durable) -> None:
    """RetryAfterError says when its step is tried again."""
    at: list[int] = []

    @stepwell.function(id="later", triggers=[stepwell.on_event("go")])
    async def later(ctx: Context) -> None:
        async def busy() -> None:
            at.append(durable.clock.now())
            if len(at) == 1:
                raise RetryAfterError("busy", "90s")

        await ctx.step.run("busy", busy)

    run = await durable.send(later, GO)
    await durable.advance(timedelta(minutes=2))
    assert await run.status() is RunStatus.COMPLETED
    assert at[1] - at[0] == 90_000_000


async def test_retry_after_between_steps(durable: Durable) -> None:
    """Raised between steps it says when the stretch is tried again; what is recorded before it is not done again."""
    at: list[int] = []
    first: list[int] = []

    @stepwell.function(id="later", triggers=[stepwell.on_event("go")])
    async def later(ctx: Context) -> None:
        await ctx.step.run("first", lambda: first.append(1))
        at.append(durable.clock.now())
        if ctx.attempt < 2:
            raise RetryAfterError("busy", timedelta(minutes=7))

    run = await durable.send(later, GO)
    await durable.advance(timedelta(minutes=14))
    assert await run.status() is RunStatus.COMPLETED
    assert [later - earlier for earlier, later in itertools.pairwise(at)] == [420_000_000, 420_000_000]
    assert first == [1]


async def test_retry_after_spends_the_steps_tries(durable: Durable) -> None:
    """RetryAfterError counts as a try of the step that it was raised in; after the last one it is that step's error."""

    @stepwell.function(id="later", triggers=[stepwell.on_event("go")], retries=1)
    async def later(ctx: Context) -> list[object]:
        async def busy() -> None:
            raise RetryAfterError("busy", 5)

        try:
            await ctx.step.run("busy", busy)
        except StepError as error:
            return [error.name, error.step_id, error.attempts]
        return []

    run = await durable.send(later, GO)
    await durable.advance(timedelta(seconds=5))
    assert await run.result() == ["RetryAfterError", "busy", 2]


async def test_a_step_error_survives_replay_unchanged(durable: Durable) -> None:
    """Name, message, step, attempts and cause are the same on every replay."""
    seen: list[tuple[object, ...]] = []

    @stepwell.function(id="fallback", triggers=[stepwell.on_event("go")], backoff=FIXED)
    async def fallback(ctx: Context) -> str:
        async def broken() -> None:
            try:
                raise KeyError("inner")
            except KeyError as inner:
                raise ValueError("outer") from inner

        try:
            await ctx.step.run("broken", broken, retries=1)
        except StepError as error:
            seen.append((error.name, error.message, error.step_id, error.attempts, error.cause))
        await ctx.step.sleep("nap", "2h")
        return await ctx.step.run("instead", lambda: "rolled back")

    run = await durable.send(fallback, GO)
    await durable.advance(timedelta(seconds=20))
    await durable.crash()
    await durable.advance(timedelta(hours=2))
    assert await run.result() == "rolled back"
    assert len(seen) >= 2
    assert len(set(seen)) == 1
    name, message, step, attempts, cause = seen[0]
    assert (name, message, step, attempts) == ("ValueError", "outer", "broken", 2)
    assert cause is not None
    assert (cause.name, cause.message) == ("KeyError", "'inner'")


async def test_an_uncaught_step_error_fails_the_run_at_once(durable: Durable) -> None:
    """A StepError that the code lets pass fails the run; the function isn't tried again on top."""
    entered: list[int] = []

    @stepwell.function(id="uncaught", triggers=[stepwell.on_event("go")])
    async def uncaught(ctx: Context) -> None:
        entered.append(1)

        async def broken() -> None:
            raise NonRetriableError("never")

        await ctx.step.run("broken", broken)

    run = await durable.send(uncaught, GO)
    assert await run.status() is RunStatus.FAILED
    assert entered == [1]
