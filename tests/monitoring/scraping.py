"""A shop of the orders example that is open, and a Prometheus that scrapes it."""

import asyncio
import json
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from monitoring.queries import ask

from stepwell_operator.monitoring.rules import rules_text

ORDERS = Path(__file__).parents[2] / "examples" / "orders"
BUDGETS = {
    "proof.shop": {"START_SECONDS": 120.0, "STOP_SECONDS": 60.0},
    "proof.day": {"NOON_SECONDS": 60.0, "SENDING_SECONDS": 90.0, "SETTLING_SECONDS": 120.0},
}
"""Seconds by the part of the example that they are for. Its own are for people who watch, on a machine of their own."""


@asynccontextmanager
async def open_shop(part: Callable[[str], Any], folder: Path) -> AsyncIterator[Any]:
    """The example's day, its shop open and nothing sent yet; killed in the end. `part` imports a part of the example."""
    for name, budgets in BUDGETS.items():
        for budget, seconds in budgets.items():
            assert hasattr(part(name), budget)
            setattr(part(name), budget, seconds)
    lines = part("proof.expected").read((ORDERS / "events.ndjson").read_text(encoding="utf-8"))
    shop = part("proof.shop").Shop(folder)
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
            parts = part("proof.api").Api(session, ""), part("proof.sender").Sender(lines)
            day = part("proof.day").Day(shop, *parts, part("proof.progress").Progress(len(lines)))
            await day._open()
            yield day
    finally:
        await shop.kill()


@asynccontextmanager
async def serving(prometheus: Path, folder: Path, target: str) -> AsyncIterator[str]:
    """A Prometheus that scrapes the target every second and has its first figures; its address."""
    (folder / "rules.yaml").write_text(rules_text().replace("interval: 30s", "interval: 2s"), encoding="utf-8")
    settings = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "2s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [{"job_name": "stepwell", "file_sd_configs": [{"files": ["targets.json"]}]}],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    scrape(folder, target)
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
        await _until_scraped(f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def scrape(folder: Path, target: str) -> None:
    """Have the Prometheus of this folder scrape the shop at this address from now on; it is the same shop wherever it is."""
    found = [{"targets": [target.removeprefix("http://")], "labels": {"instance": "shop"}}]
    written = folder / "targets.new"
    written.write_text(json.dumps(found), encoding="utf-8")
    written.rename(folder / "targets.json")  # never half a file under the name that is watched


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as made:
        return int(made.getsockname()[1])


async def _until_scraped(url: str) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        for _ in range(1200):
            try:
                if (await ask(session, url, "query", query="stepwell_build_info"))["data"]["result"]:
                    return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)
    raise AssertionError("Prometheus has scraped nothing after two minutes")
