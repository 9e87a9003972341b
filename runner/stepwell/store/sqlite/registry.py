"""What is registered: functions, schedules and what waits listen on, as one version. Runs on a connection's thread."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stepwell.store.registry import FunctionRow, PauseRow, Registry, RevisionRow, ScheduleRow
from stepwell.store.sqlite.claims import hold_paused
from stepwell.store.sqlite.driver import Connection, Cursor
from stepwell.store.sqlite.writing import Writing, listed
from stepwell.store.statements import load

SQL = load("stepwell.store.sqlite", "verbs.sql")


def read_registry(cursor: Cursor) -> Registry:
    """One whole version."""
    version = int(cursor.execute(SQL["version"]).fetchone()[0])
    functions = tuple(
        FunctionRow(*row, active=bool(active), since=since) for *row, active, since in cursor.execute(SQL["functions"])
    )
    listens = tuple((row[0], row[1]) for row in cursor.execute(SQL["listens"]))
    schedules = tuple(ScheduleRow(*row) for row in cursor.execute(SQL["schedules"]))
    pauses = tuple(PauseRow(*row) for row in cursor.execute(SQL["pauses"]))
    return Registry(version, functions, listens, schedules, pauses)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an owner asks to have registered."""

    owner: str
    functions: Sequence[FunctionRow]
    schedules: Sequence[ScheduleRow]
    revisions: Sequence[RevisionRow]


def register(connection: Connection, cursor: Cursor, wanted: Wanted) -> int:
    """Make these the owner's functions and schedules, all others of that owner gone; the version, moved if anything changed."""
    owner, functions, schedules = wanted.owner, wanted.functions, wanted.schedules
    before = connection.total_changes()
    cursor.execute(SQL["drop_functions"], (owner, listed(row.function_id for row in functions)))
    for row in functions:
        cursor.execute(SQL["put_function"], (row.function_id, row.revision, row.pool, owner, row.spec, row.active))
    cursor.execute(SQL["drop_schedules"], (owner, listed(row.schedule_id for row in schedules)))
    for row in schedules:
        args = (row.schedule_id, row.function_id, owner, row.cron, row.created, row.last_due, row.next_due)
        cursor.execute(SQL["put_schedule"], args)
    for row in wanted.revisions:
        cursor.execute(SQL["put_revision"], (row.function_id, row.revision, row.pool, row.code, row.created))
    return _version(cursor, moved=connection.total_changes() > before)


def forget_revision(connection: Connection, cursor: Cursor, function_id: str, revision: str) -> bool:
    """Drop a revision that nothing needs; whether it is gone."""
    if cursor.execute(SQL["revision_needed"], (function_id, revision)).fetchone()[0]:
        return False
    cursor.execute(SQL["drop_revision"], (function_id, revision))
    _version(cursor, moved=connection.changes() > 0)
    return True


def start_listening(connection: Connection, cursor: Cursor, pairs: Iterable[tuple[str, str]]) -> int:
    """Listen on these pairs; the version, moved if one was new."""
    before = connection.total_changes()
    for pair in pairs:
        cursor.execute(SQL["listen"], pair)
    return _version(cursor, moved=connection.total_changes() > before)


def pause(writing: Writing, row: PauseRow) -> bool:
    """Pause a function; False if it was paused already."""
    args = (row.function_id, row.since, row.paused_by, row.reason, row.source)
    return _paused(writing, "pause", args)


def resume(writing: Writing, function_id: str) -> bool:
    """Pause a function no longer; False if it was not paused."""
    hold_paused(writing)  # what fell due where no runner swept, so that it too is let go now
    return _paused(writing, "resume", (function_id,))


def _paused(writing: Writing, name: str, args: tuple[object, ...]) -> bool:
    writing.cursor.execute(SQL[name], args)
    changed = writing.connection.changes() > 0
    _version(writing.cursor, moved=changed)
    hold_paused(writing)
    return changed


def _version(cursor: Cursor, *, moved: bool) -> int:
    return int(cursor.execute(SQL["moved" if moved else "version"]).fetchone()[0])
