"""What is registered and what runs in a well, read whole and looked through: whoever owns it may have written anything there."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

from stepwell.errors import AnswerTooLarge, StoreError
from stepwell.store.postgres import PostgresStore
from stepwell.store.registry import FunctionRow, PauseRow, Registry, RevisionRow, RevisionWork, ScheduleRow

MOST_READ = 32 * 1024 * 1024
"""How many bytes a Postgres may answer to one question; ten thousand functions of one namespace take a half of it."""
UNREADABLE = "the well holds what can't be read: somebody has changed its tables, or it is no well of Stepwell's; restore it"
_TYPES: dict[type, dict[str, Any]] = {
    kind: get_type_hints(kind) for kind in (FunctionRow, RevisionRow, RevisionWork, ScheduleRow, PauseRow)
}


class Unreadable(StoreError):
    """The store answered with what can't be rows of a well; the message holds nothing of it."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What one look has found, in a query each."""

    registry: Registry
    revisions: Sequence[RevisionRow]
    work: Sequence[RevisionWork]


async def contents_of(store: PostgresStore) -> Contents:
    """Read all of it; raise Unreadable, and StoreError if the store doesn't answer."""
    try:
        found = Contents(await store.registry(), await store.revisions(), await store.work())
        rows = (*found.registry.functions, *found.registry.schedules, *found.registry.pauses, *found.revisions, *found.work)
        readable = type(found.registry.version) is int and _are_rows(rows)
    except AnswerTooLarge as error:
        raise Unreadable(f"the well holds more than the operator reads: {error}") from None
    except StoreError:
        raise
    except Exception:  # noqa: BLE001 - whatever reading stumbles over, it is in the tables
        raise Unreadable(UNREADABLE) from None
    if not readable:
        raise Unreadable(UNREADABLE)
    return found


def _are_rows(rows: Iterable[object]) -> bool:
    """Whether every field has the type that it says."""
    return all(isinstance(getattr(row, name), kind) for row in rows for name, kind in _TYPES[type(row)].items())
