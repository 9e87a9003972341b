"""Row 10: one run per value of the idempotency expression in 24 hours."""

from datetime import timedelta

import stepwell
from stepwell import Context, Event
from stepwell.engine.run import RunStatus
from stepwell.testing import Durable


@stepwell.function(id="once", triggers=[stepwell.on_event("go")], idempotency='event.data.order + "-" + event.data.part')
async def once(ctx: Context) -> str:
    return ctx.event.data["part"]


async def test_one_run_per_compound_key(durable: Durable) -> None:
    """Events with the same value start one run; the others are recorded as skipped and name it."""
    await durable.serve(once)
    for part in ("a", "b", "a"):
        await durable.send_event(Event(name="go", data={"order": "7", "part": part}))
        await durable.advance(timedelta(seconds=1))
    first, second, third = await durable.runs(once)
    assert [await first.result(), await second.result()] == ["a", "b"]
    assert await third.status() is RunStatus.SKIPPED
    assert (await third.error())["run_id"] == first.run_id


async def test_the_key_is_free_again_after_a_day(durable: Durable) -> None:
    """After 24 hours the same value starts a run again."""
    await durable.serve(once)
    event = Event(name="go", data={"order": "7", "part": "a"})
    await durable.send_event(event)
    await durable.advance(timedelta(hours=24))
    await durable.send_event(event)
    assert [await run.status() for run in await durable.runs(once)] == [RunStatus.COMPLETED, RunStatus.COMPLETED]


async def test_a_missing_attribute_starts_unguarded(durable: Durable) -> None:
    """An event without the attribute has no value to compare: it starts a run, and the event says why."""
    await durable.serve(once)
    receipts = await durable.send_event(Event(name="go", data={"part": "a"}), Event(name="go", data={"part": "a"}))
    assert len(await durable.runs(once)) == 2
    [(function, decision, _detail)] = await durable.store.decisions(receipts[0].id)
    assert function == "once"
    assert "idempotency" in decision
