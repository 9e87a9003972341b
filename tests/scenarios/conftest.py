"""Every scenario runs on both stores: `durable` is the test kit over SQLite and over a real Postgres."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
import pytest_asyncio

from stepwell.testing import Durable

pytest_plugins = ("postgres_server",)


@pytest_asyncio.fixture(params=["sqlite", "postgres"])
async def durable(request: pytest.FixtureRequest) -> AsyncIterator[Durable]:
    """The test kit on each store."""
    kit = Durable() if request.param == "sqlite" else Durable(store=_postgres(request.getfixturevalue("postgres_dsn")))
    try:
        yield kit
    finally:
        await kit.close()


def _postgres(dsn: str):
    from stepwell.store.postgres import PostgresStore

    schema = f"t{uuid4().hex[:12]}"
    return lambda now: PostgresStore(dsn, schema=schema, clock_now=now)
