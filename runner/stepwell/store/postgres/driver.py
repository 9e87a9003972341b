"""The part of asyncpg that is used here, with types: the package itself carries few."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, cast

import asyncpg


class Row(Protocol):
    """One row; values by name or place."""

    def __getitem__(self, key: str | int, /) -> Any:
        """The value of a column."""
        ...

    def values(self) -> Iterator[Any]:
        """The values in order."""
        ...


class Connection(Protocol):
    """One connection."""

    async def execute(self, query: str, *args: object) -> str:
        """Run statements and return the last one's tag."""
        ...

    async def fetch(self, query: str, *args: object) -> Sequence[Row]:
        """All rows."""
        ...

    async def fetchrow(self, query: str, *args: object) -> Row | None:
        """The first row, or None."""
        ...

    async def fetchval(self, query: str, *args: object) -> Any:
        """The first value of the first row, or None."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[object]:
        """A transaction block."""
        ...

    async def add_listener(self, channel: str, callback: Callable[[object, int, str, object], None]) -> None:
        """Call back for every notification on a channel."""
        ...

    async def close(self, *, timeout: float) -> None:
        """Say goodbye."""
        ...

    def terminate(self) -> None:
        """Close without saying goodbye."""
        ...

    def is_closed(self) -> bool:
        """Whether it is closed."""
        ...

    def get_server_pid(self) -> int:
        """The backend's process id."""
        ...


async def open_connection(dsn: str, **options: Any) -> Connection:
    """Connect; what goes wrong comes out as the driver has it."""
    return cast("Connection", await asyncpg.connect(dsn, **options))  # pyright: ignore[reportUnknownMemberType]
