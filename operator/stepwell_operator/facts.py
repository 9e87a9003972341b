"""What is known of one well: whether it can be used, what is registered in it, and what runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stepwell.store.registry import FunctionRow, PauseRow, RevisionRow, RevisionWork, ScheduleRow

READY = "Connected"


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

    def functions_in(self, pool: str) -> set[str]:
        """The names of the DurableFunctions that have a revision in this pool."""
        found: set[str] = set()
        for function_id in self.by_pool.get(pool, ()):
            row = self.functions.get(function_id)
            if row is not None and row.owner.startswith("dfn/"):
                found.add(row.owner.removeprefix("dfn/"))
        return found

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
