"""Row 5: `step.send_event`."""

from structlog.testing import capture_logs

import stepwell
from stepwell import Context, Event
from stepwell.testing import Durable

GO = Event(name="go", data={}, id="go-1")


async def test_one_and_many(durable: Durable) -> None:
    """A step sends one event or several, in its own commit, and gives back their ids."""

    @stepwell.function(id="hear", triggers=[stepwell.on_event("said")])
    async def hear(ctx: Context) -> int:
        return ctx.event.data["n"]

    @stepwell.function(id="say", triggers=[stepwell.on_event("go")])
    async def say(ctx: Context) -> list[str]:
        one = await ctx.step.send_event("one", Event(name="said", data={"n": 1}))
        more = await ctx.step.send_event(
            "more", [Event(name="said", data={"n": 2}), Event(name="said", data={"n": 3}, id="mine")]
        )
        return [*one, *more]

    await durable.serve(hear)
    run = await durable.send(say, GO)
    ids = await run.result()
    assert len(set(ids)) == 3
    assert ids[2] == "mine"
    assert sorted([await one.result() for one in await durable.runs(hear)]) == [1, 2, 3]


async def test_the_same_event_after_a_crash(durable: Durable) -> None:
    """Whatever commit the runner dies at, the event is sent once and the listener runs once."""

    @stepwell.function(id="hear", triggers=[stepwell.on_event("said")])
    async def hear(ctx: Context) -> str:
        return ctx.event.id or ""

    @stepwell.function(id="say", triggers=[stepwell.on_event("go")])
    async def say(ctx: Context) -> list[str]:
        await ctx.step.run("before", lambda: 1)
        return await ctx.step.send_event("say", Event(name="said", data={"n": 1}))

    await durable.serve(hear)
    crashes = await durable.crash_everywhere(say, GO)
    assert crashes >= 4


async def test_our_names_are_refused(durable: Durable) -> None:
    """An event whose name begins with stepwell/ or inngest/ is not sent; the error says why."""

    @stepwell.function(id="say", triggers=[stepwell.on_event("go")], retries=0)
    async def say(ctx: Context) -> None:
        await ctx.step.send_event("say", Event(name="inngest/function.failed"))

    run = await durable.send(say, GO)
    assert "inngest/" in (await run.error())["message"]


async def test_a_conflict_is_told(durable: Durable) -> None:
    """An event whose id belongs to another one is not accepted; a log line names run and event, the others are sent."""

    @stepwell.function(id="say", triggers=[stepwell.on_event("go")])
    async def say(ctx: Context) -> None:
        await ctx.step.send_event("say", [Event(name="said", data={"n": 2}, id="taken"), Event(name="said", data={"n": 3})])

    await durable.send_event(Event(name="said", data={"n": 1}, id="taken"))
    with capture_logs() as lines:
        run = await durable.send(say, GO)
    assert [(line["run_id"], line["events"]) for line in lines if "ids belong" in line["event"]] == [(run.run_id, ["taken"])]
    assert len(await durable.store.events("said", None, 10)) == 2
