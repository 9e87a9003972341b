"""A function registered, changed or removed while events pour in."""

import asyncio

import stepwell
from stepwell import Context, Event
from stepwell.store.views import RunFilter
from stepwell.testing import Durable


def build(version: int) -> "stepwell.Function[dict[str, object], int]":
    @stepwell.function(id="moving", triggers=[stepwell.on_event("tick", if_=f"event.data.n >= 0 && {version} > 0")])
    async def moving(ctx: Context) -> int:
        return version

    return moving


async def test_every_event_meets_one_whole_version(durable: Durable) -> None:
    """Each event is matched against the one version of the registry that it records: a run where the function was there, none else."""

    @stepwell.function(id="steady", triggers=[stepwell.on_event("tick")])
    async def steady(ctx: Context) -> None: ...

    await durable.serve(steady)
    there: dict[int, bool] = {}

    async def note() -> None:
        registry = await durable.store.registry()
        there[registry.version] = any(row.function_id == "moving" for row in registry.functions)

    async def change() -> None:
        await note()
        for round_ in range(6):
            await durable.well.register("moving", [(build(round_ + 1).spec, f"r{round_}")], "elsewhere")
            await note()
            await asyncio.sleep(0)
            await durable.well.register("moving", [], "elsewhere")
            await note()

    async def pour() -> list[str]:
        ids: list[str] = []
        for number in range(60):
            [receipt] = await durable.well.send([stepwell_event(number)])
            ids.append(receipt.id)
        return ids

    ids, _ = await asyncio.gather(pour(), change())
    await durable.settle()
    seen: set[int] = set()
    for event_id in ids:
        event = await durable.store.event(event_id)
        assert event is not None
        seen.add(event.registry_version)
        functions = {row.function_id for row in await durable.store.runs(RunFilter(event_id=event_id))}
        assert functions == ({"steady", "moving"} if there[event.registry_version] else {"steady"})
    assert len(seen) > 1


def stepwell_event(number: int):
    from stepwell.engine.events import NewEvent

    return NewEvent("tick", {"n": number})


async def test_a_removed_function_starts_nothing_and_its_runs_wait(durable: Durable) -> None:
    """Without its function a run waits, and goes on when the function is back."""

    @stepwell.function(id="gone", triggers=[stepwell.on_event("go")])
    async def gone(ctx: Context) -> str:
        await ctx.step.sleep("nap", "1s")
        return "back"

    run = await durable.send(gone, Event(name="go"))
    durable.functions.clear()
    await durable.serve()
    await durable.send_event(Event(name="go"))
    from datetime import timedelta

    await durable.advance(timedelta(seconds=5))
    assert len(await durable.runs("gone")) == 1
    assert not (await run.status()).is_final
    await durable.serve(gone)
    assert await run.result() == "back"
