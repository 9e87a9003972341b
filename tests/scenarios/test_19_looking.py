"""Row 19: runs, steps, attempts, errors and events to look at; every live run says for what it waits, since when, until when."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx

import stepwell
from stepwell import Backoff, Context, Event
from stepwell.gateway.app import make_app
from stepwell.settings import GatewaySettings
from stepwell.testing import Durable

Body = Callable[[Context], Awaitable[Any]]


@asynccontextmanager
async def looking(durable: Durable) -> AsyncIterator[httpx.AsyncClient]:
    """The HTTP API over the test kit's well."""
    app = make_app(durable.well, GatewaySettings(open=True))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1:8288") as client:
        yield client


async def waiting_for(durable: Durable, name: str, body: Body, **options: Any) -> dict[str, Any]:
    @stepwell.function(id=name, triggers=[stepwell.on_event(name)], **options)
    async def function(ctx: Context) -> Any:
        return await body(ctx)

    run = await durable.send(function, Event(name=name, data={"orderId": "7"}))
    async with looking(durable) as client:
        return (await client.get(f"/v1/runs/{run.run_id}")).json()["data"]


async def test_every_live_run_says_what_it_waits_for(durable: Durable) -> None:
    """Asleep, waiting for an event, a signal or another run, retrying, executing, blocked: each with a sentence, since and until."""

    @stepwell.function(id="child")
    async def child(ctx: Context) -> None:
        await ctx.step.sleep("nap", "1d")

    async def nap(ctx: Context) -> None:
        await ctx.step.sleep("nap", "2h")

    async def event(ctx: Context) -> None:
        await ctx.step.wait_for_event("paid", event="paid", if_="event.data.orderId == async.data.orderId", timeout="3d")

    async def signal(ctx: Context) -> None:
        await ctx.step.wait_for_signal("hear", signal="order-7", timeout="1h")

    async def invoke(ctx: Context) -> None:
        await ctx.step.invoke("child", child)

    async def retry(ctx: Context) -> None:
        async def boom() -> None:
            raise RuntimeError("no luck")

        await ctx.step.run("boom", boom)

    async def busy(ctx: Context) -> None:
        await ctx.step.run("hang", asyncio.Event().wait)

    await durable.serve(child)
    for name, body, status, kind, words, options in (
        ("nap", nap, "SLEEPING", "sleep", "sleeping", {}),
        ("event", event, "WAITING", "event", "paid", {}),
        ("signal", signal, "WAITING", "signal", "order-7", {}),
        ("invoke", invoke, "WAITING", "run", "child", {}),
        ("retry", retry, "QUEUED", "retry", "attempt 2/5", {"backoff": Backoff(strategy="fixed", base="1m")}),
        ("busy", busy, "RUNNING", "running", "running", {}),
    ):
        seen = await waiting_for(durable, name, body, **options)
        told = seen["waiting_for"]
        assert seen["status"] == status, name
        assert kind in told["kind"], name
        assert words in told["sentence"], told
        assert told["since"] is not None
        assert (told["until"] is None) == (name == "busy"), told


async def test_what_a_limit_holds_back_after_its_rest_is_queued(durable: Durable) -> None:
    """A run whose sleep is over or whose retry is due, and that a limit holds back, is QUEUED everywhere; so is that step of it."""

    async def boom() -> None:
        raise RuntimeError("no luck")

    @stepwell.function(
        id="pack", triggers=[stepwell.on_event("pack")], concurrency=1, backoff=Backoff(strategy="fixed", base="1h", jitter=0)
    )
    async def pack(ctx: Context) -> None:
        match ctx.event.data["how"]:
            case "sleep":
                await ctx.step.sleep("nap", "1h")
            case "retry":
                await ctx.step.run("boom", boom)
            case _:
                await ctx.step.run("hold", asyncio.Event().wait)

    runs = [await durable.send(pack, Event(name="pack", data={"how": how})) for how in ("sleep", "retry", "hold")]
    async with looking(durable) as client:

        async def told(path: str) -> list[str]:
            return sorted(one["status"] for one in (await client.get(path)).json()["data"])

        steps = [f"/v1/runs/{run.run_id}/steps" for run in runs[:2]]
        assert await told("/v1/runs") == ["QUEUED", "RUNNING", "SLEEPING"]
        assert [await told(path) for path in steps] == [["SLEEPING"], ["RETRYING"]]
        await durable.advance(timedelta(hours=1))
        assert await told("/v1/runs") == ["QUEUED", "QUEUED", "RUNNING"]
        assert await told("/v1/runs?status=SLEEPING") == []
        assert [await told(path) for path in steps] == [["QUEUED"], ["QUEUED"]]
        for run in runs[:2]:
            seen = (await client.get(f"/v1/runs/{run.run_id}")).json()["data"]
            assert (seen["status"], seen["waiting_for"]["kind"]) == ("QUEUED", "limit")
            assert seen["waiting_for"]["sentence"].endswith(f"1/1 in use by run {runs[2].run_id}")


async def test_steps_attempts_and_errors(durable: Durable) -> None:
    """A run's steps are shown with their tries and errors, and an ended run with its output or error."""

    @stepwell.function(id="flaky", triggers=[stepwell.on_event("go")], backoff=Backoff(strategy="fixed", base="1s"))
    async def flaky(ctx: Context) -> str:
        async def body() -> str:
            if stepwell.current_step().attempt < 2:
                raise ValueError("not yet")
            return "ok"

        return await ctx.step.run("flaky", body)

    run = await durable.send(flaky, Event(name="go", id="go-1"))
    await durable.advance(timedelta(seconds=5))
    async with looking(durable) as client:
        [step] = (await client.get(f"/v1/runs/{run.run_id}/steps")).json()["data"]
        assert step["id"] == "flaky"
        assert step["attempts"] == 3
        assert [attempt["error"]["name"] for attempt in step["failed_attempts"]] == ["ValueError", "ValueError"]
        seen = (await client.get(f"/v1/runs/{run.run_id}")).json()["data"]
        assert (seen["status"], seen["output"], seen["event_ids"]) == ("COMPLETED", "ok", ["go-1"])
        assert [one["run_id"] for one in (await client.get("/v1/events/go-1/runs")).json()["data"]] == [run.run_id]


async def test_metrics(durable: Durable) -> None:
    """`/metrics` tells runs, steps, retries, slots used and their limit, depth and age of the queue, by function, without ids."""
    hold = asyncio.Event()

    @stepwell.function(id="one", triggers=[stepwell.on_event("go")], concurrency=1)
    async def one(ctx: Context) -> None:
        await ctx.step.run("hold", hold.wait)

    run = await durable.send(one, Event(name="go", id="go-1"))
    await durable.send_event(Event(name="go", id="go-2"))
    await durable.advance(timedelta(seconds=30))
    async with looking(durable) as client:
        text = (await client.get("/metrics")).text
    lines = {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if not line.startswith("#")}

    def figure(name: str, **labels: str) -> float:
        return next(
            value
            for key, value in lines.items()
            if key.startswith(name + "{")
            and 'function="one"' in key
            and all(f'{label}="{wanted}"' in key for label, wanted in labels.items())
        )

    assert figure("stepwell_runs_created_total", trigger="event") == 2
    assert figure("stepwell_concurrency_limit") == 1
    assert figure("stepwell_concurrency_in_use") == 1
    assert figure("stepwell_concurrency_blocked_runs") == 1
    assert figure("stepwell_queue_depth", state="due") == 1
    assert figure("stepwell_concurrency_oldest_blocked_age_seconds") >= 29
    assert figure("stepwell_step_retries_total", reason="error") == 0
    assert run.run_id not in text
    assert "go-1" not in text
    hold.set()
