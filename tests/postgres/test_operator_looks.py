"""What the operator knows of a well is what it read or wrote last, whichever of both ended later."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest
from postgres.conftest import Open
from postgres.holding import hold_on
from unit.operator.observations import NAME, register_of, target_at

from stepwell.store.postgres import PostgresStore
from stepwell.store.registry import PauseRow, RevisionWork
from stepwell_operator.plan import Forget, Register
from stepwell_operator.wells import Wells

KEY = ("shop", "default")


class Slow:
    """A store whose next look stands still before its last question until it may go on."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store
        self.there = asyncio.Event()
        self.may = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def work(self) -> Sequence[RevisionWork]:
        if not self.there.is_set():
            self.there.set()
            await self.may.wait()
        return await self._store.work()


@pytest.fixture
async def store(open_store: Open) -> Slow:
    """An empty well."""
    return Slow(await open_store())


@pytest.fixture
def wells(store: Slow) -> Wells:
    """An operator's hold on that well."""
    return hold_on(cast("PostgresStore", store), KEY)


def register(version: int) -> Register:
    return register_of(target_at(version))


async def test_a_look_does_not_undo_what_was_written_meanwhile(wells: Wells, store: Slow) -> None:
    """A look that began before functions were changed, paused or forgotten doesn't bring back what it read of them."""
    facts = wells.facts(*KEY)
    old, new = register(1), register(2)
    await wells.register(facts, NAME, old)
    look = asyncio.create_task(wells.look(*KEY))
    await store.there.wait()
    await wells.register(facts, NAME, new)
    await wells.hold(facts, "one", "ada")
    await wells.drop(facts, Forget("one", old.revision))
    store.may.set()
    await look
    assert facts.functions["one"].revision == new.revision
    assert [row.revision for row in facts.revisions["one"]] == [new.revision]
    assert facts.pauses["one"].paused_by == "ada"
    assert facts.by_pool == {new.pool: {"one"}}
    assert await wells.look(*KEY) == facts
    assert facts.functions["one"].revision == new.revision


async def test_a_look_does_not_bring_back_a_function_that_went_meanwhile(wells: Wells, store: Slow) -> None:
    """A look that began before a function was let go of doesn't bring its rows back."""
    facts = wells.facts(*KEY)
    await wells.register(facts, NAME, register(1))
    look = asyncio.create_task(wells.look(*KEY))
    await store.there.wait()
    assert await wells.retire(facts, NAME, cancel=True)
    store.may.set()
    await look
    assert (facts.functions, facts.revisions, facts.by_pool) == ({}, {}, {})


async def test_what_anybodys_look_found_is_told_once(wells: Wells, store: Slow) -> None:
    """What changed since the last look is kept for the round that tells the functions, whoever looked; own writes are no news."""
    store.there.set()
    await wells.look(*KEY)
    facts = wells.facts(*KEY)
    await wells.register(facts, NAME, register(1))
    await wells.look(*KEY)
    assert facts.take_changed() == set()
    await store.pause(PauseRow("one", 1, "ada", source="api"))
    await wells.look(*KEY)
    await wells.look(*KEY)
    assert facts.take_changed() == {"one"}
    assert facts.take_changed() == set()
