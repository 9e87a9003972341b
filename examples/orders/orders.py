"""A small shop: what happens between an order and its parcel.

    order/created ──▶ process-order ──invoke──▶ charge-card
                        │   ▲   ▲
                        │   │   └── order/cancelled ends it ──▶ release-stock
                        │   └────── order/paid, from the bank, lets it go on
                        └── order/processed ──▶ thank-customer (thank-customer.yaml)

    order/*             ──▶ count-events
    report/requested, weekdays at 18:00 in Paris ──▶ daily-report
    every hour          ──▶ stock-take

`services.py` plays the warehouse, the bank and the post. Serve it all with `stepwell dev examples/orders`.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Literal

import services
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

import stepwell
from stepwell import Backoff, CancelOn, Concurrency, Context, Event, StepError, Timeouts

SOON = Backoff(strategy="fixed", base="500ms")
SAME_ORDER = "event.data.orderId == async.data.orderId"


class Order(BaseModel):
    """The data of `order/created`. Prices are in cents; `payWithin` is how long the goods are held for the customer."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True)

    order_id: str
    customer: str
    articles: list[str] = Field(min_length=1)
    total: int
    card: str
    pay_within: str = "15m"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an order ended: what `process-order` returns."""

    status: Literal["shipped", "declined", "expired"]
    detail: str


async def apologise(ctx: Context[Any]) -> str:
    """Runs as `process-order-failure` whenever a run of `process-order` has failed for good."""
    order, error = ctx.event.data["event"]["data"], ctx.event.data["error"]
    await ctx.step.run("apologise", services.write_mail, str(order["customer"]), f"We are sorry: {error['message']}")
    return str(order["orderId"])


@stepwell.function(
    id="process-order",
    triggers=[stepwell.on_event("order/created", Order, if_="event.data.total > 0")],
    retries=3,
    backoff=SOON,
    concurrency=[Concurrency(20), Concurrency(2, key="event.data.customer")],
    idempotency="event.data.orderId",
    cancel_on=[CancelOn("order/cancelled", if_=SAME_ORDER)],
    timeouts=Timeouts(start="10m", finish="1h"),
    on_failure=apologise,
)
async def process_order(ctx: Context[Order]) -> Outcome:
    """Take one order from the shelf to the post."""
    order, step = ctx.event.data, ctx.step

    customer = await step.run("load-customer", services.load_customer, order.customer)
    await step.run("reserve", services.reserve, order.articles)

    try:
        charge = {"orderId": order.order_id, "card": order.card, "cents": order.total}
        await step.invoke("charge", charge_card, data=charge, timeout="10m")
    except StepError as declined:
        await step.run("release", services.release, order.order_id)
        return Outcome("declined", declined.message)

    paid = await step.wait_for_event("paid", event="order/paid", if_=SAME_ORDER, timeout=order.pay_within)
    if paid is None:
        await step.run("release", services.release, order.order_id)
        return Outcome("expired", f"not paid within {order.pay_within}")

    await step.sleep("change-of-mind", "1s")
    parcel, invoice = await asyncio.gather(
        step.run("pack", services.pack, order.articles, customer.city),
        step.run("invoice", services.print_invoice, order.order_id, order.total),
    )
    done = {"orderId": order.order_id, "customer": customer.name, "total": order.total, "parcel": parcel.number}
    await step.send_event("announce", Event(name="order/processed", data=done))

    ctx.logger.info("shipped", order=order.order_id, parcel=parcel.number, invoice=invoice)
    return Outcome("shipped", parcel.number)


@stepwell.function(id="charge-card", retries=3, backoff=SOON, concurrency=10, idempotency="event.data.orderId")
async def charge_card(ctx: Context) -> str:
    """Ask the bank for the money, once for each order whoever asks; has no trigger, so it runs by invoke alone."""
    return await ctx.step.run("charge", services.charge, ctx.event.data["card"], ctx.event.data["cents"])


@stepwell.function(
    id="release-stock",
    triggers=[stepwell.on_event("stepwell/function.cancelled", if_="event.data.function_id == 'process-order'")],
    backoff=SOON,
)
async def release_stock(ctx: Context) -> str:
    """Clean up after an order that was cancelled: its own code is gone, so somebody else puts the goods back."""
    order_id = str(ctx.event.data["event"]["data"]["orderId"])
    await ctx.step.run("release", services.release, order_id)
    return order_id


@stepwell.function(id="count-events", triggers=[stepwell.on_event("order/*")], backoff=SOON)
async def count_events(ctx: Context) -> int:
    """Count whatever happens to orders, by name."""
    return await ctx.step.run("count", services.count, ctx.event.name)


@stepwell.function(
    id="daily-report",
    triggers=[stepwell.on_cron("TZ=Europe/Paris 0 18 * * 1-5"), stepwell.on_event("report/requested")],
    backoff=SOON,
)
async def daily_report(ctx: Context) -> dict[str, int]:
    """Add up the day's sales: on weekdays at 18:00 in Paris, and whenever somebody asks."""
    totals: dict[str, int] = {}
    for region in services.REGIONS:
        # One id in a loop is fine: steps are told apart by id and occurrence.
        totals[region] = await ctx.step.run("region-total", services.sales_of, region)
    return totals


@stepwell.function(id="stock-take", triggers=[stepwell.on_cron("@hourly", missed="Latest", overlap="Skip")], backoff=SOON)
async def stock_take(ctx: Context) -> int:
    """Count the shelves every hour; an hour that was missed is made up for, never twice at once."""
    return await ctx.step.run("count-shelves", services.count_shelves)
