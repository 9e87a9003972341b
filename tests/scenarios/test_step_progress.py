"""How far a step is: shown while it runs, from either kind of body, and recorded nowhere."""

import asyncio
import threading
from datetime import timedelta

import pytest
import structlog
from scenarios.test_20_counting import figures

import stepwell
from stepwell import Context, Event, StepError
from stepwell.settings import MetricSettings
from stepwell.testing import Durable

GO = Event(name="go", data={})


def seen(durable: Durable, run_id: str) -> list[tuple[str, int, float, str]]:
    """What the steps of a run tell of themselves now: id, attempt, ratio, note."""
    found = durable.well.progress.of_run(run_id)
    return [(one.place.step_id, one.place.attempt, one.ratio, one.note) for one in found]


async def test_an_async_body_tells_how_far_it_is(durable: Durable) -> None:
    """While its attempts run a step shows its last word, and the gauge the least of them; afterwards neither knows anything."""
    durable.metrics.settings = MetricSettings(frozenset({"copy"}))
    hold = asyncio.Event()

    async def copy(share: float) -> str:
        stepwell.current_step().progress(0)
        stepwell.current_step().progress(share, f"{share * 300:.0f}/300")
        await hold.wait()
        return "copied"

    @stepwell.function(id="copy", triggers=[stepwell.on_event("go")])
    async def copies(ctx: Context) -> list[str]:
        return await asyncio.gather(ctx.step.run("big", copy, 0.4), ctx.step.run("small", copy, 0.8))

    run = await durable.send(copies, GO)
    assert seen(durable, run.run_id) == [("big", 0, 0.4, "120/300"), ("small", 0, 0.8, "240/300")]
    assert figures(durable, "run_progress_ratio") == {'function="copy"': 0.4}
    hold.set()
    await durable.settle()
    assert await run.result() == ["copied", "copied"]
    assert durable.well.progress.told == {}
    assert "stepwell_run_progress_ratio" not in durable.metrics.render()[0].decode()


async def test_a_synchronous_body_tells_from_its_thread(durable: Durable) -> None:
    """A body in a thread tells like any other, and its line in the log has the run's context."""
    showing: list[tuple[str, int, float, str]] = []

    def copy() -> str:
        step = stepwell.current_step()
        step.progress(0.4, "120/300")
        showing.extend(seen(durable, step.run_id))
        return threading.current_thread().name

    @stepwell.function(id="copy", triggers=[stepwell.on_event("go")])
    async def copies(ctx: Context) -> str:
        return await ctx.step.run("copy", copy)

    with structlog.testing.capture_logs() as lines:
        run = await durable.send(copies, GO)
    assert str(await run.result()).startswith("stepwell-step")
    assert showing == [("copy", 0, 0.4, "120/300")]
    assert durable.well.progress.told == {}
    (line,) = [line for line in lines if line["event"] == "step progress"]
    assert (line["run_id"], line["function"], line["step"], line["attempt"]) == (run.run_id, "copy", "copy", 0)
    assert (line["ratio"], line["note"]) == (0.4, "120/300")


async def test_progress_is_of_one_attempt_and_no_part_of_the_journal(durable: Durable) -> None:
    """A failed try's word goes with it, the next one begins anew; a replay tells nothing, and a crash changes no result."""
    before: list[int] = []

    async def copy() -> int:
        step = stepwell.current_step()
        before.append(len(durable.well.progress.told))
        step.progress(0.5 + step.attempt / 10)
        if step.attempt == 0:
            raise TimeoutError
        return step.attempt

    @stepwell.function(id="copy", triggers=[stepwell.on_event("go")])
    async def copies(ctx: Context) -> int:
        tries = await ctx.step.run("copy", copy)
        await ctx.step.sleep("nap", "2h")
        return tries

    with structlog.testing.capture_logs() as lines:
        run = await durable.send(copies, GO)
        assert durable.well.progress.told == {}, "it waits for its next try"
        await durable.advance(timedelta(hours=1))
        await durable.crash()
        await durable.advance(timedelta(hours=2))
    assert await run.result() == 1
    assert before == [0, 0]
    assert [line["ratio"] for line in lines if line["event"] == "step progress"] == [0.5, 0.6]
    await durable.crash_everywhere(copies, GO, advance=timedelta(hours=3))


async def test_a_cancelled_run_and_a_dead_runner_tell_nothing_more(durable: Durable) -> None:
    """A body that is cut off takes its word with it: by a cancel, and by the death of its process."""
    hold = asyncio.Event()

    async def copy() -> None:
        stepwell.current_step().progress(0.4)
        await hold.wait()

    @stepwell.function(id="copy", triggers=[stepwell.on_event("go")], cancel_on=[stepwell.CancelOn("stop")])
    async def copies(ctx: Context) -> None:
        await ctx.step.run("copy", copy)

    run = await durable.send(copies, GO)
    dead = durable.well.progress
    await durable.crash()
    assert dead.told == {}
    assert seen(durable, run.run_id) == [("copy", 0, 0.4, "")]
    await durable.send_event(Event(name="stop"))
    await durable.advance(timedelta(seconds=5))
    assert durable.well.progress.told == {}


@pytest.mark.parametrize(("ratio", "note"), [(1.5, ""), (float("nan"), ""), (0.5, "x" * 201)])
async def test_what_is_no_progress_fails_the_step_at_once(durable: Durable, ratio: float, note: str) -> None:
    """A ratio outside of 0 to 1 or a note that is too long is a mistake of the code: no further try is made, the error says why."""

    @stepwell.function(id="copy", triggers=[stepwell.on_event("go")])
    async def copies(ctx: Context) -> str:
        try:
            await ctx.step.run("copy", lambda: stepwell.current_step().progress(ratio, note))
        except StepError as error:
            return f"{error.name} after {error.attempts}: {error.message}"
        return "taken"

    run = await durable.send(copies, GO)
    assert str(await run.result()).startswith("StepMisuse after 1: progress of step 'copy': the ")
