"""A pile under way, and the two shapes of statement that it is written with.

Every call of SQLite gives up the interpreter's lock, and a busy event loop hands it back only after a while: what a pile costs is
counted in calls, not in rows. So a kind goes in by a few `INSERT`s of many rows, all else takes its keys as one JSON array, and
what is read comes back as one row that holds JSON.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, LiteralString, cast

import orjson

from stepwell.store.records import Pile
from stepwell.store.sqlite.driver import Connection, Cursor
from stepwell.store.statements import load

SQL = load("stepwell.store.sqlite", "pile.sql")
AT_ONCE = (128, 32, 8, 2, 1)
"""How many rows one `INSERT` may take: few sizes, so that all of them stay prepared."""

Key = tuple[str, int, str, int]
"""An open wait: run, kind, step, occurrence."""


@dataclass(slots=True)
class Writing:
    """The pile, its instant, the registry's version, and what the answer will say.

    `fenced` are the places of turns that don't land; `late` those and the ends that were sent again: neither writes anything.
    `ended` are the runs that this pile has ended so far. `stands_in` maps a start's run to the one that stands for it.
    """

    connection: Connection
    cursor: Cursor
    pile: Pile
    now: int
    version: int
    fenced: set[int] = field(default_factory=set[int])
    late: set[int] = field(default_factory=set[int])
    ended: set[str] = field(default_factory=set[str])
    stands_in: dict[str, str] = field(default_factory=dict[str, str])
    ready: set[str] = field(default_factory=set[str])
    touched: set[str] = field(default_factory=set[str])
    freed: list[str] = field(default_factory=list[str])

    def run(self, name: str, *args: Any) -> int:
        """Execute a named statement; how many rows it changed."""
        self.cursor.execute(SQL[name], args)
        return self.connection.changes()

    def read(self, name: str, *args: Any) -> Any:
        """The JSON array or object that a named statement returns."""
        return orjson.loads(self.cursor.execute(SQL[name], args).fetchone()[0])

    def insert(self, name: str, flat: list[Any]) -> int:
        """Insert rows, given end to end in one list; how many went in."""
        width, sizes = _sizes(name)
        before = self.connection.total_changes()
        at, end = 0, len(flat)
        for rows, text in sizes:
            step = rows * width
            while end - at >= step:
                self.cursor.execute(text, flat[at : at + step] if step < end else flat)
                at += step
        return self.connection.total_changes() - before


def listed(keys: Iterable[Any]) -> str:
    """A JSON array as the argument of a statement."""
    return orjson.dumps(list(keys)).decode()


def in_chunks(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    """The items, so many at a time."""
    return (items[at : at + size] for at in range(0, len(items), size))


@cache
def _sizes(name: str) -> tuple[int, list[tuple[int, LiteralString]]]:
    """How many columns an `INSERT … VALUES (?, …) …` has, and its texts for each number of rows."""
    found = re.fullmatch(r"(.*\bVALUES )(\([?, ]+\))(.*)", SQL[name], re.DOTALL)
    if found is None:
        raise ValueError(f"{name} is no INSERT of values")
    head, row, tail = found.groups()
    texts = [(rows, head + ", ".join([row] * rows) + tail) for rows in AT_ONCE]
    return row.count("?"), cast("list[tuple[int, LiteralString]]", texts)
