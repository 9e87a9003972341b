"""The pytest plugin: the `durable` fixture. It imports the engine only when a test asks for it."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from stepwell.testing.durable import Durable

try:
    import pytest_asyncio
except ModuleNotFoundError:

    @pytest.fixture
    def durable() -> None:
        """Say what is missing."""
        raise pytest.UsageError("the durable fixture is async: pip install 'stepwell[test]', which brings pytest-asyncio")

else:

    @pytest_asyncio.fixture
    async def durable() -> "AsyncIterator[Durable]":
        """Run durable functions in this test: SQLite in memory, a clock that only `advance` moves, real commits."""
        from stepwell.testing.durable import Durable  # noqa: PLC0415 - only tests that use it pay for it

        kit = Durable()
        try:
            yield kit
        finally:
            await kit.close()
