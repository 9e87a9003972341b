"""All rows of a well, read past the store's verbs in one go, in a shape that is the same for both dialects.

`{payload}` columns are JSON as bytes; both dialects give them as text here. What only one dialect has, or numbers in its own way
(`seq`), shows in the order of the rows alone.
"""

import re
from collections import namedtuple
from typing import Any

from stepwell.store.statements import load

TABLES: dict[str, tuple[str, str, str]] = {
    "registry": ("version", "version", "version"),
    "functions": ("function_id revision pool owner spec! active?", "function_id", "function_id"),
    "listens": ("name path", "name, path", "name, path"),
    "schedules": (
        "schedule_id function_id owner cron! created last_due next_due last_run active?",
        "schedule_id",
        "schedule_id",
    ),
    "ticks": ("schedule_id due outcome reason run_id at", "schedule_id, due", "schedule_id, due"),
    "runners": ("runner_id slots expires draining?", "runner_id", "runner_id"),
    "event_ids": ("id received", "id", "id"),
    "events": ("id name data! ts received registry_version", "seq", "received, seq"),
    "decisions": ("event_id function_id decision detail received", "1, 2, 3, 4, 5", "1, 2, 3, 4, 5"),
    "runs": (
        "run_id function_id revision pool trigger input! event_ids created rerun_of registry_version",
        "run_id",
        "run_id",
    ),
    "run_events": ("event_id run_id", "event_id, run_id", "event_id, run_id"),
    "ends": ("run_id status value! started ended epoch", "run_id", "run_id"),
    "steps": ("run_id step_id occurrence kind ok? value! attempts started ended epoch", "run_id, rowid", "run_id, seq"),
    "attempts": ("run_id step_id occurrence attempt started ended error! retry_at", "1, 2, 3, 4, 5", "1, 2, 3, 4, 5"),
    "queue": (
        """run_id function_id revision pool priority due state since created runner_id epoch inbox key1 key2 blocked_on lifted attempt
        attempt_steps recoveries recovered_steps started deadline finish_within""",
        "run_id",
        "run_id",
    ),
    "waits": (
        "run_id kind step_id occurrence due opened attempt name match_key residual context! target_run detail!",
        "1, 2, 3, 4",
        "1, 2, 3, 4",
    ),
    "idempotency": ("function_id key run_id expires", "function_id, key", "function_id, key"),
    "outbox": ("run_id at", "run_id", "run_id"),
}
"""Columns (`!` a payload, `?` a yes or no), and the order in SQLite and in Postgres."""

ROWS: dict[str, Any] = {name: namedtuple(name, re.sub("[!?]", "", columns)) for name, (columns, *_order) in TABLES.items()}  # noqa: PYI024

Picture = dict[str, list[Any]]
"""The rows of each table."""


def sqlite_statement() -> str:
    """One statement that answers with all of it as JSON, each table's rows in order."""
    return "SELECT json_object(" + ", ".join(_sqlite_table(name) for name in TABLES) + ")"


def postgres_statement() -> str:
    """The same, followed by how many rows each statement of the doctor finds; $1 is now."""
    parts = [_postgres_table(name) for name in TABLES]
    doctor = load("stepwell.store.postgres", "doctor.sql")
    found = [f"'{name}', (select count(*) from ({text.rstrip().rstrip(';')}\n) d)" for name, text in doctor.items()]
    return f"select json_build_object({', '.join(parts)}) as rows, json_build_object({', '.join(found)}) as doctor".replace(
        "well.", ""
    )


def pictured(rows: dict[str, list[list[Any]]]) -> Picture:
    """The rows, out of either dialect's JSON."""
    return {name: [ROWS[name](*row) for row in rows[name] or ()] for name in TABLES}


def difference(one: Picture, other: Picture) -> list[str]:
    """What the first has that the second lacks, and the other way round; in other order, if that is all."""
    lines: list[str] = []
    for name in TABLES:
        if one[name] != other[name]:
            lines += [f"sqlite   {row}" for row in one[name] if row not in other[name]]
            lines += [f"postgres {row}" for row in other[name] if row not in one[name]]
            if sorted(map(repr, one[name])) == sorted(map(repr, other[name])):
                pairs = [pair for pair in zip(one[name], other[name], strict=True) if pair[0] != pair[1]]
                lines += [f"in another order:\nsqlite   {ours}\npostgres {theirs}" for ours, theirs in pairs]
    return lines


def _sqlite_table(name: str) -> str:
    columns, order, _ = TABLES[name]
    shown = [f"CAST({one[:-1]} AS TEXT)" if one.endswith("!") else one.rstrip("?") for one in columns.split()]
    names = ", ".join(one.rstrip("!?") for one in columns.split())
    inner = (
        f"SELECT json_array({', '.join(shown)}) AS made FROM (SELECT {names}, row_number() OVER () FROM {name} ORDER BY {order})"
    )
    return f"'{name}', json((SELECT json_group_array(json(made)) FROM ({inner})))"


def _postgres_table(name: str) -> str:
    columns, _, order = TABLES[name]
    shown = [f"convert_from({one[:-1]}, 'UTF8')" if one.endswith("!") else _number(one) for one in columns.split()]
    return f"'{name}', array(select json_build_array({', '.join(shown)}) from {name} order by {_places(order, columns)})"


def _number(column: str) -> str:
    return f"{column[:-1]}::integer" if column.endswith("?") else column


def _places(order: str, columns: str) -> str:
    """An order by places, by names: Postgres has one column here."""
    names = columns.replace("!", "").replace("?", "").split()
    return ", ".join(f"{names[int(one) - 1]}" if one.strip().isdigit() else one.strip() for one in order.split(","))
