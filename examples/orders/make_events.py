"""Write `events.ndjson`: one busy Friday of the shop, one event a line. The same file each time.

    python examples/orders/make_events.py

Two hundred orders of every kind, the payments and cancellations that follow them, and what a real feed brings along: lines that
come twice, lines that contradict earlier ones, and lines that are no events at all.
"""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

FILE = Path(__file__).with_name("events.ndjson")
FRIDAY = 1_732_838_400_000
"""2024-11-29 in ms. In the past, because an event of the future waits for its time."""
CUSTOMERS = (
    *("Ada", "Alan", "Barbara", "Claude", "Donald", "Edsger", "Frances", "Grace", "Hedy", "Ida", "Joan", "John", "Karen"),
    *("Ken", "Leslie", "Lynn", "Margaret", "Maurice", "Niklaus", "Radia", "Robin", "Shafi", "Sophie", "Tim", "Tony"),
)
PRICES = {"lamp": 39_00, "chair": 75_00, "table": 240_00, "rug": 120_00, "clock": 55_00, "vase": 19_00}
TROUBLE = {"one jam": "mirror", "two jams": "wardrobe", "stuck lift": "piano", "discontinued": "unicorn"}
"""The article that makes an order one of its kind."""
CARDS = {"busy bank": "4000-0119", "declined": "4000-0002"}
CARD = "4000-0077"
KINDS = {
    "plain": 112,
    "one jam": 20,
    "two jams": 10,
    "busy bank": 14,
    "declined": 12,
    "unpaid": 10,
    "cancelled": 16,
    "discontinued": 6,
    "stuck lift": 4,
    "misfit": 3,
    "free": 5,
    "text total": 1,
}
"""How many orders of each kind. Those that are paid for: the first four."""
PAID = ("plain", "one jam", "two jams", "busy bank")
MALFORMED = (
    '{"name": "order/created", "id": "bad-1", "data": {"orderId": "B-1", ',
    "order/created;B-2;Ada;lamp;3900",
    '{"id": "bad-3", "data": {"orderId": "B-3", "total": 3900}}',
    '{"name": "", "id": "bad-4", "data": {"orderId": "B-4"}}',
    '{"name": 7, "id": "bad-5", "data": {"orderId": "B-5"}}',
    '{"name": "order/created", "id": "bad-6", "data": {"orderId": "B-6", "total": NaN}}',
    '{"name": "order/created", "id": "bad-7", "data": ["B-7", 3900]}',
    '{"name": "order/created", "id": "bad-8", "data": "B-8"}',
    '{"name": "order/created", "id": 9, "data": {"orderId": "B-9"}}',
    '{"name": "order/created", "id": "bad 10", "data": {"orderId": "B-10"}}',
    '{"name": "order/created", "id": "bad-11", "ts": "yesterday", "data": {"orderId": "B-11"}}',
    '{"name": "order/created", "id": "bad-12", "data": {"orderId": "B-12\\u0000"}}',
    '{"name": "stepwell/function.failed", "id": "bad-13", "data": {"function_id": "process-order"}}',
    '{"name": "inngest/function.cancelled", "id": "bad-14", "data": {"function_id": "process-order"}}',
    "42",
)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Line:
    """One line and where it belongs: the place of an order in the file, or between two."""

    place: float
    text: str


class Dice:
    """Chance that falls the same way each time, on every version of Python (which is promised for `random()` alone)."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def between(self, low: float, high: float) -> float:
        """A number from `low` up to `high`."""
        return low + self._random.random() * (high - low)

    def pick(self, things: Sequence[T]) -> T:
        """One of the things."""
        return things[int(self._random.random() * len(things))]

    def shuffled(self, things: Sequence[T]) -> list[T]:
        """The things in another order."""
        return [thing for _, thing in sorted(((self._random.random(), place), thing) for place, thing in enumerate(things))]


def make() -> str:
    """The whole file."""
    dice = Dice(20241129)
    kinds = dice.shuffled([kind for kind, count in KINDS.items() for _ in range(count)])
    orders = [(kind, order_of(kind, place + 1, dice)) for place, kind in enumerate(kinds)]
    lines: list[Line] = []
    for place, (kind, order) in enumerate(orders):
        lines.extend(journey(kind, order, float(place), dice))
    lines.extend(again(orders, lines, dice))
    lines.extend(strangers(dice))
    lines.extend(Line(dice.between(3, len(orders)), text) for text in MALFORMED)
    return "".join(f"{line.text}\n" for line in sorted(lines, key=lambda line: line.place))


def order_of(kind: str, number: int, dice: Dice) -> dict[str, Any]:
    """The data of one order."""
    articles = [dice.pick(tuple(PRICES)) for _ in range(1 + int(dice.between(0, 3)))]
    total = sum(PRICES[article] for article in articles)
    if kind in TROUBLE:
        articles.append(TROUBLE[kind])
    order: dict[str, Any] = {
        "orderId": f"A-{number:03}",
        "customer": dice.pick(CUSTOMERS),
        "articles": articles,
        "total": total,
        "card": CARDS.get(kind, CARD),
    }
    changed: dict[str, dict[str, Any]] = {
        "unpaid": {"payWithin": "2s"},
        "misfit": {"articles": ", ".join(articles)},
        "free": {"total": 0},
        "text total": {"total": f"{total // 100}.00"},
    }
    return order | changed.get(kind, {})


def journey(kind: str, order: dict[str, Any], place: float, dice: Dice) -> Iterator[Line]:
    """The order, and what follows from it some lines later."""
    yield line(place, "order/created", f"{order['orderId']}-created", order)
    later = place + dice.between(8, 30)
    if kind in PAID:
        yield line(later, "order/paid", f"{order['orderId']}-paid", {"orderId": order["orderId"], "cents": order["total"]})
    if kind == "cancelled":
        why = {"orderId": order["orderId"], "why": dice.pick(("changed my mind", "found it cheaper", "wrong colour"))}
        yield line(later, "order/cancelled", f"{order['orderId']}-cancelled", why)


def again(orders: Sequence[tuple[str, dict[str, Any]]], lines: Sequence[Line], dice: Dice) -> Iterator[Line]:
    """Lines that come a second time: word for word, with the same id but another body, and one order under two ids."""
    created = dice.shuffled([one for one in lines if '"order/created"' in one.text])
    paid = dice.shuffled([one for one in lines if '"order/paid"' in one.text])
    for first in (*created[:14], *paid[:5]):
        yield replace(first, place=first.place + dice.between(0.2, 25))
    for first in created[14:19]:
        other = json.loads(first.text)
        other["data"]["customer"] = "Mallory"
        yield Line(first.place + dice.between(0.2, 25), json.dumps(other))
    for first in paid[5:7]:
        other = json.loads(first.text)
        other["data"]["cents"] = 1
        yield Line(first.place + dice.between(0.2, 25), json.dumps(other))
    plain = [(place, order) for place, (kind, order) in enumerate(orders) if kind == "plain"]
    for place, order in dice.shuffled(plain)[:4]:
        yield line(place + dice.between(0.2, 25), "order/created", f"{order['orderId']}-created-by-telephone", order)


def strangers(dice: Dice) -> Iterator[Line]:
    """Events of orders that nobody knows, and others that the shop hears of."""
    for number in (901, 902, 903):
        yield line(dice.between(0, 200), "order/paid", f"A-{number}-paid", {"orderId": f"A-{number}", "cents": 39_00})
    yield line(dice.between(0, 200), "order/cancelled", "A-904-cancelled", {"orderId": "A-904", "why": "never ordered"})
    for number in (1, 2, 3):
        yield line(dice.between(0, 200), "order/returned", f"return-{number}", {"orderId": f"Z-{number}"})
    for number in (1, 2, 3, 4):
        yield line(50.0 * number, "report/requested", f"report-{number}", {"by": dice.pick(CUSTOMERS)})


def line(place: float, name: str, event_id: str, data: dict[str, Any]) -> Line:
    """One event as a line."""
    return Line(place, json.dumps({"name": name, "id": event_id, "ts": FRIDAY + int(place * 60_000), "data": data}))


if __name__ == "__main__":
    FILE.write_text(make(), encoding="utf-8")
    print(f"{FILE}: {len(FILE.read_text(encoding='utf-8').splitlines())} lines")
