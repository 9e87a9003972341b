"""The part of apsw that is used here, with types: its own are partly unknown to a strict checker."""

from collections.abc import Iterator, Sequence
from typing import Any, LiteralString, Protocol, cast

import apsw

Args = Sequence[Any] | dict[str, Any]


class Cursor(Protocol):
    """One cursor; iterating gives the rows of its last statement."""

    def execute(self, statements: LiteralString, bindings: Args = ()) -> "Cursor":
        """Run statements."""
        ...

    def fetchone(self) -> Any:
        """The next row, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """All rows that are left."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """The rows that are left."""
        ...


class Connection(Protocol):
    """One connection, for one thread at a time."""

    in_transaction: bool

    def cursor(self) -> Cursor:
        """A new cursor."""
        ...

    def execute(self, statements: LiteralString, bindings: Args = ()) -> Cursor:
        """Run statements on a new cursor."""
        ...

    def changes(self) -> int:
        """How many rows the last statement changed."""
        ...

    def total_changes(self) -> int:
        """How many rows all statements so far changed."""
        ...

    def set_busy_timeout(self, milliseconds: int) -> None:
        """How long to wait for a lock."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


def open_connection(path: str, *, read_only: bool) -> Connection:
    """Open the file; what goes wrong comes out as the driver has it."""
    flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    return cast("Connection", apsw.Connection(path, flags=flags, statementcachesize=400))
