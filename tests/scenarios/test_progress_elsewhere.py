"""How far a step is, asked of a process that doesn't execute it: known from the runner's last beat, with when it was said."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from stores import KINDS, postgres_store, sqlite_store

import stepwell
from stepwell import Context
from stepwell.clock import SystemClock, rfc3339
from stepwell.engine.events import NewEvent
from stepwell.engine.well import Well
from stepwell.gateway.app import make_app
from stepwell.metrics import Metrics
from stepwell.settings import GatewaySettings
from stepwell.worker import Worker, WorkerOptions


class Apart:
    """A runner, and a gateway of the same well that executes nothing."""

    def __init__(self, runner: Well, http: httpx.AsyncClient) -> None:
        self.runner = runner
        self.http = http
        self.workers: list[Worker] = []

    async def serve(self, function: Any) -> Worker:
        worker = Worker(self.runner, [function], WorkerOptions(owner=function.id))
        await worker.start()
        self.workers.append(worker)
        return worker

    async def beat(self) -> None:
        """The runner's beat, now and not in ten seconds."""
        beat = self.workers[0]._beat
        assert beat is not None
        await asyncio.to_thread(beat.beat)

    async def run(self, run_id: str) -> dict[str, Any]:
        answer = await self.http.get(f"/v1/runs/{run_id}")
        return answer.json()["data"]


@pytest.fixture(params=KINDS)
async def apart(request: pytest.FixtureRequest) -> AsyncIterator[Apart]:
    """Two wells on one store, as two processes have them."""
    clock = SystemClock()
    now = clock.now
    made = sqlite_store(now) if request.param == "sqlite" else postgres_store(now, request.getfixturevalue("postgres_dsn"))
    async with made as (store, _tamper):
        runner, gateway = (Well(store, SystemClock(), Metrics(part), part) for part in ("runner", "gateway"))
        await runner.refresh()
        await gateway.refresh()
        transport = httpx.ASGITransport(make_app(gateway, GatewaySettings(open=True)))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8288") as http:
            one = Apart(runner, http)
            yield one
        for worker in one.workers:
            await worker.stop()
        for well in (runner, gateway):
            well.abandon()


async def asked_in_vain(_store: object, run_id: str) -> list[Any]:
    """In place of the store's verb, where it is not to be asked."""
    raise AssertionError(run_id)


async def test_a_gateway_elsewhere_shows_the_words_of_the_last_beat(apart: Apart) -> None:
    """What a step tells shows at the next beat, of many words the last; what is over shows no more, be the beat still to come."""
    told, go_on = asyncio.Queue[None](), [asyncio.Event() for _ in range(2)]

    async def copy(place: int) -> int:
        step = stepwell.current_step()
        step.progress(0.2, "60/300")
        step.progress(0.4, "120/300")
        told.put_nowait(None)
        await go_on[place].wait()
        return place

    @stepwell.function(id="copy", triggers=[stepwell.on_event("files")])
    async def copies(ctx: Context) -> int:
        return await ctx.step.run("one", copy, 0) + await ctx.step.run("two", copy, 1)

    await apart.serve(copies)
    await apart.runner.send([NewEvent("files", {})])
    await told.get()
    (run_id,) = apart.workers[0].running
    run = await apart.run(run_id)
    assert (run["status"], run["progress"]) == ("RUNNING", [])
    await apart.beat()
    (known,) = apart.runner.progress.of_run(run_id)
    said = {"step_id": "one", "occurrence": 0, "attempt": 0, "ratio": 0.4, "note": "120/300", "told_at": rfc3339(known.told)}
    assert (await apart.run(run_id))["progress"] == [said]
    go_on[0].set()
    await told.get()
    assert (await apart.run(run_id))["progress"] == [], "the first step was recorded, the second one's word has not gone out"
    await apart.beat()
    assert [one["step_id"] for one in (await apart.run(run_id))["progress"]] == ["two"]
    go_on[1].set()
    while (run := await apart.run(run_id))["status"] != "COMPLETED":
        await asyncio.sleep(0)
    assert run["progress"] == []


async def test_a_beat_while_the_loop_stands_still_carries_words(apart: Apart) -> None:
    """A body that blocks the event loop and tells how far it is shows all the same: the beat has a thread of its own."""
    seen: list[Any] = []

    async def copy() -> None:
        step = stepwell.current_step()
        step.progress(0.5, "half")
        beat = apart.workers[0]._beat
        assert beat is not None
        beat.beat()
        seen.extend(await apart.runner.store.progress(step.run_id))

    @stepwell.function(id="copy", triggers=[stepwell.on_event("files")])
    async def copies(ctx: Context) -> None:
        await ctx.step.run("one", copy)

    await apart.serve(copies)
    await apart.runner.send([NewEvent("files", {})])
    while not seen:
        await asyncio.sleep(0)
    assert [(one.step_id, one.ratio, one.note) for one in seen] == [("one", 0.5, "half")]


async def test_a_run_that_nobody_executes_costs_no_question(apart: Apart, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is asked for words of runs that a runner holds alone, not of those that sleep or have ended."""

    @stepwell.function(id="nap", triggers=[stepwell.on_event("tired")])
    async def naps(ctx: Context) -> None:
        await ctx.step.sleep("nap", ctx.event.data["long"])

    await apart.serve(naps)
    (resting, over) = [(await apart.runner.send([NewEvent("tired", {"long": long})]))[0].id for long in ("2h", "1ms")]
    for event_id, status in ((resting, "SLEEPING"), (over, "COMPLETED")):
        while not (runs := (await apart.http.get(f"/v1/events/{event_id}/runs")).json()["data"]) or runs[0]["status"] != status:
            await asyncio.sleep(0)
        with monkeypatch.context() as patched:
            patched.setattr(type(apart.runner.store), "progress", asked_in_vain)
            assert (await apart.run(runs[0]["run_id"]))["progress"] == []


async def test_who_executes_a_run_knows_best(apart: Apart, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that executes the run shows the last word itself, without waiting for a beat and without asking the store."""
    told, go_on = asyncio.Event(), asyncio.Event()

    async def copy() -> None:
        stepwell.current_step().progress(0.2, "60/300")
        await apart.beat()
        stepwell.current_step().progress(0.4, "120/300")
        told.set()
        await go_on.wait()

    @stepwell.function(id="copy", triggers=[stepwell.on_event("files")])
    async def copies(ctx: Context) -> None:
        await ctx.step.run("one", copy)

    await apart.serve(copies)
    await apart.runner.send([NewEvent("files", {})])
    await told.wait()
    (run_id,) = apart.workers[0].running
    transport = httpx.ASGITransport(make_app(apart.runner, GatewaySettings(open=True)))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8288") as here:
        with monkeypatch.context() as patched:
            patched.setattr(type(apart.runner.store), "progress", asked_in_vain)
            run = (await here.get(f"/v1/runs/{run_id}")).json()["data"]
    assert [(one["ratio"], one["note"]) for one in run["progress"]] == [(0.4, "120/300")]
    assert [(one["ratio"], one["note"]) for one in (await apart.run(run_id))["progress"]] == [(0.2, "60/300")]
    go_on.set()
