"""What is registered in a well: functions, their revisions, schedules and pauses; the conventions are those of `records.py`."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class FunctionRow:
    """One registered function. `spec` is the JSON of its FunctionSpec; `owner` says who registered it (a pool, a manifest).

    One that isn't `active` starts nothing; its runs in flight go on. It is known as long as it has a revision. `since` is the
    version of the registry from which on it has been as it is; a store sets it.
    """

    function_id: str
    revision: str
    pool: str
    owner: str
    spec: bytes
    active: bool = True
    since: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class RevisionRow:
    """One version of a function that runs may be pinned to. `code` is JSON: `{"handler": …}`, and `"onFailure"` where it has one.

    It stands for `<function_id>-failure` under the same revision too.
    """

    function_id: str
    revision: str
    pool: str
    code: bytes
    created: int


@dataclass(frozen=True, slots=True)
class RevisionWork:
    """The live runs of one function and revision in one pool.

    `live` counts all of them. `queued` are neither leased nor asleep nor waiting: retries too, blocked ones, and those whose
    sleep or wait is over; `due` could be claimed now, `running` are leased; `next_due` is the earliest later instant at which one
    falls due, None if none does.
    """

    function_id: str
    revision: str
    pool: str
    live: int
    queued: int
    due: int
    running: int
    next_due: int | None


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """One cron schedule of a function. `next_due` is 0 until it was first planned; `last_due` the last accounted instant."""

    schedule_id: str
    function_id: str
    cron: bytes
    """JSON of the cron trigger: expression, jitter, missed, window, overlap."""
    created: int
    last_due: int
    next_due: int


@dataclass(frozen=True, slots=True)
class PauseRow:
    """A function whose runs wait, since when and because of whom. `source` is `api` or `manifest` (an annotation)."""

    function_id: str
    since: int
    paused_by: str
    reason: str = ""
    source: str = "api"


HELD = "!"
"""What begins the key that a paused function's due runs are blocked on; no concurrency key begins so."""


@dataclass(frozen=True, slots=True)
class Registry:
    """One whole version of what a well knows: functions, the (event name, path) pairs that waits listen on, schedules."""

    version: int = 0
    functions: tuple[FunctionRow, ...] = ()
    listens: tuple[tuple[str, str], ...] = ()
    schedules: tuple[ScheduleRow, ...] = ()
    pauses: tuple[PauseRow, ...] = ()
