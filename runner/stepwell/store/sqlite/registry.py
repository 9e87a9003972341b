"""What is registered: functions, schedules and what waits listen on, as one version. Runs on a connection's thread."""

from collections.abc import Iterable, Sequence

from stepwell.store.records import FunctionRow, Registry, ScheduleRow
from stepwell.store.sqlite.driver import Connection, Cursor
from stepwell.store.sqlite.writing import listed
from stepwell.store.statements import load

SQL = load("stepwell.store.sqlite", "verbs.sql")


def read_registry(cursor: Cursor) -> Registry:
    """One whole version."""
    version = int(cursor.execute(SQL["version"]).fetchone()[0])
    functions = tuple(FunctionRow(*row) for row in cursor.execute(SQL["functions"]))
    listens = tuple((row[0], row[1]) for row in cursor.execute(SQL["listens"]))
    schedules = tuple(ScheduleRow(*row) for row in cursor.execute(SQL["schedules"]))
    return Registry(version, functions, listens, schedules)


def register(
    connection: Connection, cursor: Cursor, owner: str, functions: Sequence[FunctionRow], schedules: Sequence[ScheduleRow]
) -> int:
    """Make these the owner's functions and schedules, all others of that owner gone; the version, moved if anything changed."""
    before = connection.total_changes()
    cursor.execute(SQL["drop_functions"], (owner, listed(row.function_id for row in functions)))
    for row in functions:
        cursor.execute(SQL["put_function"], (row.function_id, row.revision, row.pool, owner, row.spec))
    cursor.execute(SQL["drop_schedules"], (owner, listed(row.schedule_id for row in schedules)))
    for row in schedules:
        args = (row.schedule_id, row.function_id, owner, row.cron, row.created, row.last_due, row.next_due)
        cursor.execute(SQL["put_schedule"], args)
    return _version(cursor, moved=connection.total_changes() > before)


def start_listening(connection: Connection, cursor: Cursor, pairs: Iterable[tuple[str, str]]) -> int:
    """Listen on these pairs; the version, moved if one was new."""
    before = connection.total_changes()
    for pair in pairs:
        cursor.execute(SQL["listen"], pair)
    return _version(cursor, moved=connection.total_changes() > before)


def _version(cursor: Cursor, *, moved: bool) -> int:
    return int(cursor.execute(SQL["moved" if moved else "version"]).fetchone()[0])
