"""Pausing a function over HTTP, with a real runner: its runs wait and say because of whom, and go on when it is resumed."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

import stepwell
from stepwell import Context
from stepwell.clock import ManualClock
from stepwell.settings import GatewaySettings


@stepwell.function(id="greet", triggers=[stepwell.on_event("user/signup")])
async def greet(ctx: Context) -> str:
    return await ctx.step.run("say", lambda: "hello")


@stepwell.function(id="naps", triggers=[stepwell.on_event("nap")])
async def naps(ctx: Context) -> str:
    await ctx.step.sleep("nap", "1s")
    return "awake"


async def pause(gateway: Any, function: str = "greet", **more: Any) -> dict[str, Any]:
    answer = await gateway.http.post(f"/v1/functions/{function}/pause", json=more)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def resume(gateway: Any, function: str = "greet") -> Any:
    return await gateway.http.post(f"/v1/functions/{function}/resume")


async def only_run(gateway: Any, event: str) -> dict[str, Any]:
    (event_id,) = (await gateway.send({"name": event})).json()["ids"]
    (run,) = await gateway.data(f"/v1/events/{event_id}/runs")
    return await gateway.data(f"/v1/runs/{run['run_id']}")


async def test_new_runs_wait_and_say_so(gateway: Any) -> None:
    """A run of a paused function is queued, says who paused it since when, and completes after the resume."""
    await gateway.serve(greet)
    paused = await pause(gateway, by="ada", reason="bad deploy")
    assert (paused["by"], paused["source"]) == ("ada", "API")
    run = await only_run(gateway, "user/signup")
    await gateway.well.sweep()
    run = await gateway.data(f"/v1/runs/{run['run_id']}")
    assert (run["status"], run["waiting_for"]["kind"]) == ("QUEUED", "paused")
    assert run["waiting_for"]["sentence"].startswith("paused by ada since ")
    assert run["waiting_for"]["sentence"].endswith(": bad deploy")
    assert "stepwell resume greet" in run["waiting_for"]["next"]
    assert (await gateway.data("/v1/functions/greet"))["paused"]["by"] == "ada"
    (listed,) = await gateway.data("/v1/functions")
    assert listed["paused"]["sentence"] == run["waiting_for"]["sentence"]
    assert (await resume(gateway)).json()["data"] == {"function_id": "greet", "resumed": True}
    (ended,) = await gateway.ended("/v1/runs")
    assert (ended["status"], (await gateway.data("/v1/functions/greet"))["paused"]) == ("COMPLETED", None)


async def test_what_sleeps_waits_when_it_wakes(open_gateway: Any) -> None:
    """A run that is asleep when its function is paused, warm in its runner or not, doesn't go on until it is resumed."""
    clock = ManualClock(1_700_000_000_000_000)
    async with open_gateway(clock=clock) as gateway:
        await gateway.serve(naps)
        (event_id,) = (await gateway.send({"name": "nap"})).json()["ids"]
        (run,) = await gateway.data(f"/v1/events/{event_id}/runs")
        path = f"/v1/runs/{run['run_id']}"
        while (await gateway.data(path))["status"] != "SLEEPING":
            await asyncio.sleep(0)
        await pause(gateway, "naps", by="ada")
        await clock.advance(timedelta(seconds=1))
        await gateway.well.sweep()
        run = await gateway.data(path)
        assert (run["ended_at"], run["waiting_for"]["kind"]) == (None, "paused")
        await resume(gateway, "naps")
        (ended,) = await gateway.ended("/v1/runs")
        assert ended["output"] == "awake"


async def test_pausing_twice_keeps_the_first(gateway: Any) -> None:
    """Who paused first is told, whoever pauses again; resuming what isn't paused is no error; an unknown function is a 404."""
    await gateway.serve(greet)
    await pause(gateway, by="ada")
    assert (await pause(gateway, by="bob"))["by"] == "ada"
    assert [(await resume(gateway)).json()["data"]["resumed"] for _ in range(2)] == [True, False]
    assert (await gateway.http.post("/v1/functions/nope/pause", json={})).status_code == 404


async def test_a_manifest_pause_is_not_the_gateways(gateway: Any) -> None:
    """A function that its manifest pauses can't be resumed here: 409, and it says which annotation to take off."""
    from stepwell.store.registry import PauseRow

    await gateway.serve(greet)
    await gateway.well.pause(PauseRow("greet", gateway.well.clock.now(), "ada", source="manifest"))
    answer = await resume(gateway)
    assert (answer.status_code, "stepwell.dev/paused-by" in answer.json()["detail"]) == (409, True)
    run = await only_run(gateway, "user/signup")
    assert "annotation" in run["waiting_for"]["next"]


@pytest.mark.parametrize(("given", "named"), [({"by": "ada"}, "ada"), ({}, "key:")])
async def test_a_pause_is_audited(open_gateway: Any, given: dict[str, Any], named: str) -> None:
    """Pausing and resuming leave their rows, with the key that it was done with, whoever that says it is."""
    admin = {"Authorization": "Bearer s3cret"}
    async with open_gateway(GatewaySettings(keys=("s3cret",))) as gateway:
        await gateway.serve(greet)
        answer = await gateway.http.post("/v1/functions/greet/pause", json=given, headers=admin)
        assert answer.json()["data"]["by"].startswith(named)
        await gateway.http.post("/v1/functions/greet/resume", headers=admin)
        acts = (await gateway.http.get("/v1/audit", params={"object": "functions/greet"}, headers=admin)).json()["data"]
    assert [act["verb"] for act in acts] == ["resume", "pause", "register"]
    assert all(act["actor"].startswith("key:") for act in acts[:2])


async def test_a_changed_function_is_one_line_in_the_log(gateway: Any) -> None:
    """Registering a function writes one audit line beside the store's row; registering the same again writes none."""
    with capture_logs() as lines:
        worker = await gateway.serve(greet)
        await worker.replace((greet,))
        await worker.replace((naps,))
    told = [(line["actor"], line["verb"], line["object"]) for line in lines if line["event"] == "audit"]
    rows = await gateway.data("/v1/audit")
    assert sorted(told) == sorted(
        [
            ("default", "register", "functions/greet"),
            ("default", "register", "functions/naps"),
            ("default", "retire", "functions/greet"),
        ]
    )
    assert len(rows) == len(told)
