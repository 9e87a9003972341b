"""Row 2: `step.run` is memoized, and user code always receives the decoded value."""

import dataclasses
import enum
import math
import random
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypedDict

import pytest
from pydantic import BaseModel

import stepwell
from stepwell import Context, Event
from stepwell.testing import Durable

GO = Event(name="go", data={}, id="go-1")


async def test_random_values_are_drawn_once(durable: Durable) -> None:
    """What is non-deterministic inside a step runs once; every replay sees the recorded value."""
    seen: list[float] = []

    @stepwell.function(id="dice", triggers=[stepwell.on_event("go")])
    async def dice(ctx: Context) -> float:
        rolled = await ctx.step.run("roll", random.random)
        seen.append(rolled)
        await ctx.step.sleep("nap", "2h")
        return rolled

    run = await durable.send(dice, GO)
    await durable.advance(timedelta(hours=2))
    assert await run.result() == seen[0]
    assert seen == [seen[0], seen[0]]
    assert run.steps == ["roll", "nap"]


async def test_both_passes_see_the_decoded_value(durable: Durable) -> None:
    """A tuple without an annotation is a list on the first pass already, as it is on replay."""
    kinds: list[type] = []

    @stepwell.function(id="pair", triggers=[stepwell.on_event("go")])
    async def pair(ctx: Context) -> list[int]:
        def make():
            return (1, 2)

        value: Any = await ctx.step.run("pair", make)
        kinds.append(type(value))
        await ctx.step.sleep("nap", "2h")
        return value

    run = await durable.send(pair, GO)
    await durable.advance(timedelta(hours=2))
    assert await run.result() == [1, 2]
    assert kinds == [list, list]


class Color(enum.Enum):
    RED = "red"


class Address(TypedDict):
    street: str


@dataclasses.dataclass
class Person:
    name: str
    born: datetime


class Order(BaseModel):
    total: Decimal
    id: uuid.UUID
    color: Color


ORDER = Order(total=Decimal("1.10"), id=uuid.UUID(int=7), color=Color.RED)
PERSON = Person("Ada", datetime(1815, 12, 10, tzinfo=UTC))


def order() -> Order:
    return ORDER


def person() -> Person:
    return PERSON


def address() -> Address:
    return {"street": "St James's Square"}


def amount() -> Decimal:
    return Decimal("0.10")


def people() -> list[Person]:
    return [PERSON]


@pytest.mark.parametrize("fn", [order, person, address, amount, people], ids=lambda fn: fn.__name__)
async def test_annotated_types_come_back_as_themselves(durable: Durable, fn: Any) -> None:
    """pydantic models, dataclasses, TypedDicts, datetimes, Decimals, UUIDs and enums come back as themselves on both passes."""
    seen: list[Any] = []

    @stepwell.function(id="typed", triggers=[stepwell.on_event("go")])
    async def typed(ctx: Context) -> None:
        seen.append(await ctx.step.run("make", fn))
        await ctx.step.sleep("nap", "2h")

    run = await durable.send(typed, GO)
    await durable.advance(timedelta(hours=2))
    assert await run.result() is None
    assert seen == [fn(), fn()]
    assert {type(one) for one in seen} == {type(fn())}


def deep() -> Any:
    value: Any = 1
    for _ in range(70):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda: {"a": [math.nan]}, "a[0]"),
        (lambda: {1, 2}, "result"),
        (lambda: {"x": "a\0b"}, "x"),
        (lambda: "\ud800", "result"),
        (deep, "[0]"),
    ],
    ids=["nan", "set", "nul", "surrogate", "depth"],
)
async def test_what_is_no_json_fails_with_step_path_and_remedy(durable: Durable, make: Any, path: str) -> None:
    """NaN, sets, NUL, lone surrogates and over-deep values fail the step with an error that names step, path and remedy."""

    @stepwell.function(id="bad", triggers=[stepwell.on_event("go")], retries=0)
    async def bad(ctx: Context) -> None:
        await ctx.step.run("make", make)

    run = await durable.send(bad, GO)
    error = await run.error()
    assert "make" in error["message"]
    assert path in error["message"]
