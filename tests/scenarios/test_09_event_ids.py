"""Row 9: an event id is good once."""

from datetime import timedelta

import stepwell
from stepwell import Context, Event
from stepwell.store.records import EventFate
from stepwell.testing import Durable


@stepwell.function(id="count", triggers=[stepwell.on_event("go")])
async def count(ctx: Context) -> int:
    return ctx.event.data["n"]


async def test_a_resent_event_starts_nothing(durable: Durable) -> None:
    """The same id with the same body is a duplicate, within a batch and after 24 hours too."""
    await durable.serve(count)
    event = Event(name="go", data={"n": 1}, id="one")
    fates = [receipt.fate for receipt in await durable.send_event(event, event)]
    await durable.advance(timedelta(hours=23))
    fates += [receipt.fate for receipt in await durable.send_event(event)]
    assert fates == [EventFate.ACCEPTED, EventFate.DUPLICATE, EventFate.DUPLICATE]
    assert len(await durable.runs(count)) == 1


async def test_another_body_is_a_conflict(durable: Durable) -> None:
    """The same id with another body is refused; the first wins; the rest of the batch is accepted."""
    await durable.serve(count)
    receipts = await durable.send_event(
        Event(name="go", data={"n": 1}, id="one"),
        Event(name="go", data={"n": 2}, id="one"),
        Event(name="go", data={"n": 3}, id="two"),
    )
    assert [receipt.fate for receipt in receipts] == [EventFate.ACCEPTED, EventFate.CONFLICT, EventFate.ACCEPTED]
    assert sorted([await run.result() for run in await durable.runs(count)]) == [1, 3]
