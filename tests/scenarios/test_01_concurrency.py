"""Row 1: concurrency, with keys and scopes, counted from live leases."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

import stepwell
from stepwell import Backoff, Concurrency, Context, Event
from stepwell.decorator import Function
from stepwell.engine.run import RunStatus
from stepwell.testing import Durable
from stepwell.why import Around, Why, waiting_for


class Gate:
    """Bodies that hold until they are let through, and how many were inside at once."""

    def __init__(self) -> None:
        self.inside: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.open = asyncio.Event()

    async def hold(self, name: str) -> None:
        self.inside[name] = self.inside.get(name, 0) + 1
        self.most[name] = max(self.most.get(name, 0), self.inside[name])
        try:
            await self.open.wait()
        finally:
            self.inside[name] -= 1


def held(gate: Gate, name: str, limits: int | Sequence[Concurrency]) -> Function[Any, Any]:
    @stepwell.function(id=name, triggers=[stepwell.on_event(name)], concurrency=limits)
    async def body(ctx: Context) -> None:
        await ctx.step.run("hold", gate.hold, str(ctx.event.data.get("user", "all")))

    return body


async def statuses(durable: Durable, function: Function[Any, Any]) -> list[RunStatus]:
    return sorted([await run.status() for run in await durable.runs(function)])


async def test_a_limit_holds_the_others_back(durable: Durable) -> None:
    """Never more runs execute than the limit; the others wait, say for what, and go on as slots are freed."""
    gate = Gate()
    function = held(gate, "two", 2)
    await durable.serve(function)
    await durable.send_event(*(Event(name="two", data={}) for _ in range(7)))
    assert await statuses(durable, function) == [RunStatus.QUEUED] * 5 + [RunStatus.RUNNING] * 2
    waiting = [row for run in await durable.runs(function) if (row := await run.row()).status is RunStatus.QUEUED]
    assert {row.blocked_on for row in waiting} == {"two"}
    gate.open.set()
    await durable.settle()
    assert await statuses(durable, function) == [RunStatus.COMPLETED] * 7
    assert gate.most == {"all": 2}


async def test_keys_are_counted_apart(durable: Durable) -> None:
    """With a key the limit holds for each value, and one user's backlog doesn't hold another's run back."""
    gate = Gate()
    function = held(gate, "keyed", [Concurrency(1, key="event.data.user")])
    await durable.serve(function)
    await durable.send_event(*(Event(name="keyed", data={"user": user}) for user in ("a", "a", "a", "b")))
    assert gate.inside == {"a": 1, "b": 1}
    gate.open.set()
    await durable.settle()
    assert await statuses(durable, function) == [RunStatus.COMPLETED] * 4
    assert gate.most == {"a": 1, "b": 1}


async def test_two_rules_and_the_namespace(durable: Durable) -> None:
    """A key of the namespace is shared by functions; a run needs room under both of its rules."""
    gate = Gate()
    shared = Concurrency(2, key='"shop"', scope="namespace")
    one, two = held(gate, "one", [Concurrency(1), shared]), held(gate, "other", [shared])
    await durable.serve(one, two)
    await durable.send_event(*(Event(name=name, data={}) for name in ("one", "one", "other", "other")))
    assert gate.inside == {"all": 2}
    gate.open.set()
    await durable.settle()
    assert await statuses(durable, one) + await statuses(durable, two) == [RunStatus.COMPLETED] * 4
    assert gate.most == {"all": 2}


async def test_sleeping_runs_hold_no_slot(durable: Durable) -> None:
    """A slot is a live lease: a sleeping run has none, and takes one again before it goes on."""

    @stepwell.function(id="naps", triggers=[stepwell.on_event("naps")], concurrency=1)
    async def naps(ctx: Context) -> str:
        await ctx.step.sleep("nap", "1h")
        return await ctx.step.run("after", lambda: "up")

    await durable.serve(naps)
    await durable.send_event(*(Event(name="naps") for _ in range(3)))
    assert await statuses(durable, naps) == [RunStatus.SLEEPING] * 3
    await durable.advance(timedelta(hours=1))
    assert await statuses(durable, naps) == [RunStatus.COMPLETED] * 3


async def test_a_run_that_a_limit_holds_back_after_its_sleep_is_queued(durable: Durable) -> None:
    """Once its sleep is over, its retry is due or its event has come, a run waits for a slot of its limit: it is queued, and blocked."""
    gate = Gate()
    tries: list[int] = []

    def refuse() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError("no answer")

    @stepwell.function(
        id="rests",
        triggers=[stepwell.on_event("rests")],
        concurrency=1,
        backoff=Backoff(strategy="fixed", base="1h", jitter=0),
    )
    async def rests(ctx: Context) -> None:
        match ctx.event.data["how"]:
            case "sleep":
                await ctx.step.sleep("nap", "1h")
            case "wait":
                await ctx.step.wait_for_event("told", event="tell", timeout="9h")
            case "retry":
                await ctx.step.run("refuse", refuse)
            case _:
                await ctx.step.run("hold", gate.hold, "all")

    await durable.serve(rests)
    runs = [await durable.send(rests, Event(name="rests", data={"how": how})) for how in ("sleep", "wait", "retry", "hold")]
    assert [await run.status() for run in runs] == [RunStatus.SLEEPING, RunStatus.WAITING, RunStatus.QUEUED, RunStatus.RUNNING]
    await durable.advance(timedelta(hours=1))
    await durable.send_event(Event(name="tell"))
    assert await statuses(durable, rests) == [RunStatus.QUEUED] * 3 + [RunStatus.RUNNING]
    for run in runs[:3]:
        row = await run.row()
        found = waiting_for(row, durable.clock.now(), Around(holders=(runs[3].run_id,), limit=1))
        assert found is not None
        assert found.sentence == f"blocked by the function's concurrency limit: 1/1 in use by run {runs[3].run_id}"
        assert (found.kind, found.since, found.next) == (Why.LIMIT, row.due, "it goes on when one of them ends, sleeps or waits")
    (figures,) = (await durable.store.stats(durable.clock.now())).functions
    assert (figures.queued, figures.running, figures.sleeping, figures.waiting, figures.blocked) == (3, 1, 0, 0, 3)
    gate.open.set()
    await durable.settle()
    assert await statuses(durable, rests) == [RunStatus.COMPLETED] * 4


async def test_a_crash_frees_the_slot(durable: Durable) -> None:
    """A runner that dies leaves no slot taken."""
    gate = Gate()
    function = held(gate, "one", 1)
    await durable.serve(function)
    await durable.send_event(*(Event(name="one", data={}) for _ in range(2)))
    gate.open.set()
    await durable.crash()
    assert await statuses(durable, function) == [RunStatus.COMPLETED] * 2


async def test_a_raised_limit_is_live(durable: Durable) -> None:
    """A raised limit lets waiting runs go on without a new event."""
    gate = Gate()
    await durable.serve(held(gate, "grow", 1))
    await durable.send_event(*(Event(name="grow", data={}) for _ in range(3)))
    assert gate.inside == {"all": 1}
    await durable.serve(held(gate, "grow", 3))
    await durable.advance(timedelta(seconds=2))
    assert gate.inside == {"all": 3}
    gate.open.set()


def test_more_than_two_rules_are_refused() -> None:
    """A function has at most two concurrency rules."""
    with pytest.raises(stepwell.StepwellError, match="concurrency"):
        stepwell.function(id="three", concurrency=[Concurrency(1), Concurrency(2), Concurrency(3)])
