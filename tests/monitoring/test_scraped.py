"""The real thing: Debian's Prometheus scrapes `stepwell dev` while the orders example runs, and every query has an answer."""

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from monitoring.queries import ask, queries, series_in
from monitoring.scraping import open_shop, serving
from monitoring.test_agreement import example

from stepwell_operator.monitoring.alerts import ALERTS
from stepwell_operator.monitoring.recording import recordings

__all__ = ["example"]

EMPTY: dict[str, str] = {
    "stepwell_paused_runs": "nothing is paused",
    "stepwell_run_progress_ratio": "no function of the example is named in STEPWELL_METRICS_STEPS",
    "stepwell_store_dead_tuples": "Postgres alone has dead rows to tell of",
    "stepwell_spans_lost_total": "no traces are sent",
    "stepwell_reconcile_total": "the operator's: there is none beside `dev`",
    "stepwell_reconcile_errors_total": "the operator's",
    "stepwell_reconcile_seconds_bucket": "the operator's",
    "stepwell_reconcile_queue_depth": "the operator's",
    "stepwell_watch_last_event_timestamp_seconds": "the operator's",
    "stepwell_api_requests_total": "the operator's",
    "stepwell_operator_leader": "the operator's",
    "stepwell_functions": "the operator's",
}
"""Series that this minute has no figures of, and why."""

CHANCE: dict[str, str] = {
    "stepwell_store_errors_total": "a file that another process holds for a moment is such an error",
    "stepwell_cron_lag_seconds_bucket": "the example's functions have a tick on the hour: most minutes see none",
}
"""Series that this minute has figures of or not, and what that hangs on."""


@pytest.mark.timeout(400)
async def test_every_query_has_an_answer(prometheus: Path, example: Callable[[str], Any], tmp_path: Path) -> None:
    """Every query of every panel and rule has data after a minute of the orders example, or stands on a list with its reason."""
    async with open_shop(example, tmp_path) as day, serving(prometheus, tmp_path, day.shop.url) as url:
        until = time.monotonic() + 90
        while not day.sender.done and time.monotonic() < until:
            await day._step()
        await asyncio.sleep(3)  # a scrape and an evaluation after the last of it
        answers = {where: await ask(day.api.session, url, "query", query=query) for where, query in queries().items()}
        health = await ask(day.api.session, url, "rules")
    broken = {where: answer for where, answer in answers.items() if answer["status"] != "success"}
    assert not broken
    empty = {where: queries()[where] for where, answer in answers.items() if not answer["data"]["result"]}
    unexplained = {where: query for where, query in empty.items() if not series_in(query) & {*EMPTY, *CHANCE}}
    assert not unexplained
    filled = {name for where, query in queries().items() if where not in empty for name in series_in(query)}
    assert not sorted(filled & set(EMPTY)), "there are figures: take these from the list"
    told = [rule for group in health["data"]["groups"] for rule in group["rules"]]
    assert len(told) == len(ALERTS) + len(list(recordings()))
    assert {rule["health"] for rule in told} == {"ok"}, [rule.get("lastError") for rule in told]
    firing = {rule["name"] for rule in told if rule.get("state") == "firing"}
    known = {
        "StepwellRunFailureRatioHigh",  # the example fails on purpose
        "StepwellRunStartLatencyBurn",  # a busy machine lets a run in a hundred wait for five seconds
    }
    assert firing <= known, "nothing else is wrong"


def test_the_lists_of_empties_name_what_there_is() -> None:
    """Each series on a list of empties is one that a query asks for."""
    asked = {name for query in queries().values() for name in series_in(query)}
    assert {*EMPTY, *CHANCE} <= asked
    assert sys.version_info >= (3, 11)
