"""The little of asyncpg that the tests of the cluster use, with types."""

from typing import Any, Protocol, cast

import asyncpg


class Connection(Protocol):
    """One connection."""

    async def execute(self, query: str, *args: object) -> str:
        """Run statements."""
        ...

    async def fetchval(self, query: str, *args: object) -> Any:
        """The first value of the first row."""
        ...

    async def close(self) -> None:
        """End it."""
        ...

    def terminate(self) -> None:
        """End it without a word to the server."""
        ...


async def connect(dsn: str) -> Connection:
    """Connect to a server."""
    return cast("Connection", await cast("Any", asyncpg).connect(dsn))
