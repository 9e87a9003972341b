"""When the test kit takes a test for settled: once nothing moves, and a call of the store moves however long it takes."""

import asyncio
from typing import Any

import pytest

import stepwell
from stepwell import Context, Event
from stepwell.store.sqlite import SqliteStore
from stepwell.testing import Durable, durable

TURNS = 5 * durable.STILL_TURNS


class Held(Durable):
    """A kit one verb of whose store, from `hold` on, comes back only after the kit has looked five times as often as rest takes."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0
        self.enough = asyncio.Event()

    def hold(self, verb: str) -> None:
        """Hold this verb up."""
        inner = self.store.inner
        assert isinstance(inner, SqliteStore)
        real = getattr(inner, verb)

        async def held(*arguments: Any) -> Any:
            self.looks = 0
            await self.enough.wait()
            return await real(*arguments)

        setattr(inner, verb, held)

    def _moving(self) -> str:
        self.looks += 1
        if self.looks >= TURNS:
            self.enough.set()
        return super()._moving()


@pytest.mark.parametrize("verb", ["listen", "registry"])
async def test_a_wait_that_is_being_opened_is_no_rest(monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    """However long the store takes to note what a wait listens on, the next event comes after the wait is open."""
    monkeypatch.setattr(durable, "STILL", 0.0)

    @stepwell.function(id="pay", triggers=[stepwell.on_event("go")])
    async def pay(ctx: Context) -> Any:
        paid = await ctx.step.wait_for_event("paid", event="paid", if_="event.data.id == async.data.id", timeout="1d")
        return paid is not None

    kit = Held()
    try:
        await kit.serve(pay)
        kit.hold(verb)
        run = await kit.send(pay, Event(name="go", data={"id": 7}))
        kit.enough.set()
        await kit.send_event(Event(name="paid", data={"id": 7}))
        assert await run.result() is True
    finally:
        kit.enough.set()
        await kit.close()
