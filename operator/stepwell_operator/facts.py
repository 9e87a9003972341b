"""What is known of one well: whether it can be used, what is registered in it, and what runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from stepwell.store.registry import FunctionRow, PauseRow, RevisionRow, RevisionWork, ScheduleRow

V = TypeVar("V")
READY = "Connected"
OWNER = "dfn/"


def owner_of(name: str) -> str:
    """Who owns the rows of a DurableFunction in its well."""
    return f"{OWNER}{name}"


def name_of(row: FunctionRow) -> str | None:
    """The DurableFunction that owns a row; None if it isn't one that owns it."""
    return row.owner.removeprefix(OWNER) if row.owner.startswith(OWNER) else None


WellKey = tuple[str, str]
"""Namespace and store name."""


@dataclass(slots=True)
class WellFacts:
    """A well as last looked at. `reason` is one of `StoreReady`'s; what is in it is only known while that is `Connected`.

    `zero_since`: when (monotonic seconds) a revision's runs were first seen to be none, without a break since.
    """

    namespace: str
    store: str
    reason: str = "Pending"
    message: str = "the well is being made"
    secret: str = ""
    digest: str = ""
    gateway: bool = False
    """Whether the gateway has a ready pod."""
    owners: frozenset[str] = frozenset()
    """Whom we last said to own what the well's functions share, by uid; nobody if they are too many, or nothing was said yet."""
    written: set[str] = field(default_factory=set[str])
    """The functions (by id) that were written to the store since the last look began: it may have read what was there before."""
    changed: set[str] = field(default_factory=set[str])
    """The functions (by id) of which looks found something else than was known, since that was last taken."""
    registry_version: int = -1
    functions: dict[str, FunctionRow] = field(default_factory=dict[str, FunctionRow])
    revisions: dict[str, Sequence[RevisionRow]] = field(default_factory=dict[str, "Sequence[RevisionRow]"])
    schedules: dict[str, Sequence[ScheduleRow]] = field(default_factory=dict[str, "Sequence[ScheduleRow]"])
    pauses: Mapping[str, PauseRow] = field(default_factory=dict[str, PauseRow])
    by_pool: dict[str, set[str]] = field(default_factory=dict[str, "set[str]"])
    work: Mapping[tuple[str, str], RevisionWork] | None = None
    zero_since: dict[tuple[str, str], float] = field(default_factory=dict[tuple[str, str], float])
    looked: float = 0.0
    since: float = 0.0
    """When (monotonic seconds) this operator first knew of it."""

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and store name."""
        return self.namespace, self.store

    def has_rows_of(self, name: str) -> bool:
        """Whether anything of a DurableFunction was in it when it was last looked at."""
        return any(row.owner == owner_of(name) for row in self.functions.values())

    @property
    def shown(self) -> tuple[str, str, str, bool]:
        """What of it shows in the statuses and pods of all its functions."""
        return self.reason, self.message, self.digest, self.gateway

    def functions_in(self, pool: str) -> set[str]:
        """The names of the DurableFunctions that have a revision in this pool."""
        found: set[str] = set()
        for function_id in self.by_pool.get(pool, ()):
            row = self.functions.get(function_id)
            name = name_of(row) if row is not None else None
            if name is not None:
                found.add(name)
        return found

    def newer(self, found: Mapping[str, V], known: Mapping[str, V]) -> dict[str, V]:
        """What a look found, by function id; of what was written since it began, what is known of it by that."""
        return {one: row for one, row in found.items() if one not in self.written} | {
            one: known[one] for one in self.written if one in known
        }

    def take_changed(self) -> set[str]:
        """The functions of which looks, whoever asked for them, found something new; each is taken once."""
        changed, self.changed = self.changed, set()
        return changed

    def picture(self) -> dict[str, list[Any]]:
        """What of a well shows in its functions' statuses, by function id."""
        picture: dict[str, list[Any]] = {}
        for (name, revision), row in (self.work or {}).items():
            picture.setdefault(name, []).append((revision, row.live, row.queued, row.due))
        for name, rows in self.schedules.items():
            picture.setdefault(name, []).extend((row.schedule_id, row.last_due, row.next_due) for row in rows)
        for name, row in self.functions.items():
            picture.setdefault(name, []).append((row.revision, row.pool, row.active, row.spec))
        for name, row in self.pauses.items():
            picture.setdefault(name, []).append(row)
        return picture

    def index(self) -> None:
        """Bring `by_pool` up to date with `revisions`."""
        by_pool: dict[str, set[str]] = {}
        for function_id, rows in self.revisions.items():
            for row in rows:
                by_pool.setdefault(row.pool, set()).add(function_id)
        self.by_pool = by_pool

    @property
    def ready(self) -> bool:
        """Whether the store answered and its schema is current."""
        return self.reason == READY
