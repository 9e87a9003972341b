"""A fresh well in a real Postgres for every test of this directory."""

from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count

import pytest

from stepwell.store.postgres import PostgresStore
from stepwell.store.registry import FunctionRow
from stepwell.store.views import RunnerRow

_numbers = count(1)
Open = Callable[..., Awaitable[PostgresStore]]


@pytest.fixture
async def open_store(postgres_dsn: str) -> AsyncIterator[Open]:
    """Open stores on one new well; all are closed at the end. `dsn` goes by way of something else, a pooler say."""
    schema = f"well_{next(_numbers)}"
    stores: list[PostgresStore] = []

    async def make(dsn: str = postgres_dsn, **options: object) -> PostgresStore:
        store = PostgresStore(dsn, schema, **options)
        if not stores:
            await store.migrate()
        await store.open()
        stores.append(store)
        return store

    yield make
    for store in stores:
        await store.close()


@pytest.fixture
async def store(open_store: Open) -> PostgresStore:
    """One well with one function, `f`, and one runner, `A`."""
    made = await open_store()
    await made.register("tests", [FunctionRow("f", "r1", "p", "tests", b"{}")], [])
    await made.enrol(RunnerRow("A", ("p",), ("f",), 10, 60_000_000, draining=False))
    return made
