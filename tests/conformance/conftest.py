"""Every test of this directory runs on both stores, and leaves a well behind in which no invariant is broken."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from conformance.build import T0, Well
from postgres_server import postgres, postgres_dsn  # noqa: F401  # fixtures
from stores import KINDS, Tamper, postgres_store, sqlite_store


class Opened:
    """A well with its side door."""

    def __init__(self, well: Well, tamper: Tamper) -> None:
        self.well = well
        self.tamper = tamper


@pytest_asyncio.fixture(params=KINDS)
async def opened(request: pytest.FixtureRequest) -> AsyncIterator[Opened]:
    """A new well on each store, with the runners `A` and `B`."""
    clock = [T0]
    if request.param == "sqlite":
        made = sqlite_store(lambda: clock[0])
    else:
        made = postgres_store(lambda: clock[0], request.getfixturevalue("postgres_dsn"))
    async with made as (store, tamper):
        well = Well(store, clock)
        await well.enrol("A")
        await well.enrol("B")
        yield Opened(well, tamper)


@pytest_asyncio.fixture
async def well(opened: Opened) -> AsyncIterator[Well]:
    """A new well on each store; the doctor finds nothing in it when the test is over."""
    yield opened.well
    assert await opened.well.store.doctor(opened.well.now) == []
