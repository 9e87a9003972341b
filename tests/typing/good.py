"""User code that must type-check, without a cast."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import assert_type

from pydantic import BaseModel

import stepwell
from stepwell import (
    Backoff,
    CancelOn,
    Client,
    Concurrency,
    Context,
    Event,
    NonRetriableError,
    RetryAfterError,
    StepError,
    Timeouts,
)


class Order(BaseModel):
    order_id: str
    total: int


@dataclass
class Receipt:
    order_id: str


async def load(order_id: str, *, fresh: bool = False) -> Receipt:
    stepwell.current_step().progress(0.4, "120/300")
    return Receipt(order_id + str(fresh))


def price(order: Order) -> int:
    stepwell.current_step().progress(1)
    return order.total


@stepwell.function(id="child")
async def child(ctx: Context) -> int:
    return len(ctx.event.data)


@stepwell.function(
    id="typed",
    triggers=[stepwell.on_event("order/created", Order, if_="event.data.total > 1"), stepwell.on_cron("@daily", overlap="Skip")],
    retries=3,
    backoff=Backoff(strategy="fixed", base="1s"),
    concurrency=[Concurrency(5, key="event.data.order_id")],
    idempotency="event.data.order_id",
    cancel_on=[CancelOn("order/cancelled", if_="event.data.order_id == async.data.order_id")],
    timeouts=Timeouts(start="5m", finish=timedelta(hours=1)),
)
async def typed(ctx: Context[Order]) -> Receipt:
    assert_type(ctx.event.data.total, int)
    assert_type(await ctx.step.run("load", load, ctx.event.data.order_id), Receipt)
    assert_type(await ctx.step.run("load-fresh", load, "7", fresh=True), Receipt)
    assert_type(await ctx.step.run("price", price, ctx.event.data), int)
    assert_type(await ctx.step.run("retried", load, "7", retries=2, timeout="5s"), Receipt)
    assert_type(await ctx.step.invoke("child", child, {"a": 1}), int)
    paid = await ctx.step.wait_for_event("paid", event="order/paid", timeout="3d")
    if paid is not None:
        assert_type(paid.name, str)
    first, second = await asyncio.gather(ctx.step.run("a", load, "a"), ctx.step.run("b", price, ctx.event.data))
    assert_type(first, Receipt)
    assert_type(second, int)
    assert_type(await ctx.step.send_event("say", [Event(name="a"), Event(name="b", data={"n": 1})]), list[str])
    await ctx.step.sleep("nap", timedelta(minutes=5))
    await ctx.step.sleep_until("due", datetime.now(UTC))
    try:
        await ctx.step.run("fails", load, "x")
    except StepError as error:
        ctx.logger.info("failed", name=error.name, step=error.step_id)
        raise NonRetriableError(error.message) from error
    if ctx.attempt == ctx.max_attempts:
        raise RetryAfterError("later", timedelta(seconds=5))
    return first


async def send() -> list[str]:
    async with Client("http://127.0.0.1:8288", "key") as client:
        return await client.send(Event(name="order/created", data={"order_id": "7", "total": 5}))
