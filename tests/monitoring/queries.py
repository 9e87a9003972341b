"""Every query that a board or a rule asks, and what Prometheus answers to it."""

import re
from collections.abc import Mapping
from typing import Any

import aiohttp

from stepwell_operator.monitoring.alerts import ALERTS
from stepwell_operator.monitoring.boards import BOARDS
from stepwell_operator.monitoring.recording import recordings

RANGES = {"$__rate_interval": "30s", "$__range": "5m", "$namespace": ".*", "$function": ".*"}


def queries() -> dict[str, str]:
    """Every query of a panel, of a recording rule, and what stands before the threshold of each alert, by where it stands."""
    found: dict[str, str] = {}
    for board in BOARDS:
        for panel in board.panels:
            for place, ask in enumerate(panel.asks):
                found[f"{board.name} / {panel.title} {place}"] = ask.expr
    found |= {name: expr for name, expr in recordings()}
    for alert in ALERTS:
        for place, part in enumerate(operands(alert.expr)):
            found[f"{alert.name} {alert.severity} {place}"] = part
    return {where: replaced(query) for where, query in found.items()}


def operands(expr: str) -> list[str]:
    """What an alert compares, without what it is compared with, so that a query has an answer though nothing is wrong."""
    flat = re.split(r"\s(?:and|or|unless on \([^)]*\))\s", expr)
    return [re.split(r"\s(?:>=|>)\s", part.strip())[0].strip() for part in flat]


def replaced(query: str, values: Mapping[str, str] = RANGES) -> str:
    """The query with the board's variables filled in."""
    for name, value in values.items():
        query = query.replace(name, value)
    depth = query.count("(") - query.count(")")
    return query.lstrip("(") if depth > 0 else query


async def ask(session: aiohttp.ClientSession, url: str, path: str, **query: str) -> Any:
    """What Prometheus answers."""
    async with session.get(f"{url}/api/v1/{path}", params=query) as answer:
        return await answer.json()


def series_in(query: str) -> set[str]:
    """The series of ours in a query."""
    return set(re.findall(r"\bstepwell[a-z0-9_:]+", query))
