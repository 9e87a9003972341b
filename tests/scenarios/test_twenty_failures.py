"""Twenty seeded failures: from `stepwell runs list` (or `events list`) to the named cause in at most three commands.

Each seeds one failure in a real store, with a real runner and a real gateway on a socket, and is then looked for by somebody who
knows nothing but the command line. What only a cluster can break is in tests/cluster/test_named_causes.py.
"""

import asyncio
import contextlib
import io
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

import stepwell
from stepwell import Backoff, Concurrency, Context, Event, NonRetriableError, Timeouts, cli
from stepwell.codes import Codes
from stepwell.decorator import Function
from stepwell.engine.registration import registration
from stepwell.engine.well import Well
from stepwell.gateway.app import make_app
from stepwell.gateway.serve import Doorstep, address, listen, serving
from stepwell.invoke import LocalCode
from stepwell.metrics import Metrics
from stepwell.settings import GatewaySettings
from stepwell.store.registry import RevisionRow
from stepwell.testing import Durable
from stepwell.worker import Worker, WorkerOptions

MOST = 3
ID = re.compile(r"\b[0-9A-HJKMNP-TV-Z]{26}\b")


class Finder:
    """Somebody at a terminal, who may give three commands."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.given = 0

    async def ask(self, *words: str) -> str:
        """What one command prints."""
        self.given += 1
        assert self.given <= MOST, "the cause is to be found in three commands"
        return await asyncio.to_thread(self._run, [*words, "--url", self.url])

    async def run_of(self, function: str, status: str) -> str:
        """`runs list`, read as people do: the newest run of this function, in this status."""
        listed = await self.ask("runs", "list")
        line = next(line for line in listed.splitlines() if line.split()[1:2] == [status] and line.endswith(function))
        return line.split()[0]

    def _run(self, arguments: list[str]) -> str:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            cli.main(arguments)
        return out.getvalue()


@asynccontextmanager
async def looking(durable: Durable) -> AsyncIterator[Finder]:
    """A gateway of its own over the kit's store, on a socket."""
    well = Well(durable.well.store, durable.clock, Metrics("gateway"), "gateway", durable.ids)
    await well.refresh()
    listener = listen("127.0.0.1", 0)
    async with serving(make_app(well, GatewaySettings(open=True)), listener):
        yield Finder(address(listener))


def made(name: str, body: Callable[[Context], Awaitable[Any]], **options: Any) -> Function[Any, Any]:
    given = {"triggers": [stepwell.on_event(name)], "backoff": Backoff(strategy="fixed", base="1m"), **options}

    async def function(ctx: Context) -> Any:
        return await body(ctx)

    return stepwell.function(id=name, **given)(function)


async def nap(ctx: Context) -> None:
    await ctx.step.sleep("nap", "1h")


async def hold(ctx: Context) -> None:
    await ctx.step.run("hold", asyncio.Event().wait)


async def sent(durable: Durable, function: Function[Any, Any], **data: Any) -> None:
    await durable.serve(function)
    await durable.send_event(Event(name=function.id, data=data))


async def cause_of_run(durable: Durable, name: str, status: str, *words: str) -> None:
    """Two commands: the list, then the run."""
    async with looking(durable) as finder:
        told = await finder.ask("runs", "get", await finder.run_of(name, status))
        for word in words:
            assert word in told, told


async def cause_of_event(durable: Durable, *words: str) -> None:
    """Three commands: no run is listed, so the events are, then the event."""
    async with looking(durable) as finder:
        assert not ID.search(await finder.ask("runs", "list"))
        listed = await finder.ask("events", "list")
        event_id = listed.splitlines()[1].split()[0]
        told = await finder.ask("events", "get", event_id)
        for word in words:
            assert word in told, told


async def test_01_a_step_fails_again_and_again(durable: Durable) -> None:
    """The step, its error, the attempt and the next one's time."""

    async def body(ctx: Context) -> None:
        async def charge() -> None:
            raise TimeoutError("the bank doesn't answer")

        await ctx.step.run("charge", charge)

    await sent(durable, made("pay", body))
    words = "retrying step charge in 1 m (attempt 2/5): TimeoutError: the bank doesn't answer"
    await cause_of_run(durable, "pay", "QUEUED", words, "until     ")


async def test_02_the_code_between_steps_fails(durable: Durable) -> None:
    """The same for the code between steps."""

    async def body(ctx: Context) -> None:
        raise KeyError(ctx.run_id[:0] + "customer")

    await sent(durable, made("pay", body))
    await cause_of_run(durable, "pay", "QUEUED", "retrying the code between steps in 1 m (attempt 2/5): KeyError: 'customer'")


async def test_03_a_run_failed(durable: Durable) -> None:
    """The error of a run that has failed for good, and the step that it came from."""

    async def body(ctx: Context) -> None:
        async def charge() -> None:
            raise NonRetriableError("no money")

        await ctx.step.run("charge", charge)

    await sent(durable, made("pay", body))
    await cause_of_run(durable, "pay", "FAILED", "no money", "charge")


async def test_04_a_wait_compares_with_what_is_not_there(durable: Durable) -> None:
    """A wait whose condition has a typing error shows that the path is missing in the run's own event."""

    async def body(ctx: Context) -> None:
        await ctx.step.wait_for_event("paid", event="paid", if_="event.data.orderID == async.data.orderId", timeout="3d")

    await sent(durable, made("order", body), orderId="7")
    words = "waiting for paid where event.data.orderID == async.data.orderId with event.data.orderID is missing (timeout in 3 d)"
    await cause_of_run(durable, "order", "WAITING", words)


async def test_05_a_signal_never_comes(durable: Durable) -> None:
    """The signal's name, and until when."""

    async def body(ctx: Context) -> None:
        await ctx.step.wait_for_signal("hear", signal="order-7", timeout="1h")

    await sent(durable, made("order", body))
    await cause_of_run(
        durable, "order", "WAITING", "waiting for signal order-7 (timeout in 1 h)", "goes on when the signal is sent"
    )


async def test_06_a_limit_is_used_up(durable: Durable) -> None:
    """The limit, how much of it is used, and by which run."""
    function = made("pack", hold, concurrency=1)
    await sent(durable, function)
    await durable.send_event(Event(name="pack"))
    (holder,) = [run for run in await durable.runs("pack") if (await run.status()).value == "running"]
    words = f"blocked by the function's concurrency limit: 1/1 in use by run {holder.run_id}"
    await cause_of_run(durable, "pack", "QUEUED", words)


async def test_07_a_key_of_a_limit_is_used_up(durable: Durable) -> None:
    """The key by its value."""
    function = made("pack", hold, concurrency=Concurrency(1, key="event.data.user"))
    await sent(durable, function, user="ada")
    await durable.send_event(Event(name="pack", data={"user": "bob"}), Event(name="pack", data={"user": "ada"}))
    await cause_of_run(durable, "pack", "QUEUED", "blocked by concurrency key ada: 1/1 in use by run ")


async def test_08_no_runner_is_up(durable: Durable) -> None:
    """The pool that nobody serves."""
    await durable.serve(made("pack", nap))
    await durable.worker.drain(timedelta(0))
    async with looking(durable) as finder:
        await finder.ask("send", "pack")
        told = await finder.ask("runs", "get", await finder.run_of("pack", "QUEUED"))
        assert "no runner: none is alive for pool 'default' and function 'pack'; due since" in told


async def test_09_the_runners_lack_the_function(durable: Durable) -> None:
    """Runners of the pool are up, and none has the function."""
    await durable.serve(made("other", nap))
    asked = registration("elsewhere", [(made("pack", nap).spec, "r1")], "default", durable.clock.now())
    await durable.store.register(asked.owner, asked.functions, ())
    await durable.well.refresh()
    await durable.send_event(Event(name="pack"))
    await cause_of_run(durable, "pack", "QUEUED", "no runner: 1 runner of pool 'default' alive, but none has function 'pack'")


async def test_10_all_slots_are_taken(durable: Durable) -> None:
    """How many slots there are, and that all are in use."""
    durable.options = WorkerOptions(slots=1)
    await sent(durable, made("pack", hold))
    await durable.send_event(Event(name="pack"))
    await durable.clock.advance_to(durable.clock.now() + 1_000_000)
    await cause_of_run(durable, "pack", "QUEUED", "waiting for a free runner slot: 1/1 in use")


async def test_11_a_runner_was_killed(durable: Durable) -> None:
    """A run under the lease of a dead runner isn't called running."""
    await sent(durable, made("pack", hold))
    await durable.stop()
    await durable.store.expire_all()
    await cause_of_run(durable, "pack", "RUNNING", "no runner: none is alive for pool 'default'", " died: its lease is over")


async def test_12_the_code_of_a_revision_is_gone(durable: Durable) -> None:
    """A run whose revision no runner can load names the revision, and what it could not import."""
    pack = made("pack", nap)
    await durable.serve(pack)
    await durable.worker.drain(timedelta(0))
    (row,) = (await durable.store.registry()).functions
    worker = durable.worker = Worker(durable.well, (), WorkerOptions(register=False))
    await worker.adopt(
        Codes(
            by_revision={("pack", "another"): LocalCode(pack)},
            broken={("pack", row.revision): "shop.py:3: no module named 'tax'"},
        )
    )
    await worker.start()
    await durable.send_event(Event(name="pack"))
    words = f"can't load revision {row.revision} of function 'pack': shop.py:3: no module named 'tax'; it is asked again at"
    await cause_of_run(durable, "pack", "QUEUED", words, "mend the code there")


async def test_13_an_event_is_misspelt(durable: Durable) -> None:
    """Nothing listens to the name, and the nearest one is told."""
    await durable.serve(made("pack", nap, triggers=[stepwell.on_event("order/created")]))
    await durable.send_event(Event(name="order/creatd"))
    words = "no function has a trigger for the name 'order/creatd'; the nearest is pack, which listens to order/created"
    await cause_of_event(durable, words)


async def test_14_a_condition_is_false(durable: Durable) -> None:
    """The condition and the value that it saw."""
    await durable.serve(made("pack", nap, triggers=[stepwell.on_event("go", if_="event.data.total > 100 && event.data.paid")]))
    await durable.send_event(Event(name="go", data={"total": 80, "paid": True}))
    await cause_of_event(durable, "pack: not matched", "event.data.total > 100 is false (event.data.total = 80)")


async def test_15_a_condition_cannot_be_said(durable: Durable) -> None:
    """The expression and its error."""
    await durable.serve(made("pack", nap, triggers=[stepwell.on_event("go", if_="event.data.user.age > 17")]))
    await durable.send_event(Event(name="go", data={"usr": {"age": 20}}))
    await cause_of_event(durable, "pack: expression error", "event.data.user.age > 17: ", "user")


async def test_16_an_event_is_a_duplicate(durable: Durable) -> None:
    """The first run, and the value that both share."""
    first = await durable.send(made("pack", nap, idempotency="event.data.orderId"), Event(name="pack", data={"orderId": "7"}))
    await durable.advance(timedelta(seconds=1))
    await durable.send_event(Event(name="pack", data={"orderId": "7"}))
    await cause_of_run(durable, "pack", "SKIPPED", f"run {first.run_id} has the same idempotency key")
    async with looking(durable) as finder:
        listed = await finder.ask("events", "list")
        told = await finder.ask("events", "get", listed.splitlines()[1].split()[0])
        assert (
            f'duplicate of run {first.run_id}: idempotency event.data.orderId has the same value (event.data.orderId = "7")'
            in told
        )


async def test_17_a_function_is_suspended(durable: Durable) -> None:
    """The function that would have started rests."""
    pack = made("pack", nap)
    await durable.serve(pack)
    (row,) = (await durable.store.registry()).functions
    await durable.store.register(row.owner, (), (), [RevisionRow("pack", row.revision, row.pool, b'{"handler":"pack"}', 0)])
    await durable.well.refresh()
    await durable.send_event(Event(name="pack"))
    await cause_of_event(durable, "pack: inactive", "it is suspended or was deleted, and starts no run")


async def test_18_an_event_lies_in_the_future(durable: Durable) -> None:
    """When its run becomes due."""
    await durable.serve(made("pack", nap))
    ahead = durable.clock.now() // 1000 + 3_600_000
    await durable.send_event(Event(name="pack", ts=ahead))
    await cause_of_run(durable, "pack", "QUEUED", "queued until ", "(in 1 h)")


async def test_19_a_child_is_held_back(durable: Durable) -> None:
    """A parent names the run that it waits for, and that one names its limit: the third command."""
    child = made("child", hold, concurrency=1)

    async def body(ctx: Context) -> None:
        await ctx.step.invoke("ask", child)

    await sent(durable, child)
    await sent(durable, made("parent", body))
    async with looking(durable) as finder:
        told = await finder.ask("runs", "get", await finder.run_of("parent", "WAITING"))
        found = re.search(r"waiting for run (\w+) of child", told)
        assert found, told
        assert "blocked by the function's concurrency limit: 1/1 in use" in await finder.ask("runs", "get", found[1])


async def test_20_a_run_took_too_long(durable: Durable) -> None:
    """The timeout that cancelled a run."""
    await sent(durable, made("pack", nap, timeouts=Timeouts(finish="5m")))
    await durable.advance(timedelta(minutes=6))
    await cause_of_run(durable, "pack", "CANCELLED", "FinishTimeout", "timeouts.finish of 'pack' passed")


async def test_21_the_store_is_away(durable: Durable) -> None:
    """One command says that the gateway is there and its store is not."""
    listener = listen("127.0.0.1", 0)
    async with serving(Doorstep(make_app(durable.well, GatewaySettings(open=True))), listener):
        told = await Finder(address(listener)).ask("runs", "list")
    assert "the store can't be used now" in told
    assert "503" in told


@pytest.mark.parametrize("number", range(1, 21))
def test_there_are_twenty(number: int) -> None:
    """The suite has a failure for each number."""
    assert [name for name in globals() if name.startswith(f"test_{number:02}_")]
