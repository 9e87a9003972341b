"""Plans of the SQLite store: what is on the way of a run looks rows up by key, however many there are.

SQLite plans by statistics only after an ANALYZE, which a well never runs: so the plans of an empty well are those of a full one.
"""

import re

import apsw
import pytest

from stepwell.store.statements import load, migrations

PACKAGE = "stepwell.store.sqlite"
HOT = [(file, name) for file in ("pile.sql", "claims.sql") for name in load(PACKAGE, file)]
SMALL = {"registry", "runners", "outbox", "pauses"}
"""One row; one for each runner; what is read in its order up to a limit; and one for each function that somebody paused."""
RARE = {"held_by", "lost_by"}
"""Looks at all live runs, but only when a runner has died or left."""
NEARLY_EMPTY = "USING INDEX queue_poisoned"
"""An index of what hardly ever is."""


@pytest.fixture(scope="module")
def empty() -> apsw.Connection:
    """A well without rows."""
    connection = apsw.Connection(":memory:")
    for _name, text in migrations(f"{PACKAGE}.migrations"):
        connection.execute(text)
    return connection


@pytest.mark.parametrize(("file", "name"), HOT)
def test_hot_statements_scan_nothing(empty: apsw.Connection, file: str, name: str) -> None:
    """No statement of a pile or a claim reads a whole table that grows."""
    scans = [step for step in plan(empty, file, name) if step.startswith("SCAN") and "VIRTUAL TABLE" not in step]
    scanned = {step.split()[1] for step in scans if not step.endswith(NEARLY_EMPTY)}
    tables = {row[0] for row in empty.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    aliases = dict(re.findall(r"\b(?:FROM|JOIN|UPDATE) (\w+)(?: (\w))?", load(PACKAGE, file)[name]))
    named = {alias or table: table for table, alias in aliases.items()}
    found = {named.get(one, one) for one in scanned} & tables
    assert found <= SMALL or name in RARE


@pytest.mark.parametrize(
    "name", ["runs", "runs_of_function", "runs_of_event", "runs_completed", "runs_ended", "events", "events_named"]
)
def test_listings_sort_nothing(empty: apsw.Connection, name: str) -> None:
    """A page of runs or events is read from an index in its order; nothing is sorted but the page itself."""
    steps = plan(empty, "reads.sql", name)
    assert not [step for step in steps if "TEMP B-TREE FOR ORDER BY" in step]


def plan(connection: apsw.Connection, file: str, name: str) -> list[str]:
    """How SQLite would go about a statement."""
    text = "\n".join(line for line in load(PACKAGE, file)[name].splitlines() if not line.startswith("--"))
    names = dict.fromkeys(re.findall(r":([a-z_]+)\b", text))
    numbers = [int(number) for number in re.findall(r"\?(\d)", text)]
    args = names or [None] * (max(numbers) if numbers else text.count("?"))
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", args)]
