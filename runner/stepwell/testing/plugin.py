"""The pytest plugin: the `durable` fixture. It imports the engine only when a test asks for it."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from stepwell.testing.durable import Durable


async def _durable() -> "AsyncIterator[Durable]":
    """Run durable functions in this test: SQLite in memory, a clock that only `advance` moves, real commits."""
    from stepwell.testing.durable import Durable  # noqa: PLC0415 - only tests that use it pay for it

    kit = Durable()
    try:
        yield kit
    finally:
        await kit.close()


def _missing() -> None:
    """Say what is missing."""
    raise pytest.UsageError("the durable fixture is async: pip install 'stepwell[test]', which brings pytest-asyncio")


try:
    import pytest_asyncio
except ModuleNotFoundError:
    durable = pytest.fixture(name="durable")(_missing)
else:
    durable = pytest_asyncio.fixture(name="durable")(_durable)
