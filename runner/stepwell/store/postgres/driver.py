"""The part of asyncpg that is used here, with types: the package itself carries few."""

import asyncio
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


class Meter(asyncio.Protocol):
    """Hands on what a server sends, `left` bytes at most: with more the connection is cut, before it is kept anywhere."""

    def __init__(self, inner: asyncio.Protocol, transport: asyncio.Transport, left: int) -> None:
        self._inner = inner
        self._transport = transport
        self.left = left

    def data_received(self, data: bytes) -> None:
        """Count them."""
        self.left -= len(data)
        if self.left < 0:
            self._transport.abort()
        else:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Hand it on."""
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Hand it on."""
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """Hand it on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Hand it on."""
        self._inner.resume_writing()


def allow(connection: Connection, most: int) -> Meter:
    """From now on the server may send so many bytes, until that is said again."""
    transport: asyncio.Transport = cast("Any", connection)._transport  # noqa: SLF001 - the driver has no bound of its own
    there = cast("asyncio.Protocol", transport.get_protocol())
    if isinstance(there, Meter):
        there.left = most
        return there
    made = Meter(there, transport, most)
    transport.set_protocol(made)
    return made
