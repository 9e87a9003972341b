"""What is done by the clock."""

import asyncio
import contextlib
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stepwell_operator.facts import READY, WellFacts
from stepwell_operator.rounds import Rounds
from stepwell_operator.settings import Settings

pytestmark = pytest.mark.asyncio(loop_scope="function")


class Wells:
    """Wells of which some can't be looked at."""

    def __init__(self, *names: str, bad: str = "", stuck: str = "") -> None:
        self.there = {("shop", name): WellFacts("shop", name, reason=READY) for name in names}
        self.bad = bad
        self.stuck = stuck
        self.looked: list[str] = []

    def known(self) -> list[tuple[str, str]]:
        return list(self.there)

    def facts(self, namespace: str, store: str) -> WellFacts:
        return self.there[namespace, store]

    async def look(self, namespace: str, store: str) -> WellFacts:
        if store == self.bad:
            raise TypeError("argument should be a bytes-like object")
        if store == self.stuck:
            await asyncio.Event().wait()
        self.looked.append(store)
        return self.there[namespace, store]


async def test_a_well_that_can_not_be_looked_at_ends_no_round() -> None:
    """Whatever a look at one well meets, the others are looked at, in this round and in the next."""
    wells = Wells("a", "b", "c", bad="b")
    await looked(wells, 4)
    assert sorted(wells.looked[:4]) == ["a", "a", "c", "c"]


async def test_a_well_that_does_not_answer_holds_up_no_other() -> None:
    """While one look waits for its answer, the other wells are looked at."""
    wells = Wells("a", "b", "c", stuck="a")
    await looked(wells, 2)
    assert sorted(wells.looked) == ["b", "c"]


async def looked(wells: Wells, times: int) -> None:
    """Have rounds until so many looks were taken."""
    reconciler = SimpleNamespace(wells=wells, settings=Settings("sys", "operator-0", look_seconds=0.001))
    task = asyncio.create_task(Rounds(cast("Any", reconciler)).look_round())
    async with asyncio.timeout(5):
        while len(wells.looked) < times and not task.done():
            await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
