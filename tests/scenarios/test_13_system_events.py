"""Row 13: system events, clean-up functions, `on_failure`."""

from typing import Any

import stepwell
from stepwell import Context, Event
from stepwell.engine.run import RunStatus
from stepwell.testing import Durable

GO = Event(name="go", data={"n": 1}, id="go-1")


@stepwell.function(id="fails", triggers=[stepwell.on_event("go")], retries=0)
async def fails(ctx: Context) -> None:
    raise ValueError("no luck")


@stepwell.function(id="works", triggers=[stepwell.on_event("go")])
async def works(ctx: Context) -> str:
    return "yes"


def listener(name: str, event: str):
    @stepwell.function(id=name, triggers=[stepwell.on_event(event)])
    async def listen(ctx: Context) -> Any:
        return {"name": ctx.event.name, **ctx.event.data}

    return listen


async def test_a_failed_run_is_told(durable: Durable) -> None:
    """`function.failed` carries function, run, event and error, under both names, and its id is the run's."""
    ours, theirs = listener("ours", "stepwell/function.failed"), listener("theirs", "inngest/function.failed")
    await durable.serve(ours, theirs)
    run = await durable.send(fails, GO)
    for hearing in (ours, theirs):
        [told] = await durable.runs(hearing)
        data = await told.result()
        assert (data["name"], data["function_id"], data["run_id"]) == ("stepwell/function.failed", "fails", run.run_id)
        assert data["event"]["data"] == {"n": 1}
        assert data["error"]["name"] == "ValueError"
        assert data["error"]["message"] == "no luck"
        assert (await told.row()).event_ids == (run.run_id,)


async def test_every_end_is_told_as_finished(durable: Durable) -> None:
    """`function.finished` comes for completed, failed and cancelled runs, with result or error; runs it starts tell nothing."""
    hearing = listener("hearing", "stepwell/function.finished")

    @stepwell.function(id="naps", triggers=[stepwell.on_event("go")])
    async def naps(ctx: Context) -> None:
        await ctx.step.sleep("nap", "1h")

    await durable.serve(hearing, works, fails, naps)
    await durable.send_event(GO)
    [napping] = await durable.runs(naps)
    await durable.well.cancel(napping.run_id, "a test")
    await durable.settle()
    told = {data["function_id"]: data for data in [await run.result() for run in await durable.runs(hearing)]}
    assert set(told) == {"works", "fails", "naps"}
    assert told["works"]["result"] == "yes"
    assert told["fails"]["error"]["name"] == "ValueError"
    assert told["naps"]["error"]["name"] == "Cancelled"


async def test_a_cancelled_run_is_told(durable: Durable) -> None:
    """A clean-up function hears of a cancelled run."""
    cleanup = listener("cleanup", "stepwell/function.cancelled")

    @stepwell.function(id="naps", triggers=[stepwell.on_event("go")])
    async def naps(ctx: Context) -> None:
        await ctx.step.sleep("nap", "1h")

    await durable.serve(cleanup)
    run = await durable.send(naps, GO)
    await durable.well.cancel(run.run_id, "a test")
    await durable.settle()
    [told] = await durable.runs(cleanup)
    assert (await told.result())["run_id"] == run.run_id


async def test_on_failure_runs_as_a_function_of_its_own(durable: Durable) -> None:
    """`on_failure` runs once for each failed run of its function, as `<id>-failure`, and not for a cancelled one."""
    heard: list[str] = []

    async def clean(ctx: Context) -> str:
        heard.append(ctx.event.data["run_id"])
        return await ctx.step.run("clean", lambda: "cleaned")

    @stepwell.function(id="job", triggers=[stepwell.on_event("go")], retries=0, on_failure=clean)
    async def job(ctx: Context) -> None:
        raise ValueError("no luck")

    run = await durable.send(job, GO)
    await durable.send_event(Event(name="go", data={"n": 2}))
    assert await run.status() is RunStatus.FAILED
    cleanups = await durable.runs("job-failure")
    assert len(cleanups) == len(heard) == 2
    assert await cleanups[0].result() == "cleaned"
    assert run.run_id in heard


async def test_ends_of_runs_with_large_data_are_told(durable: Durable) -> None:
    """What would make the event too large stays away and is named; nobody else's end waits for it."""
    heard: list[dict[str, Any]] = []

    async def clean_up(ctx: Context[Any]) -> None:
        heard.append(ctx.event.data)

    @stepwell.function(id="heavy", triggers=[stepwell.on_event("go")], retries=0, on_failure=clean_up)
    async def heavy(ctx: Context) -> None:
        raise ValueError("too heavy")

    await durable.serve(heavy)
    deep: Any = 1
    for _ in range(61):
        deep = [deep]
    await durable.send_event(
        Event(name="go", data={"fill": "x" * 300_000}, id="half"),
        Event(name="go", data={"fill": "x" * 523_900}, id="whole"),
        Event(name="go", data={"deep": deep}, id="deep"),
        Event(name="go", data={"fill": "x"}, id="light"),
    )
    told = {data["event"]["id"]: data for data in heard}
    assert {name: data.get("left_out") for name, data in told.items()} == {
        "half": ["events"],
        "whole": ["events", "result", "event.data"],
        "deep": ["events", "result", "event.data"],
        "light": None,
    }
    assert len(told["half"]["event"]["data"]["fill"]) == 300_000
    assert told["whole"]["error"]["message"] == "too heavy"


async def test_a_large_result_stays_away(durable: Durable) -> None:
    """`function.finished` of a run with a large output comes without it."""
    hearing = listener("hearing", "stepwell/function.finished")

    @stepwell.function(id="big", triggers=[stepwell.on_event("go")])
    async def big(ctx: Context) -> str:
        return "x" * 600_000

    await durable.serve(hearing)
    await durable.send(big, GO)
    [told] = await durable.runs(hearing)
    data = await told.result()
    assert (data["left_out"], data["event"]["data"], "result" in data) == (["events", "result"], {"n": 1}, False)
