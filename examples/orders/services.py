"""The world around the shop, played by this file: a warehouse, a bank, a post office.

It fails as the world does, but by rule: what fails and how often depends on the article or the card alone, never on chance or
on time, so that one file of orders always ends the same way.
"""

import asyncio
import json
import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from stepwell import NonRetriableError, RetryAfterError, current_step

LIFT_JAMS = {"mirror": 1, "wardrobe": 2, "piano": 1000}
"""How many times in a row the warehouse's lift jams on its way to an article."""
DISCONTINUED = frozenset({"unicorn"})
DECLINED_CARD = "4000-0002"
BUSY_CARD = "4000-0119"
"""The bank behind this card is busy the first time it is asked."""
CITIES = ("Lisbon", "Lyon", "Oslo", "Vienna")
REGIONS = ("north", "south", "overseas")

_counted: Counter[str] = Counter()


@dataclass(frozen=True, slots=True)
class Customer:
    """Somebody who buys."""

    name: str
    city: str


@dataclass(frozen=True, slots=True)
class Parcel:
    """Something on its way."""

    number: str
    city: str


async def load_customer(name: str) -> Customer:
    """Look up a customer."""
    await _work(0.03)
    return Customer(name, CITIES[len(name) % len(CITIES)])


async def reserve(articles: list[str]) -> int:
    """Put the goods of an order aside; how many they are."""
    await _work(0.08)
    for article in articles:
        if article in DISCONTINUED:
            raise NonRetriableError(f"there is no {article} any more")
        if current_step().attempt < LIFT_JAMS.get(article, 0):
            raise ConnectionError(f"the lift to the {article} jams")
    return len(articles)


def release(order_id: str) -> str:
    """Put the goods of an order back."""
    _note()
    return order_id


async def charge(card: str, cents: int) -> str:
    """Take the money; the same idempotency key is never charged twice."""
    await _work(0.06)
    if card == DECLINED_CARD:
        raise NonRetriableError("the bank declines this card")
    if card == BUSY_CARD and current_step().attempt == 0:
        raise RetryAfterError("the bank is busy", "400ms")
    return f"{cents} cents, {current_step().idempotency_key}"


async def pack(articles: list[str], city: str) -> Parcel:
    """Make a parcel of the goods."""
    await _work(0.09)
    return Parcel(f"P{sum(map(len, articles)):03}-{current_step().run_id[-6:]}", city)


def print_invoice(order_id: str, cents: int) -> str:
    """Print an invoice. An ordinary function: it runs in a thread, so it may block."""
    _note()
    time.sleep(0.05)
    return f"invoice {order_id}: {cents // 100}.{cents % 100:02}"


def write_mail(to: str, text: str) -> str:
    """Write to a customer."""
    _note()
    return f"Dear {to}, {text}"


def count(name: str) -> int:
    """Count one more event of this name; how many there were since this process began."""
    _note()
    _counted[name] += 1
    return _counted[name]


async def sales_of(region: str) -> int:
    """Look up a region's sales of the day, in cents."""
    await _work(0.03)
    return 100_00 * len(region)


async def count_shelves() -> int:
    """Count what lies on the shelves."""
    await _work(0.03)
    return 4711


async def _work(seconds: float) -> None:
    """Be busy for a while, as a call over the network is."""
    _note()
    await asyncio.sleep(seconds)


def _note() -> None:
    """Write into the diary that the body of a step has begun; ORDERS_DIARY names its file, without it there is none."""
    diary = os.environ.get("ORDERS_DIARY")
    if diary:
        step = current_step()
        line = {"run": step.run_id, "step": step.id, "occurrence": step.occurrence, "attempt": step.attempt, "pid": os.getpid()}
        with Path(diary).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
