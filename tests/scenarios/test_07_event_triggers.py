"""Row 7: event triggers."""

import pytest

import stepwell
from stepwell import Context, Event
from stepwell.testing import Durable


async def test_a_filter_decides(durable: Durable) -> None:
    """A trigger's `if` starts a run only where it is true."""

    @stepwell.function(id="big", triggers=[stepwell.on_event("order", if_="event.data.total > 100")])
    async def big(ctx: Context) -> int:
        return ctx.event.data["total"]

    await durable.serve(big)
    await durable.send_event(*(Event(name="order", data={"total": total}) for total in (50, 100, 101, 500)))
    assert [await run.result() for run in await durable.runs(big)] == [101, 500]


async def test_wildcards(durable: Durable) -> None:
    """`app/*` and `app/user.*` match every name under them."""

    @stepwell.function(id="all", triggers=[stepwell.on_event("app/*")])
    async def everything(ctx: Context) -> str:
        return ctx.event.name

    @stepwell.function(id="users", triggers=[stepwell.on_event("app/user.*")])
    async def users(ctx: Context) -> str:
        return ctx.event.name

    await durable.serve(everything, users)
    await durable.send_event(*(Event(name=name) for name in ("app/user.created", "app/order", "apple/x", "app")))
    assert sorted([await run.result() for run in await durable.runs(everything)]) == ["app/order", "app/user.created"]
    assert [await run.result() for run in await durable.runs(users)] == ["app/user.created"]


async def test_several_matching_triggers_start_one_run(durable: Durable) -> None:
    """Where several triggers of a function match one event, it runs once."""

    @stepwell.function(
        id="once", triggers=[stepwell.on_event("a/b"), stepwell.on_event("a/*"), stepwell.on_event("a/b", if_="true")]
    )
    async def once(ctx: Context) -> None: ...

    await durable.serve(once)
    await durable.send_event(Event(name="a/b"))
    assert len(await durable.runs(once)) == 1


def test_a_broken_expression_is_refused_with_its_column() -> None:
    """An expression that doesn't compile is refused at registration, with path, column and the names there are."""
    with pytest.raises(stepwell.StepwellError) as caught:
        stepwell.function(id="typo", triggers=[stepwell.on_event("order", if_="evnt.data.total > 100")])
    assert "evnt" in str(caught.value)
    assert "event" in str(caught.value)
    assert "column" in str(caught.value) or "^" in str(caught.value)


def test_ten_triggers_are_the_most() -> None:
    """A function has at most ten triggers, and no two alike."""
    with pytest.raises(stepwell.StepwellError, match="triggers"):
        stepwell.function(id="many", triggers=[stepwell.on_event(f"e{n}") for n in range(11)])
    with pytest.raises(stepwell.StepwellError, match="triggers"):
        stepwell.function(id="twice", triggers=[stepwell.on_event("e"), stepwell.on_event("e")])


async def test_an_error_is_no_match_recorded_and_counted(durable: Durable) -> None:
    """An expression that errs on an event doesn't match and doesn't block others; it is recorded and counted."""

    @stepwell.function(id="strict", triggers=[stepwell.on_event("order", if_="event.data.total > 100")])
    async def strict(ctx: Context) -> None: ...

    @stepwell.function(id="easy", triggers=[stepwell.on_event("order")])
    async def easy(ctx: Context) -> None: ...

    await durable.serve(strict, easy)
    [receipt] = await durable.send_event(Event(name="order", data={}))
    assert await durable.runs(strict) == []
    assert len(await durable.runs(easy)) == 1
    [(function, decision, detail)] = await durable.store.decisions(receipt.id)
    assert (function, decision) == ("strict", "expression error")
    assert "total" in detail
    assert b'stepwell_expression_errors_total{function="strict",kind="trigger"' in durable.metrics.render()[0]


async def test_a_model_types_the_data(durable: Durable) -> None:
    """With a model the data is read as one; data that doesn't fit fails the run and names the field."""
    from pydantic import BaseModel

    class Order(BaseModel):
        total: int

    @stepwell.function(id="typed", triggers=[stepwell.on_event("order", Order)])
    async def typed(ctx: Context[Order]) -> int:
        return ctx.event.data.total + 1

    good = await durable.send(typed, Event(name="order", data={"total": 4}))
    assert await good.result() == 5
    bad = await durable.send(typed, Event(name="order", data={"total": "many"}))
    assert "event.data.total" in (await bad.error())["message"]


async def test_a_future_ts_delays_the_start(durable: Durable) -> None:
    """An event whose `ts` lies in the future starts its runs then."""
    from datetime import timedelta

    @stepwell.function(id="later", triggers=[stepwell.on_event("go")])
    async def later(ctx: Context) -> int:
        return durable.clock.now()

    at = durable.clock.now() // 1000 + 3_600_000
    run = await durable.send(later, Event(name="go", ts=at))
    assert (await run.status()).value == "queued"
    await durable.advance(timedelta(hours=1))
    assert await run.result() == at * 1000
