"""User code is hostile without meaning it: odd names, odd exceptions, a store that refuses. No run is left hanging."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

import stepwell
from stepwell import Context, Event, NonRetriableError
from stepwell.engine.events import NewEvent, make_fact
from stepwell.engine.pile import Op
from stepwell.engine.run import RunStatus
from stepwell.errors import StoreError, StoreUnavailable
from stepwell.store.records import Pile
from stepwell.store.results import PileResult
from stepwell.testing import Durable

GO = Event(name="go", data={})
HOUR = timedelta(hours=1)


def function(body: Any) -> Any:
    return stepwell.function(id="hostile", triggers=[stepwell.on_event("go")])(body)


async def failed_at_once(durable: Durable, body: Any) -> dict[str, Any]:
    """The error of a run that has to fail without another try."""
    run = await durable.send(function(body), GO)
    assert await run.status() is RunStatus.FAILED
    return dict(await run.error())


@pytest.mark.parametrize("step_id", ["", "a" * 129, "a\0b", "a\ud800b", "two\nlines", 7])
async def test_odd_step_ids_are_refused(durable: Durable, step_id: Any) -> None:
    """A step's id is text of 1 to 128 printable characters; what no store can hold never gets that far."""

    async def body(ctx: Context) -> None:
        await ctx.step.run(step_id, lambda: 1)

    error = await failed_at_once(durable, body)
    assert error["name"] == "StepMisuse"
    assert "a step id" in error["message"]


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (Event(name="", data={}), "an event needs a name"),
        (Event(name="a" * 256, data={}), "256 characters"),
        (Event(name="ok", data={}, id="x" * 129), "129 characters"),
        (Event(name="ok", data={}, id="a b"), "no spaces"),
        (Event(name="ok", data={}, ts=-5), "ts is a whole number"),
        (Event(name="ok", data={}, ts="x"), "ts is a whole number"),  # type: ignore[arg-type]
        (Event(name="ok", data={}, v=5), "v is text"),  # type: ignore[arg-type]
        (Event(name="ok", data=[1]), "must be a JSON object"),  # type: ignore[arg-type]
        ({"name": "ok"}, "an event is a stepwell.Event"),
    ],
)
async def test_odd_events_are_refused(durable: Durable, event: Any, told: str) -> None:
    """An event that code sends is held to what the gateway asks of one from outside; the error names step and field."""

    async def body(ctx: Context) -> None:
        await ctx.step.send_event("tell", [Event(name="fine", data={}), event])

    error = await failed_at_once(durable, body)
    assert error["name"] == "SpecError"
    assert "step 'tell': events[1]" in error["message"]
    assert told in error["message"]
    assert await durable.store.events("fine", None, 10) == []


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"event": ""}, "an event needs a name"),
        ({"event": "a\0"}, "printable characters"),
        ({"event": "app/*"}, "a wait names its event"),
        ({"event": "paid", "if_": "event.data.x =="}, "column 16"),
        ({"event": "paid", "if_": "1 + 1"}, "not true or false"),
    ],
)
async def test_waits_that_could_never_end_are_refused(durable: Durable, wanted: dict[str, str], told: str) -> None:
    """A wait for a name that no event has, or with a broken expression, fails the run at once and says what is wrong."""

    async def body(ctx: Context) -> None:
        await ctx.step.wait_for_event("hear", timeout="1d", **wanted)

    assert told in (await failed_at_once(durable, body))["message"]


@pytest.mark.parametrize("signal", ["", "a\ud800", "s" * 256])
async def test_odd_signals_are_refused(durable: Durable, signal: str) -> None:
    """A signal's name is text of 1 to 255 printable characters, for who waits and for who sends."""

    async def waits(ctx: Context) -> None:
        await ctx.step.wait_for_signal("hear", signal=signal)

    async def sends(ctx: Context) -> None:
        await ctx.step.send_signal("tell", signal=signal)

    assert "a signal's name" in (await failed_at_once(durable, waits))["message"]
    run = await durable.send(function(sends), Event(name="go", data={}, id="again"))
    assert "a signal's name" in (await run.error())["message"]


async def test_stop_iteration_from_a_thread_is_a_failed_try(durable: Durable) -> None:
    """A synchronous step that raises StopIteration, which no future can hold, fails like any other."""

    async def body(ctx: Context) -> str:
        return await ctx.step.run("next", lambda: next(iter([])), retries=0)

    run = await durable.send(function(body), GO)
    error = await run.error()
    assert "the step's code raised StopIteration" in error["message"]


async def test_a_group_of_step_errors_is_as_final_as_one(durable: Durable) -> None:
    """StepErrors out of a TaskGroup fail the run at once, with the first of them as the cause; a sibling's body is stopped."""

    def refuse() -> None:
        raise NonRetriableError("card refused")

    async def body(ctx: Context) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.step.run("charge", refuse))
            group.create_task(ctx.step.sleep("meanwhile", "1d"))

    error = await failed_at_once(durable, body)
    assert error["name"] == "ExceptionGroup"
    assert error["cause"]["name"] == "StepError"
    assert "card refused" in error["cause"]["message"]


async def test_a_group_with_an_ordinary_error_is_tried_again(durable: Durable) -> None:
    """An ordinary error in the group makes it an error like any other: the stretch is tried again."""

    async def body(ctx: Context) -> int:
        async def shaky() -> None:
            if ctx.attempt == 0:
                raise OSError("once")

        async with asyncio.TaskGroup() as group:
            group.create_task(shaky())
        return ctx.attempt

    run = await durable.send(function(body), GO)
    assert await run.status() is RunStatus.QUEUED
    await durable.advance(timedelta(minutes=1))
    assert await run.result() == 1


async def test_a_store_that_is_away_costs_a_wait_no_try(durable: Durable, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first wait for a name tells the store to listen for it; code waits until the store is there, and spends no try."""
    attempts: list[int] = []
    away = [StoreUnavailable("away"), StoreUnavailable("away")]
    listen = durable.store.inner.listen

    async def sometimes(pairs: Sequence[tuple[str, str]]) -> int:
        if away:
            raise away.pop()
        return await listen(pairs)

    monkeypatch.setattr(durable.store.inner, "listen", sometimes)

    async def body(ctx: Context) -> bool:
        attempts.append(ctx.attempt)
        return await ctx.step.wait_for_event("hear", event="paid", timeout="1h") is not None

    run = await durable.send(function(body), GO)
    await asyncio.sleep(0.3)  # the pauses between its questions are real ones
    await durable.settle()
    await durable.send_event(Event(name="paid", data={}))
    assert await run.result() is True
    assert set(attempts) == {0}


class Refusing:
    """Refuses turns that record this step, as a store does for what it can't hold."""

    def __init__(self, durable: Durable, monkeypatch: pytest.MonkeyPatch, step_id: str, times: int, error: Exception) -> None:
        self.left = times
        self._commit = durable.store.inner.commit
        self._step_id = step_id
        self._error = error
        monkeypatch.setattr(durable.store.inner, "commit", self.commit)

    async def commit(self, pile: Pile) -> PileResult:
        if self.left and any(step.step_id == self._step_id for turn in pile.turns for step in turn.steps):
            if len(pile.turns) == 1:
                self.left -= 1
            raise self._error
        return await self._commit(pile)


@pytest.mark.parametrize("error", [StoreError("no"), ValueError("no")], ids=["told", "untold"])
async def test_a_turn_that_the_store_refuses_is_a_failed_try(
    durable: Durable, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """What the store will not take is tried again after the back-off, from what is recorded; the run doesn't hang."""
    bodies: list[str] = []
    Refusing(durable, monkeypatch, "second", 1, error)

    async def body(ctx: Context) -> str:
        for name in ("first", "second"):
            await ctx.step.run(name, lambda name=name: bodies.append(name))
        await ctx.step.sleep("nap", "1s")
        return "through"

    run = await durable.send(function(body), GO)
    assert await run.status() is RunStatus.QUEUED
    await durable.advance(HOUR)
    assert await run.result() == "through"
    assert bodies == ["first", "second", "second"]


async def test_a_turn_that_is_always_refused_fails_the_run(durable: Durable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused five times, the run fails with the store's reason, and on_failure can hear of it."""
    Refusing(durable, monkeypatch, "only", 100, StoreError("it can't be held"))

    async def body(ctx: Context) -> None:
        await ctx.step.run("only", lambda: 1)

    run = await durable.send(function(body), GO)
    await durable.advance(HOUR)
    assert await run.status() is RunStatus.FAILED
    assert "it can't be held" in (await run.error())["message"]


async def test_a_bad_operation_fails_alone(durable: Durable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that share a pile with one whose turn breaks the store's code are not touched by it."""
    Refusing(durable, monkeypatch, "bad", 100, ValueError("a bug"))

    async def body(ctx: Context) -> str:
        return await ctx.step.run(ctx.event.data["id"], lambda: "done")

    await durable.serve(function(body))
    await durable.send_event(*(Event(name="go", data={"id": one}) for one in ("good", "bad", "fine", "well")))
    statuses = [await run.status() for run in await durable.runs("hostile")]
    assert statuses.count(RunStatus.COMPLETED) == 3
    assert statuses.count(RunStatus.QUEUED) == 1


async def test_a_run_that_its_runner_dropped_is_handed_back(durable: Durable) -> None:
    """A runner that thought its lease was over drops the run; if the lease was renewed after all, the run is handed back."""

    async def body(ctx: Context) -> str:
        await ctx.step.sleep("nap", "10s")
        return await ctx.step.run("after", lambda: "awake")

    run = await durable.send(function(body), GO)
    assert durable.worker is not None
    lease = durable.worker.lease
    until, lease.until = lease.until, 0
    try:
        await durable.advance(timedelta(seconds=10))
    finally:
        lease.until = until
    assert await run.status() is RunStatus.RUNNING
    durable.worker._nudge()  # its poll, which a set clock doesn't bring
    await durable.settle()
    assert await run.result() == "awake"


async def test_a_lease_that_is_found_gone_leaves_nothing_behind(durable: Durable) -> None:
    """A runner that hears that its lease is gone and enrols again hands back what no sweep had freed yet."""
    gate = asyncio.Event()

    async def body(ctx: Context) -> str:
        await ctx.step.run("long", gate.wait)
        return "through"

    run = await durable.send(function(body), GO)
    assert durable.worker is not None
    await durable.worker.lease_gone()
    gate.set()
    await durable.settle()
    await durable.advance(timedelta(seconds=5))
    assert await run.result() == "through"


async def test_a_listener_that_breaks_is_alone(durable: Durable) -> None:
    """What is written is told to each operation of the pile, even if one that was told before breaks; nothing is written again."""
    await durable.serve()
    told: list[int] = []

    def breaks(_done: object) -> None:
        raise ValueError("a bug")

    commits = durable.store.commits
    for number, tell in enumerate((breaks, lambda _done: told.append(1), breaks, lambda _done: told.append(2))):
        fact = make_fact(NewEvent("heard", {"n": number}), durable.clock.now(), durable.ids)
        durable.well.committer.put(Op(facts=(fact,), tell=tell))
    await durable.settle()
    assert told == [1, 2]
    assert durable.store.commits == commits + 1
    assert len(await durable.store.events("heard", None, 10)) == 4
