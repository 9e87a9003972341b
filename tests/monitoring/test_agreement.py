"""Counters against rows: the orders example is lived through with a kill in the middle, and what was counted is what is stored."""

import asyncio
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import pytest
from monitoring.scraping import ORDERS, open_shop
from prometheus_client.parser import text_string_to_metric_families

EVERY = 0.1
COMMIT = 2.0
"""So much later than a body's end its commit is certain to have been counted, on a busy machine too."""
Key = tuple[str, ...]

ROWS: dict[str, str] = {
    # (labels …, µs) of each row that a counter stands for.
    "stepwell_runs_created_total": """
        SELECT r.function_id, CASE r.trigger WHEN 1 THEN 'event' WHEN 2 THEN 'cron' WHEN 3 THEN 'invoke' END, r.created
        FROM runs r LEFT JOIN ends e ON e.run_id = r.run_id WHERE e.status IS NOT 'skipped'""",
    "stepwell_runs_finished_total": """
        SELECT r.function_id, e.status, e.ended FROM ends e JOIN runs r ON r.run_id = e.run_id""",
    "stepwell_step_attempts_total": """
        SELECT r.function_id, 'ok', s.ended FROM steps s JOIN runs r ON r.run_id = s.run_id WHERE s.kind = 1 AND s.ok
        UNION ALL
        SELECT r.function_id, 'error', a.ended FROM attempts a JOIN runs r ON r.run_id = a.run_id""",
    "stepwell_step_retries_total": """
        SELECT r.function_id, a.ended FROM attempts a JOIN runs r ON r.run_id = a.run_id WHERE a.retry_at IS NOT NULL""",
    "stepwell_cron_ticks_total": """
        SELECT s.function_id, t.at FROM ticks t JOIN schedules s ON s.schedule_id = t.schedule_id""",
    "stepwell_flow_control_total": """
        SELECT r.function_id, 'skipped', e.ended FROM ends e JOIN runs r ON r.run_id = e.run_id WHERE e.status = 'skipped'""",
}
WAITS = """
    SELECT r.function_id, s.ended FROM steps s JOIN runs r ON r.run_id = s.run_id WHERE s.kind IN (3, 4, 6)"""
LABELS = {
    "stepwell_runs_created_total": ("function", "trigger"),
    "stepwell_runs_finished_total": ("function", "status"),
    "stepwell_step_attempts_total": ("function", "outcome"),
    "stepwell_flow_control_total": ("function", "decision"),
}
ATTEMPTS = "stepwell_step_attempts_total"


class Scrapes:
    """What was scraped last of each life of the process, and when."""

    def __init__(self, shop: Any) -> None:
        self.shop = shop
        self.last: dict[int, tuple[float, str]] = {}

    async def run(self, session: aiohttp.ClientSession) -> None:
        """Scrape on and on; a process that is gone is asked again when it is back."""
        while True:
            with suppress(aiohttp.ClientError, TimeoutError):
                await self.once(session)
            await asyncio.sleep(EVERY)

    async def once(self, session: aiohttp.ClientSession) -> None:
        pid, began = self.shop.pids[-1], time.time()
        async with session.get(f"{self.shop.url}/metrics") as answer:
            if answer.status == 200:
                self.last[pid] = (began, await answer.text())


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Import a part of the example's proof; forgotten again after the test."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(ORDERS))
    yield import_module
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "proof":
            del sys.modules[name]


def counted(text: str, name: str) -> Counter[Key]:
    """A counter's values by the labels that are compared; attempts that failed count together, what leaves no row doesn't."""
    found: Counter[Key] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and not _leaves_no_row(name, sample.labels):
                key = tuple(sample.labels[label] for label in LABELS.get(name, ("function",)))
                found[tuple("error" if name == ATTEMPTS and part == "timeout" else part for part in key)] += int(sample.value)
    return +found


def _leaves_no_row(name: str, labels: dict[str, str]) -> bool:
    return (name == ATTEMPTS and labels["outcome"] in {"cancelled", "fenced"}) or labels.get("reason") == "lost"


def stored(database: sqlite3.Connection, sql: str, after: float = 0.0, before: float = 1e12) -> Counter[Key]:
    """The rows that stand for it, of a span of time."""
    return Counter(row[:-1] for row in database.execute(sql) if after <= row[-1] / 1e6 < before)


@pytest.mark.timeout(600)
async def test_counters_agree_with_the_rows_over_a_kill(example: Callable[[str], ModuleType], tmp_path: Path) -> None:
    """What the second life counted is what it stored, to the row; of the first only what came after its last scrape is missing."""
    async with open_shop(example, tmp_path) as day:
        shop, session = day.shop, day.api.session
        scrapes = Scrapes(shop)
        scraping = asyncio.create_task(scrapes.run(session))
        while day.sender.sent < len(day.sender.lines) // 2:
            await day._step()
        await day.power_cut()
        await day.afternoon(example("proof.expected").calls_of(day.sender.lines).runs)
        assert not any((await day.api.live()).values()), "it is not settled"
        scraping.cancel()
        await scrapes.once(session)
        assert await shop.stop() == 0
    first, second = (scrapes.last[pid] for pid in shop.pids)
    database = sqlite3.connect(f"file:{shop.db}?mode=ro", uri=True)
    try:
        for name, sql in ROWS.items():
            # The same, unless a function's hour strikes between the last scrape and the end.
            until_then = stored(database, sql, after=day.killed_at, before=second[0])
            assert until_then <= counted(second[1], name) <= stored(database, sql, after=day.killed_at), name
            before = counted(first[1], name)
            assert before <= stored(database, sql, before=day.killed_at), name
            assert before >= stored(database, sql, before=first[0] - COMMIT), name
        waits = counted(first[1], "stepwell_waits_resolved_total") + counted(second[1], "stepwell_waits_resolved_total")
        lost = stored(database, WAITS, after=first[0] - COMMIT, before=day.killed_at + COMMIT)
        assert stored(database, WAITS) - lost <= waits <= stored(database, WAITS)
        assert counted(second[1], "stepwell_runs_recovered_total").total() > 0, "the kill interrupted runs"
        assert 'stepwell_recovery_seconds_count{cause="restart",namespace="default"}' in second[1]
        for name in ("stepwell_step_retries_total", "stepwell_waits_resolved_total"):
            assert counted(second[1], name).total() > 10, f"{name}: too little happened to say anything"
    finally:
        database.close()
