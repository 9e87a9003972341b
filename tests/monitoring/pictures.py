"""`make pictures`: the main boards as pictures for the docs, from a real Prometheus that watches a day of the orders example.

The shop is a copy of the example in which a few minutes show what a day does: the stock is taken every minute, the services are
slower, and fewer orders are worked on at once. There is a rush and, in the middle, a power cut.

Grafana doesn't draw them, for no package registry has it as something that runs: Debian doesn't package it, npm and PyPI have its
libraries and clients alone. Its JSON is checked in test_boards.py.
"""

import asyncio
import shutil
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import aiohttp

sys.path.insert(0, str(Path(__file__).parents[1]))

from monitoring.debian import prometheus_folder
from monitoring.drawing import Seen, draw
from monitoring.pictured import MAIN, board_of, picture_of
from monitoring.queries import RANGES, ask, replaced
from monitoring.scraping import ORDERS, open_shop, scrape, serving

CHANGED = (
    ("orders.py", '"@hourly"', '"* * * * *"'),
    ("orders.py", "Concurrency(20)", "Concurrency(6)"),
    ("services.py", "asyncio.sleep(seconds)", "asyncio.sleep(seconds * 8)"),
)
"""What is another in the copy than in the example."""
FOOT = (
    "Drawn by `make pictures` from this board's JSON and real figures of the orders example (stock taken every minute, "
    "slower services, lower limits, a power cut), not by Grafana."
)
STEP = 1
"""Seconds between the points of a line."""
SECONDS = 150.0
"""From opening to closing, about."""
PAUSES = (2.0, 0.15, 3.0)
"""Seconds between two batches of events: in the morning, in the rush, in the afternoon."""
RATE = "20s"


async def main() -> None:
    """Live through the day, ask what every panel asks, and draw."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        sys.path.insert(0, str(_copy(folder / "orders")))
        async with open_shop(import_module, folder) as day, serving(prometheus_folder(), folder, day.shop.url) as url:
            began = int(time.time())
            await _live_through_the_day(day, folder)
            times = range(began, int(time.time()), STEP)
            for name in MAIN:
                board = board_of(name)
                seen = Seen(await _answers(day.api.session, url, board, times), times)
                draw(board, seen, FOOT, picture_of(name))
                print(f"{picture_of(name)}: {picture_of(name).stat().st_size // 1024} KiB")


def _copy(folder: Path) -> Path:
    shutil.copytree(ORDERS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name, old, new in CHANGED:
        text = (folder / name).read_text(encoding="utf-8")
        assert old in text, f"{old} is no longer in {name} of the orders example: mend CHANGED in {__file__}"
        (folder / name).write_text(text.replace(old, new), encoding="utf-8")
    return folder


async def _live_through_the_day(day: Any, folder: Path) -> None:
    until = time.monotonic() + SECONDS
    lines = len(day.sender.lines)
    await _send(day, lines * 3 // 10, PAUSES[0])
    await _send(day, lines * 6 // 10, PAUSES[1])
    await day.power_cut()
    scrape(folder, day.shop.url)
    await _send(day, lines, PAUSES[2])
    while time.monotonic() < until:
        await asyncio.sleep(STEP)


async def _send(day: Any, lines: int, pause: float) -> None:
    while day.sender.sent < lines:
        await day._step()
        await asyncio.sleep(pause)


async def _answers(session: aiohttp.ClientSession, url: str, board: dict[str, Any], times: range) -> dict[int, Any]:
    """What Prometheus answers to each panel, as Grafana would have asked it: lines over the span, tables at its end."""
    start, end = times[0], times[-1]
    ranges = RANGES | {"$__rate_interval": RATE, "$__range": f"{end - start}s"}
    found: dict[int, Any] = {}
    for panel in board["panels"]:
        found[panel["id"]] = []
        for target in panel["targets"]:
            when = {"time": f"{end}"} if target["instant"] else {"start": f"{start}", "end": f"{end}", "step": f"{STEP}"}
            path = "query" if target["instant"] else "query_range"
            answer = await ask(session, url, path, query=replaced(target["expr"], ranges), **when)
            assert answer["status"] == "success", f"{panel['title']}: {answer}"
            found[panel["id"]].append(answer["data"]["result"])
    return found


if __name__ == "__main__":
    asyncio.run(main())
