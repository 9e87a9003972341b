"""The table at the end: what the file calls for beside what was found. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .expected import Calls

WIDTH = 44


@dataclass(frozen=True, slots=True)
class Row:
    """One number, as it should be and as it is."""

    group: str
    what: str
    wanted: int
    found: int

    @property
    def is_right(self) -> bool:
        """Whether the two agree."""
        return self.wanted == self.found


def rows_of(wanted: Calls, found: Calls) -> list[Row]:
    """Every number that the file calls for, and every number that was found without being called for."""
    return [
        *_group("events in", wanted.fates, found.fates),
        *_group("events stored", wanted.events, found.events),
        *_group("runs", _named(wanted.runs), _named(found.runs)),
        *_group("orders that completed", wanted.outcomes, found.outcomes),
        *_group("steps recorded", wanted.steps, found.steps),
        *_group("retries", wanted.retries, found.retries),
    ]


def lines_of(rows: Sequence[Row]) -> Iterator[str]:
    """The table, line by line; a number that is wrong says so."""
    yield f"  {'':{WIDTH}}{'called for':>12}{'found':>10}"
    group = ""
    for row in rows:
        if row.group != group:
            group = row.group
            of_group = [one for one in rows if one.group == group]
            yield f"  {group:{WIDTH}}{sum(one.wanted for one in of_group):>12}{sum(one.found for one in of_group):>10}"
        mark = "" if row.is_right else "   <- WRONG"
        yield f"    {row.what:{WIDTH - 2}}{row.wanted:>12}{row.found:>10}{mark}"


def _group(name: str, wanted: Mapping[str, int], found: Mapping[str, int]) -> Iterator[Row]:
    for what in sorted(set(wanted) | set(found)):
        if wanted.get(what, 0) or found.get(what, 0):
            yield Row(name, what, wanted.get(what, 0), found.get(what, 0))


def _named(runs: Mapping[tuple[str, str], int]) -> dict[str, Any]:
    return {f"{function} {status.lower()}": count for (function, status), count in runs.items()}
