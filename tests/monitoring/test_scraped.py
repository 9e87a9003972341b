"""The real thing: Debian's Prometheus scrapes `stepwell dev` while the orders example runs, and every query has an answer."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from monitoring.queries import ask, queries, series_in
from monitoring.test_agreement import ORDERS, example

from stepwell_operator.monitoring.alerts import ALERTS
from stepwell_operator.monitoring.recording import recordings
from stepwell_operator.monitoring.rules import rules_text

__all__ = ["example"]

EMPTY: dict[str, str] = {
    "stepwell_paused_runs": "nothing is paused",
    "stepwell_run_progress_ratio": "no function of the example is named in STEPWELL_METRICS_STEPS",
    "stepwell_store_dead_tuples": "Postgres alone has dead rows to tell of",
    "stepwell_store_errors_total": "the store did not fail",
    "stepwell_recovery_seconds_bucket": "no runner died under the eyes of another",
    "stepwell_spans_lost_total": "no traces are sent",
    "stepwell_cron_lag_seconds_bucket": "no tick came due in that minute",
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


@asynccontextmanager
async def serving(prometheus: Path, folder: Path, target: str) -> AsyncIterator[str]:
    """A Prometheus that scrapes the target every second; its address."""
    (folder / "rules.yaml").write_text(rules_text().replace("interval: 30s", "interval: 2s"), encoding="utf-8")
    settings = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "2s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [{"job_name": "stepwell", "static_configs": [{"targets": [target.removeprefix("http://")]}]}],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    port = free_port()
    log = (folder / "prometheus.log").open("wb")
    process = subprocess.Popen(
        [
            str(prometheus / "prometheus"),
            f"--config.file={folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=log,
        stderr=log,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as made:
        return int(made.getsockname()[1])


@pytest.mark.timeout(240)
async def test_every_query_has_an_answer(prometheus: Path, example: Callable[[str], Any], tmp_path: Path) -> None:
    """Every query of every panel and rule has data after a minute of the orders example, or stands on the list with its reason."""
    expected, day_module, shop_module = (example(f"proof.{name}") for name in ("expected", "day", "shop"))
    lines = expected.read((ORDERS / "events.ndjson").read_text(encoding="utf-8"))
    shop = shop_module.Shop(tmp_path)
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            parts = example("proof.api").Api(session, ""), example("proof.sender").Sender(lines)
            day = day_module.Day(shop, *parts, example("proof.progress").Progress(len(lines)))
            await shop.start()
            day.api.url = shop.url
            await day.api.until_ready()
            async with serving(prometheus, tmp_path, shop.url) as url:
                await until_scraped(session, url)
                until = time.monotonic() + 20
                while not day.sender.done and time.monotonic() < until:
                    await day._step()
                await asyncio.sleep(3)  # a scrape and an evaluation after the last of it
                answers = {where: await ask(session, url, "query", query=query) for where, query in queries().items()}
                health = await ask(session, url, "rules")
    finally:
        await shop.kill()
    broken = {where: answer for where, answer in answers.items() if answer["status"] != "success"}
    assert not broken
    empty = {where: queries()[where] for where, answer in answers.items() if not answer["data"]["result"]}
    unexplained = {where: query for where, query in empty.items() if not series_in(query) & set(EMPTY)}
    assert not unexplained
    filled = {name for where, query in queries().items() if where not in empty for name in series_in(query)}
    assert not filled & set(EMPTY), "there are figures: take these from the list"
    told = [rule for group in health["data"]["groups"] for rule in group["rules"]]
    assert len(told) == len(ALERTS) + len(list(recordings()))
    assert {rule["health"] for rule in told} == {"ok"}, [rule.get("lastError") for rule in told]
    firing = {rule["name"] for rule in told if rule.get("state") == "firing"}
    assert firing <= {"StepwellRunFailureRatioHigh"}, "the example fails on purpose; nothing else is wrong"


async def until_scraped(session: aiohttp.ClientSession, url: str) -> None:
    """Come back once Prometheus has the first figures."""
    for _ in range(300):
        try:
            if (await ask(session, url, "query", query="stepwell_build_info"))["data"]["result"]:
                return
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.1)
    raise AssertionError("Prometheus has scraped nothing after half a minute")


def test_the_list_of_empties_names_what_there_is() -> None:
    """Each series on the list of empties is one that a query asks for."""
    asked = {name for query in queries().values() for name in series_in(query)}
    assert set(EMPTY) <= asked
    assert sys.version_info >= (3, 11)
