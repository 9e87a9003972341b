"""Runs, steps, events and functions over HTTP, with a real runner behind them."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from pydantic import TypeAdapter

import stepwell
from stepwell import CancelOn, Context, NonRetriableError
from stepwell.errors import StoreUnavailable
from stepwell.gateway import explain
from stepwell.gateway.routes import ROUTES


@stepwell.function(id="greet", triggers=[stepwell.on_event("user/signup", if_="event.data.adult")])
async def greet(ctx: Context) -> dict[str, str]:
    name = await ctx.step.run("load", lambda: "Ada")
    return {"hello": name}


@stepwell.function(id="fails", triggers=[stepwell.on_event("user/signup")])
async def fails(ctx: Context) -> None:
    async def pay() -> None:
        raise NonRetriableError("no money")

    await ctx.step.run("pay", pay)


@stepwell.function(id="waits", triggers=[stepwell.on_event("order/created")])
async def waits(ctx: Context) -> str:
    paid = await ctx.step.wait_for_event("paid", event="order/paid", if_="event.data.id == async.data.id", timeout="3d")
    return "paid" if paid else "late"


@stepwell.function(id="retries", triggers=[stepwell.on_event("flaky")])
async def retries(ctx: Context) -> None:
    async def never() -> None:
        raise TimeoutError("no answer")

    await ctx.step.run("ask", never)


@stepwell.function(id="ticks", triggers=[stepwell.on_cron("0 12 * * 5")])
async def ticks(ctx: Context) -> None:
    del ctx


async def until(gateway: Any, path: str, **wanted: Any) -> dict[str, Any]:
    """The run at a path once it looks as wanted."""
    while True:
        run = await gateway.data(path)
        if all(run[name] == value for name, value in wanted.items()):
            return run
        await asyncio.sleep(0.005)


async def started(gateway: Any, event_id: str) -> str:
    """The run that an event started."""
    (run,) = await gateway.data(f"/v1/events/{event_id}/runs")
    return run["run_id"]


async def test_an_event_tells_what_it_did(gateway: Any) -> None:
    """An event's page says which functions it started and why another did not start."""
    await gateway.serve(greet, fails)
    (event_id,) = (await gateway.send({"name": "user/signup", "data": {"adult": True}})).json()["ids"]
    runs = await gateway.ended(f"/v1/events/{event_id}/runs")
    assert {(run["function_id"], run["status"]) for run in runs} == {("greet", "COMPLETED"), ("fails", "FAILED")}
    assert next(run["output"] for run in runs if run["function_id"] == "greet") == {"hello": "Ada"}
    reactions = (await gateway.data(f"/v1/events/{event_id}"))["functions"]
    assert {(one["function_id"], one["decision"]) for one in reactions} == {("greet", "started"), ("fails", "started")}


async def test_an_expression_error_is_told_with_the_event(gateway: Any) -> None:
    """A trigger's expression that fails on an event starts nothing, and the event says so."""
    await gateway.serve(greet)
    (event_id,) = (await gateway.send({"name": "user/signup", "data": {}})).json()["ids"]
    (reaction,) = (await gateway.data(f"/v1/events/{event_id}"))["functions"]
    assert (reaction["function_id"], reaction["run_id"]) == ("greet", None)
    assert "error" in reaction["decision"]
    assert await gateway.data(f"/v1/events/{event_id}/runs") == []


async def test_an_event_that_doesnt_match_says_why(gateway: Any) -> None:
    """A function whose condition is false of an event is named with that condition."""
    await gateway.serve(greet)
    (event_id,) = (await gateway.send({"name": "user/signup", "data": {"adult": False}})).json()["ids"]
    (reaction,) = (await gateway.data(f"/v1/events/{event_id}"))["functions"]
    assert reaction == {
        "function_id": "greet",
        "decision": "not matched",
        "detail": "event.data.adult is false (event.data.adult = false)",
        "run_id": None,
    }
    why = (await gateway.data(f"/v1/events/{event_id}"))["why"]
    assert why["sentence"] == "started nothing: greet not matched: event.data.adult is false (event.data.adult = false)"


async def test_a_function_whose_run_is_past_the_list_is_told_with_it(gateway: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many reruns another function's run had: a function that the event started has its run with the event."""
    monkeypatch.setattr(explain, "MOST_RUNS", 2)
    await gateway.serve(greet, fails)
    (event_id,) = (await gateway.send({"name": "user/signup", "data": {"adult": True}})).json()["ids"]
    run_of = {one["function_id"]: one["run_id"] for one in await gateway.ended(f"/v1/events/{event_id}/runs")}
    for _ in range(2):
        await gateway.http.post(f"/v1/runs/{run_of['greet']}/rerun")
    told = (await gateway.data(f"/v1/events/{event_id}"))["functions"]
    assert [one["function_id"] for one in told] == ["greet", "greet", "fails"]
    assert (told[2]["decision"], told[2]["run_id"]) == ("started", run_of["fails"])


@stepwell.function(id="gives-up", triggers=[stepwell.on_event("order/created")], cancel_on=[CancelOn("order/cancelled")])
async def gives_up(ctx: Context) -> None:
    await ctx.step.sleep("nap", "1h")


async def test_an_event_that_ended_a_wait_or_cancelled_a_run_says_so(gateway: Any) -> None:
    """It started nothing and was no mistake: the event names the run and the step that waited, or the run that it cancelled."""
    await gateway.serve(waits, gives_up)
    (created,) = (await gateway.send({"name": "order/created", "data": {"id": 7}})).json()["ids"]
    run_of = {one["function_id"]: one["run_id"] for one in await gateway.data(f"/v1/events/{created}/runs")}
    await until(gateway, f"/v1/runs/{run_of['waits']}", status="WAITING")
    (paid,) = (await gateway.send({"name": "order/paid", "data": {"id": 7}})).json()["ids"]
    (gone,) = (await gateway.send({"name": "order/cancelled", "data": {"id": 7}})).json()["ids"]
    for event_id, function_id, decision, step, sentence in (
        (paid, "waits", "ended wait", "paid", f"ended wait paid of run {run_of['waits']}"),
        (gone, "gives-up", "cancelled run", None, f"cancelled run {run_of['gives-up']}"),
    ):
        told = await gateway.data(f"/v1/events/{event_id}")
        assert told["functions"] == [
            {"function_id": function_id, "decision": decision, "detail": step, "run_id": run_of[function_id]}
        ]
        assert told["why"]["sentence"] == sentence
        assert await gateway.data(f"/v1/events/{event_id}/runs") == []


@stepwell.function(id="once", triggers=[stepwell.on_event("order/created")], idempotency="event.data.id")
async def once(ctx: Context) -> None:
    await ctx.step.sleep("nap", "1h")


async def test_an_event_names_the_run_that_stands_for_it(gateway: Any) -> None:
    """A second event with the same idempotency value names the first run; the first one says what its run waits for."""
    await gateway.serve(once)
    await gateway.send(
        [{"name": "order/created", "id": "e1", "data": {"id": 7}}, {"name": "order/created", "id": "e2", "data": {"id": 7}}]
    )
    await until(gateway, f"/v1/runs/{await started(gateway, 'e1')}", status="SLEEPING")
    (first,) = (await gateway.data("/v1/events/e1"))["functions"]
    (second,) = (await gateway.data("/v1/events/e2"))["functions"]
    assert (first["decision"], second["decision"]) == ("started", "skipped")
    assert first["detail"].startswith("sleeping until ")
    assert second["detail"] == (
        f"duplicate of run {first['run_id']}: idempotency event.data.id has the same value (event.data.id = 7) within 24 hours"
    )


async def test_a_changed_function_is_told_as_it_is_now(gateway: Any) -> None:
    """Of a function that changed after the event it is said that it may have been another; others changed nothing."""
    await gateway.serve(greet)
    (event_id,) = (await gateway.send({"name": "user/signup", "data": {"adult": False}})).json()["ids"]
    await gateway.serve(greet, ticks)
    (reaction,) = (await gateway.data(f"/v1/events/{event_id}"))["functions"]
    assert reaction["detail"] == "event.data.adult is false (event.data.adult = false)"
    other = stepwell.function(id="greet", triggers=[stepwell.on_event("user/signup", if_="event.data.vip")])(ticks.handler)
    await gateway.serve(other, ticks)
    (reaction,) = (await gateway.data(f"/v1/events/{event_id}"))["functions"]
    assert reaction["detail"].endswith("(event.data.vip is missing) (as the function is now; it may have been another then)")


async def test_a_failed_run_has_an_error_and_its_steps(gateway: Any) -> None:
    """A failed run shows its error, and its step the failed tries."""
    await gateway.serve(fails)
    (event_id,) = (await gateway.send({"name": "user/signup", "data": {}})).json()["ids"]
    (run,) = await gateway.ended(f"/v1/events/{event_id}/runs")
    assert run["status"] == "FAILED"
    assert run["output"] is None
    assert "no money" in run["error"]["message"]
    (step,) = await gateway.data(f"/v1/runs/{run['run_id']}/steps")
    assert (step["id"], step["kind"], step["status"], step["attempts"]) == ("pay", "RUN", "FAILED", 1)
    assert (await gateway.data(f"/v1/runs/{run['run_id']}"))["waiting_for"] is None


async def test_a_waiting_run_says_for_what(gateway: Any) -> None:
    """A run that waits for an event says for which, since when and until when; then the event ends the wait."""
    await gateway.serve(waits)
    (event_id,) = (await gateway.send({"name": "order/created", "data": {"id": 7}})).json()["ids"]
    path = f"/v1/runs/{await started(gateway, event_id)}"
    run = await until(gateway, path, status="WAITING")
    waiting = run["waiting_for"]
    assert waiting["kind"] == "event"
    assert waiting["sentence"].startswith(
        "waiting for order/paid where event.data.id == async.data.id with event.data.id = 7 (timeout in 2 d 23 h"
    )
    assert waiting["since"] < waiting["until"]
    (step,) = await gateway.data(f"{path}/steps")
    assert (step["id"], step["status"], step["until"]) == ("paid", "WAITING", waiting["until"])
    await gateway.send({"name": "order/paid", "data": {"id": 7}})
    assert (await until(gateway, path, status="COMPLETED"))["output"] == "paid"


async def test_a_step_under_way_says_how_far_it_is(gateway: Any) -> None:
    """Where gateway and runner are one process, a run shows what its steps under way tell, and nothing once they are done."""
    hold = asyncio.Event()

    async def copy() -> None:
        stepwell.current_step().progress(0.4, "120/300")
        await hold.wait()

    @stepwell.function(id="copy", triggers=[stepwell.on_event("files")])
    async def copies(ctx: Context) -> None:
        await ctx.step.run("copy", copy)

    await gateway.serve(copies)
    (event_id,) = (await gateway.send({"name": "files"})).json()["ids"]
    path = f"/v1/runs/{await started(gateway, event_id)}"
    while not (run := await gateway.data(path))["progress"]:
        await asyncio.sleep(0.005)
    (said,) = run["progress"]
    assert said.pop("told_at") >= run["run_started_at"]
    assert said == {"step_id": "copy", "occurrence": 0, "attempt": 0, "ratio": 0.4, "note": "120/300"}
    hold.set()
    assert (await until(gateway, path, status="COMPLETED"))["progress"] == []


async def test_a_retrying_run_says_which_attempt(gateway: Any) -> None:
    """A run whose step is to be tried again says which attempt comes, and what went wrong."""
    await gateway.serve(retries)
    (event_id,) = (await gateway.send({"name": "flaky"})).json()["ids"]
    path = f"/v1/runs/{await started(gateway, event_id)}"
    while True:
        waiting = (await gateway.data(path))["waiting_for"]
        if waiting["kind"] == "retry":
            break
    assert "(attempt 2/5): TimeoutError: no answer" in waiting["sentence"]
    (step,) = await gateway.data(f"{path}/steps")
    assert (step["status"], step["error"]["name"]) == ("RETRYING", "TimeoutError")


async def test_without_a_runner_a_run_says_so(gateway: Any) -> None:
    """A due run that no runner would take says that there is none."""
    worker = await gateway.serve(greet)
    await worker.drain(timedelta(seconds=1))
    (event_id,) = (await gateway.send({"name": "user/signup", "data": {"adult": True}})).json()["ids"]
    run = await gateway.data(f"/v1/runs/{await started(gateway, event_id)}")
    assert (run["status"], run["waiting_for"]["kind"]) == ("QUEUED", "no_runner")


async def test_cancel(gateway: Any) -> None:
    """A live run can be cancelled, twice as well; one that has ended otherwise is a 409."""
    await gateway.serve(waits, greet)
    (event_id,) = (await gateway.send({"name": "order/created", "data": {"id": 7}})).json()["ids"]
    path = f"/v1/runs/{await started(gateway, event_id)}"
    for _ in range(2):
        answer = await gateway.http.delete(path)
        assert (answer.status_code, answer.json()["data"]["status"]) == (200, "CANCELLED")
    run = await gateway.data(path)
    assert (run["status"], run["error"]["message"]) == ("CANCELLED", "cancelled by localhost")
    (done,) = (await gateway.send({"name": "user/signup", "data": {"adult": True}})).json()["ids"]
    (ended,) = await gateway.ended(f"/v1/events/{done}/runs")
    answer = await gateway.http.delete(f"/v1/runs/{ended['run_id']}")
    assert answer.status_code == 409
    assert "COMPLETED" in answer.json()["detail"]


async def test_rerun(gateway: Any) -> None:
    """A rerun is a new run of the same events that knows the old one."""
    await gateway.serve(greet)
    (event_id,) = (await gateway.send({"name": "user/signup", "data": {"adult": True}})).json()["ids"]
    (run,) = await gateway.ended(f"/v1/events/{event_id}/runs")
    answer = await gateway.http.post(f"/v1/runs/{run['run_id']}/rerun")
    assert answer.status_code == 201
    again = await until(gateway, answer.headers["location"], status="COMPLETED")
    assert (again["rerun_of"], again["output"], again["trigger"]) == (run["run_id"], {"hello": "Ada"}, "RERUN")
    assert again["run_id"] != run["run_id"]


async def test_invoke(gateway: Any) -> None:
    """A function can be started by its id; with `wait` the answer is the ended run, or the live one when time is up."""
    await gateway.serve(greet, waits)
    answer = await gateway.http.post("/invoke/greet", json={"data": {}}, params={"wait": 10})
    assert (answer.status_code, answer.json()["data"]["output"]) == (200, {"hello": "Ada"})
    answer = await gateway.http.post("/invoke/greet", json={})
    assert answer.status_code == 201
    assert (await until(gateway, answer.headers["location"], status="COMPLETED"))["trigger"] == "INVOKE"
    answer = await gateway.http.post("/invoke/waits", json={"data": {"id": 1}}, params={"wait": 0.05})
    assert (answer.status_code, answer.json()["data"]["ended_at"]) == (202, None)


@pytest.mark.parametrize("wait", ["-1", "301", "x", "nan", ""])
async def test_odd_waits_are_422(gateway: Any, wait: str) -> None:
    """A wait that is no number of seconds up to 300 is refused by its name."""
    answer = await gateway.http.post("/invoke/f", json={}, params={"wait": wait})
    assert answer.status_code == 422
    assert "wait" in answer.json()["detail"]


async def test_cancellations(gateway: Any) -> None:
    """Many runs are cancelled by function, time and condition; those that don't match go on."""
    await gateway.serve(waits)
    await gateway.send([{"name": "order/created", "id": f"e{number}", "data": {"id": number}} for number in range(5)])
    told = {"function_id": "waits", "if": "event.data.id < 3", "started_after": "2020-01-01T00:00:00Z"}
    answer = await gateway.http.post("/v1/cancellations", json=told)
    assert (answer.status_code, answer.json()["data"]) == (200, {"matched": 3, "cancelled": 3})
    left = await gateway.data("/v1/runs", function="waits", status="CANCELLED")
    assert len(left) == 3
    answer = await gateway.http.post("/v1/cancellations", json={**told, "started_before": "2020-01-02T00:00:00Z", "if": None})
    assert answer.json()["data"] == {"matched": 0, "cancelled": 0}


async def test_a_dry_run_counts_and_does_nothing(gateway: Any) -> None:
    """With `dry_run` the runs that are meant are counted, by status too, and none is touched; nothing is audited."""
    await gateway.serve(waits, fails)
    await gateway.send([{"name": "order/created", "id": f"e{number}", "data": {"id": number}} for number in range(5)])
    told = {"function_id": "waits", "if": "event.data.id < 3", "dry_run": True}
    assert (await gateway.http.post("/v1/cancellations", json=told)).json()["data"] == {"matched": 3, "cancelled": 0}
    other = {**told, "status": ["SLEEPING"]}
    assert (await gateway.http.post("/v1/cancellations", json=other)).json()["data"] == {"matched": 0, "cancelled": 0}
    assert await gateway.data("/v1/runs", function="waits", status="CANCELLED") == []
    assert {act["verb"] for act in await gateway.data("/v1/audit")} == {"register"}


async def test_failed_runs_are_rerun_in_bulk(gateway: Any) -> None:
    """Every failed run of a function is started anew with its own event, linked to the old one; others are left alone."""
    await gateway.serve(fails, greet)
    await gateway.send([{"name": "user/signup", "id": f"e{number}", "data": {"adult": True}} for number in range(3)])
    await gateway.ended("/v1/runs")
    before = await gateway.data("/v1/runs", function="fails")
    counted = await gateway.http.post("/v1/reruns", json={"function_id": "fails", "dry_run": True})
    assert counted.json()["data"] == {"matched": 3, "run_ids": []}
    done = (await gateway.http.post("/v1/reruns", json={"function_id": "fails"})).json()["data"]
    assert (done["matched"], len(done["run_ids"])) == (3, 3)
    runs = [run for run in await gateway.data("/v1/runs", function="fails") if run["rerun_of"]]
    assert {run["rerun_of"]: run["event_ids"] for run in runs} == {run["run_id"]: run["event_ids"] for run in before}
    none = await gateway.http.post("/v1/reruns", json={"function_id": "fails", "status": ["COMPLETED"]})
    assert none.json()["data"] == {"matched": 0, "run_ids": []}
    assert [act["verb"] for act in await gateway.data("/v1/audit")][:2] == ["rerun runs", "rerun runs"]


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ({}, 422),
        ({"function_id": 7}, 422),
        ({"function_id": "waits", "status": ["COMPLETED"]}, 422),
        ({"function_id": "nobody"}, 404),
        ({"function_id": "waits", "started_before": "2999-01-01T00:00:00Z"}, 400),
        ({"function_id": "waits", "started_before": "2020-01-01T00:00:00"}, 422),
        ({"function_id": "waits", "started_after": "yesterday"}, 422),
        ({"function_id": "waits", "if": "event.data."}, 400),
        ({"function_id": "waits", "if": "x" * 2000}, 422),
        ([], 422),
        (7, 422),
    ],
)
async def test_odd_cancellations_are_refused(gateway: Any, told: Any, status: int) -> None:
    """A cancellation that is wrong, or for nobody, is refused and says where."""
    await gateway.serve(waits)
    answer = await gateway.http.post("/v1/cancellations", json=told)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


async def test_lists_are_paged_by_cursor(gateway: Any) -> None:
    """Runs, events and functions come in pages; following the cursor shows each exactly once, newest first."""
    await gateway.serve(greet, fails, waits)
    await gateway.send([{"name": "order/created", "id": f"e{number}", "data": {"id": number}} for number in range(7)])
    for path, key, total in (
        ("/v1/runs", "run_id", 7),
        ("/v1/events", "id", 7),
        ("/v1/functions", "id", 3),
        ("/v1/events/e1/runs", "run_id", 1),
    ):
        seen: list[str] = []
        cursor: str | None = None
        while True:
            query = {"limit": 2, **({"cursor": cursor} if cursor else {})}
            answer = (await gateway.http.get(path, params=query)).json()
            assert len(answer["data"]) <= 2
            seen += [one[key] for one in answer["data"]]
            cursor = answer["metadata"]["cursor"]
            if cursor is None:
                break
        assert len(seen) == len(set(seen)) == total


async def test_runs_are_filtered(gateway: Any) -> None:
    """Runs are filtered by function and by status, in either case; events by name."""
    await gateway.serve(greet, waits)
    await gateway.send(
        [{"name": "order/created", "data": {"id": 1}}, {"name": "user/signup", "id": "s", "data": {"adult": True}}]
    )
    await gateway.ended("/v1/events/s/runs")
    assert [run["function_id"] for run in await gateway.data("/v1/runs", function="waits")] == ["waits"]
    for status in ("COMPLETED", "completed"):
        assert [run["function_id"] for run in await gateway.data("/v1/runs", status=status)] == ["greet"]
    (live,) = await gateway.data("/v1/runs", function="waits")
    await until(gateway, f"/v1/runs/{live['run_id']}", status="WAITING")
    assert [run["function_id"] for run in await gateway.data("/v1/runs", status="WAITING")] == ["waits"]
    assert await gateway.data("/v1/runs", function="nobody") == []
    assert [event["id"] for event in await gateway.data("/v1/events", name="user/signup")] == ["s"]


@pytest.mark.parametrize("path", ["/v1/runs", "/v1/events", "/v1/functions"])
@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"limit": "0"}, 422),
        ({"limit": "201"}, 422),
        ({"limit": "x"}, 422),
        ({"cursor": "nonsense"}, 400),
        ({"cursor": ""}, 400),
        ({"cursor": "MTo"}, 400),
        ({"cursor": "ä"}, 400),
        ({"cursor": "x" * 3000}, 422),
    ],
)
async def test_odd_pages_are_refused(gateway: Any, path: str, query: dict[str, str], status: int) -> None:
    """A limit out of range and a cursor that isn't ours are refused."""
    answer = await gateway.http.get(path, params=query)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


async def test_an_unknown_status_is_refused(gateway: Any) -> None:
    """A status that there isn't is refused with those that there are."""
    answer = await gateway.http.get("/v1/runs", params={"status": "DONE"})
    assert answer.status_code == 422
    assert "completed" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/runs/R"),
        ("GET", "/v1/runs/R/steps"),
        ("DELETE", "/v1/runs/R"),
        ("POST", "/v1/runs/R/rerun"),
        ("GET", "/v1/events/E"),
        ("GET", "/v1/events/E/runs"),
        ("GET", "/v1/functions/F"),
        ("POST", "/invoke/F"),
        ("GET", "/v1/runs/%00"),
        ("GET", "/v1/runs/%F0%9F%98%80"),
        ("GET", "/v1/events/'; drop table events --"),
    ],
)
async def test_what_is_not_there_is_404(gateway: Any, method: str, path: str) -> None:
    """An unknown run, event or function is a 404 problem, however odd its id looks."""
    answer = await gateway.http.request(method, path, **({"json": {}} if path.startswith("/invoke") else {}))
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def test_functions_have_schedules_and_a_ledger(gateway: Any) -> None:
    """A function shows its configuration and its schedules; alone also the cron ledger."""
    await gateway.serve(ticks, greet)
    functions = await gateway.data("/v1/functions")
    assert [one["id"] for one in functions] == ["greet", "ticks"]
    assert functions[0]["spec"]["triggers"][0]["event"] == "user/signup"
    assert (functions[0]["why"]["kind"], functions[0]["why"]["sentence"]) == ("ready", "nothing waits")
    one = await gateway.data("/v1/functions/ticks")
    assert one["why"]["until"] == one["schedules"][0]["next_due"]
    assert one["schedules"][0]["cron"]["cron"] == "0 12 * * 5"
    assert one["schedules"][0]["ledger"] == []


async def test_answers_are_as_documented(gateway: Any) -> None:
    """Every 2xx answer of a well with all kinds of things in it has exactly the fields that OpenAPI says."""
    await gateway.serve(greet, fails, waits, retries, ticks)
    events = [
        {"name": "user/signup", "id": "s", "data": {"adult": True}},
        {"name": "order/created", "id": "o", "data": {"id": 1}},
    ]
    sent = await gateway.send([*events, {"name": "flaky", "id": "f"}])
    ended = await gateway.ended("/v1/events/s/runs")
    live = await started(gateway, "o")
    await until(gateway, f"/v1/runs/{live}", status="WAITING")
    ids = [ended[0]["run_id"], ended[1]["run_id"], live, await started(gateway, "f")]
    models = {(route.method, route.path): route.answers for route in ROUTES}
    asked: list[tuple[str, str, str, Any]] = [
        ("GET", path, path, None) for path in ("/v1/runs", "/v1/events", "/v1/functions", "/health", "/ready")
    ]
    for run_id in ids:
        asked += [
            ("GET", "/v1/runs/{run_id}", f"/v1/runs/{run_id}", None),
            ("GET", "/v1/runs/{run_id}/steps", f"/v1/runs/{run_id}/steps", None),
        ]
    for event_id in ("s", "o", "f"):
        asked += [("GET", "/v1/events/{event_id}", f"/v1/events/{event_id}", None)]
        asked += [("GET", "/v1/events/{event_id}/runs", f"/v1/events/{event_id}/runs", None)]
    asked += [("GET", "/v1/functions/{function_id}", "/v1/functions/ticks", None)]
    asked += [
        ("POST", "/invoke/{function_id}", "/invoke/greet", {}),
        ("POST", "/invoke/{function_id}", "/invoke/greet?wait=9", {}),
    ]
    asked += [
        ("POST", "/v1/runs/{run_id}/rerun", f"/v1/runs/{ids[0]}/rerun", None),
        ("DELETE", "/v1/runs/{run_id}", f"/v1/runs/{live}", None),
    ]
    asked += [("POST", "/v1/cancellations", "/v1/cancellations", {"function_id": "waits"})]
    TypeAdapter(models["POST", "/e/{key}"][200]).validate_python(sent.json())
    for method, template, path, body in asked:
        answer = await gateway.http.request(method, path, **({} if body is None else {"json": body}))
        assert answer.status_code in models[method, template], (path, answer.text)
        TypeAdapter(models[method, template][answer.status_code]).validate_python(answer.json())


async def test_the_openapi_document_is_whole(gateway: Any) -> None:
    """The OpenAPI document has every route, and every reference in it leads somewhere."""
    document = (await gateway.http.get("/openapi.json")).json()
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == {(route.method, route.path) for route in ROUTES}

    def references(node: Any) -> set[str]:
        if isinstance(node, dict):
            found = {node["$ref"]} if isinstance(node.get("$ref"), str) else set[str]()
            return found.union(*(references(one) for one in node.values()))
        return set[str]().union(*(references(one) for one in node)) if isinstance(node, list) else set()

    names = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references(document) <= names


async def test_a_store_that_is_away_is_503(gateway: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the store is away every route that needs it answers 503 with Retry-After; the process stays alive."""

    async def away(*_args: Any, **_more: Any) -> Any:
        raise StoreUnavailable("could not connect to postgresql://ada:s3cret@db")

    for name in ("commit", "registry", "registry_version", "run", "runs", "event", "events", "steps", "stats", "decisions"):
        monkeypatch.setattr(gateway.well.store, name, away)
    asked = [
        ("POST", "/e/k", {"name": "a"}),
        ("POST", "/invoke/f", {}),
        ("DELETE", "/v1/runs/R", None),
        ("POST", "/v1/runs/R/rerun", None),
    ]
    asked += [
        ("GET", path, None) for path in ("/v1/runs", "/v1/runs/R", "/v1/runs/R/steps", "/v1/events", "/v1/functions", "/ready")
    ]
    for method, path, body in asked:
        answer = await gateway.http.request(method, path, **({} if body is None else {"json": body}))
        assert answer.status_code == 503, path
        assert answer.headers["retry-after"] in {"1", "2"}
        assert answer.headers["content-type"] == "application/problem+json"
        assert "s3cret" not in answer.text
    assert (await gateway.http.get("/health")).status_code == 200
    assert (await gateway.http.get("/metrics")).status_code == 200


async def test_unexpected_errors_tell_nothing(
    gateway: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error that nobody foresaw is a 500 problem without a word of it, and the log has its place but not its text."""

    async def broken(*_args: Any, **_more: Any) -> Any:
        raise RuntimeError("canary-in-the-message")

    monkeypatch.setattr(gateway.well.store, "run", broken)
    answer = await gateway.http.get("/v1/runs/R")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    said = capsys.readouterr()
    for text in (answer.text, said.out, said.err):
        assert "canary" not in text
        assert "Traceback" not in text
    assert "RuntimeError" in said.out
    assert "RuntimeError" not in answer.text


async def test_health_never_asks_the_store(gateway: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Liveness answers without one question to the store."""

    def refuse(*_args: Any) -> Any:
        raise AssertionError

    for name in ("commit", "registry", "run", "stats"):
        monkeypatch.setattr(gateway.well.store, name, refuse)
    assert (await gateway.http.get("/health")).json()["data"] == {"alive": True}


async def test_metrics_hold_no_ids(gateway: Any) -> None:
    """The figures name functions and closed sets, never a run, an event or a payload."""
    await gateway.serve(greet)
    (event_id,) = (await gateway.send({"name": "user/signup", "id": "canary-id", "data": {"adult": True, "x": "canary"}})).json()[
        "ids"
    ]
    (run,) = await gateway.ended(f"/v1/events/{event_id}/runs")
    text = (await gateway.http.get("/metrics")).text
    assert 'function="greet"' in text
    for secret in ("canary", run["run_id"], gateway.workers[0].runner_id):
        assert secret not in text


async def test_functions_say_what_holds_them_back(gateway: Any) -> None:
    """A function whose runners are gone says that there is none, how many runs are due, and since when the oldest is."""
    worker = await gateway.serve(retries)
    await worker.drain(timedelta(0))
    (event_id,) = (await gateway.send({"name": "flaky"})).json()["ids"]
    (one,) = await gateway.data("/v1/functions")
    assert one["why"]["kind"] == "no_runner"
    assert one["why"]["sentence"].startswith("no runner: none is alive for pool 'default' and function 'retries'; 1 run due, ")
    run = await gateway.data(f"/v1/runs/{await started(gateway, event_id)}")
    assert run["waiting_for"]["kind"] == "no_runner"
    assert one["why"]["since"] is not None
