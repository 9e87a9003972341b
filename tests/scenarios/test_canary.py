"""No payload and no secret is in any log line of gateway and runner, at DEBUG, whatever happens to them.

Marked values go through every part as real processes run them; then every line is looked at. The operator's turn is in
tests/cluster/test_operator_canary.py.
"""

import asyncio
import base64
import json
import signal
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import Request, urlopen
from uuid import uuid4

import asyncpg
from scenarios.parts import DEADLINE, Start

from stepwell.store.postgres import PostgresStore

PAYLOAD, SECRET, PASSWORD = "CANARY-payload-7f3a", "CANARY-key-91bc", "CANARY-password-22d0"
CODE = f"""
import logging
import stepwell
from pydantic import BaseModel

class Order(BaseModel):
    total: int

@stepwell.function(id="works", triggers=[stepwell.on_event("works", if_="event.data.secret != 'x'")], idempotency="event.data.key")
async def works(ctx):
    logging.getLogger("mine").debug("begins")
    print("prints")
    got = await ctx.step.run("echo", lambda: dict(ctx.event.data))
    await ctx.step.send_event("tell", stepwell.Event(name="told", data=got))
    paid = await ctx.step.wait_for_event("paid", event="paid", if_="event.data.secret == async.data.secret", timeout="1h")
    await ctx.step.invoke("ask", "child", data=got)
    return got

@stepwell.function(id="child")
async def child(ctx):
    return ctx.event.data

@stepwell.function(id="fails", triggers=[stepwell.on_event("fails")], retries=1, backoff=stepwell.Backoff(strategy="fixed", base="100ms"))
async def fails(ctx):
    def boom():
        raise ValueError(ctx.event.data["secret"])
    await ctx.step.run("boom", boom)

@stepwell.function(id="typed", triggers=[stepwell.on_event("typed", Order)])
async def typed(ctx):
    return 1

@stepwell.function(id="odd", triggers=[stepwell.on_event("odd", if_="event.data.secret.size() > 1 && event.data.secret + 1 == 2")])
async def odd(ctx):
    return {{1, 2}}

@stepwell.function(id="huge", triggers=[stepwell.on_event("huge")], retries=0)
async def huge(ctx):
    return await ctx.step.run("huge", lambda: {{"{PAYLOAD}": float("nan")}})

@stepwell.function(id="blocks", triggers=[stepwell.on_event("blocks")])
async def blocks(ctx):
    import time
    time.sleep(1.5)
"""


def ask(url: str, path: str, body: Any = None, key: str = SECRET) -> tuple[int, Any]:
    """One request; its status and its document."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    try:
        with urlopen(Request(f"{url}{path}", data, headers), timeout=DEADLINE) as answer:
            return answer.status, json.loads(answer.read())
    except HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


async def role(dsn: str, schema: str) -> str:
    """An address with a password of its own for this well."""
    connection = await asyncpg.connect(dsn)
    name = f"canary_{uuid4().hex[:8]}"
    await connection.execute(f"create role {name} login superuser password '{PASSWORD}'")
    await connection.close()
    parts = urlsplit(dsn)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{name}:{PASSWORD}@{host}", query=f"schema={schema}"))


async def test_no_canary_is_logged(start: Start, postgres_dsn: str, tmp_path: Path) -> None:
    """Good and bad events, failing code, odd results, wrong keys, a blocked loop and a runner that dies: no line has a marked value."""
    address = await role(postgres_dsn, f"canary_{uuid4().hex[:8]}")
    store = PostgresStore(address)
    await store.migrate()
    code = tmp_path / "shop_canary.py"
    code.write_text(CODE)
    env = {"STEPWELL_STORE": address, "STEPWELL_LOG_LEVEL": "DEBUG", "STEPWELL_KEY": SECRET, "STEPWELL_NAMESPACE": "shop"}
    gateway = start("gateway", "--port", "0", **env)
    runner = start("runner", "-f", str(code), "--lease", "3s", **env)
    url = json.loads(gateway.wait_for("gateway listens"))["url"]
    runner.wait_for("runner claims")
    while ask(url, "/ready")[0] != 200:
        await asyncio.sleep(0.05)
    await asyncio.to_thread(stir, url)
    runner.wait_for("the event loop is blocked")
    runner.process.send_signal(signal.SIGUSR2)
    runner.wait_for("logging from DEBUG on")
    runner.process.send_signal(signal.SIGKILL)
    second = start("runner", "-f", str(code), "--lease", "3s", **env)
    second.wait_for("runner claims")
    await asyncio.to_thread(until_runs, url, "works", "WAITING")
    assert ask(url, "/e/" + SECRET, {"name": "paid", "data": {"secret": PAYLOAD}})[0] == 200
    for name in ("works", "fails", "typed", "odd", "huge", "blocks", "child"):
        await asyncio.to_thread(until_runs, url, name, "COMPLETED", "FAILED")
    nowhere = f"postgresql://somebody:{PASSWORD}@127.0.0.1:9/none"
    start("gateway", "--port", "0", **{**env, "STEPWELL_STORE": nowhere}).wait_for("the store can't be used yet")
    second.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(second.process.wait, DEADLINE)
    gateway.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(gateway.process.wait, DEADLINE)
    found = [path.read_text() for path in tmp_path.glob("*.log")]
    assert len(found) == 4
    assert "begins" in "".join(found), "the runner logs at DEBUG"
    told = [line for text in found for line in text.splitlines()]
    assert [line for line in told if "CANARY" in line or base64.b64encode(PAYLOAD.encode()).decode()[:20] in line] == []
    assert not [line for line in told if not line.startswith("{")], "every line is JSON"
    printed = next(json.loads(line) for line in told if '"prints"' in line)
    assert (printed["logger"], printed["function"], printed["namespace"]) == ("print", "works", "shop")
    assert printed["epoch"] >= 1  # a runner killed before its first step is recorded lets the next one print it


def stir(url: str) -> None:
    """Everything that can go right and wrong at the gateway."""
    data = {"secret": PAYLOAD, "key": PAYLOAD, "total": PAYLOAD}
    good = [{"name": name, "data": data} for name in ("works", "fails", "typed", "odd", "huge", "blocks")]
    assert ask(url, f"/e/{SECRET}", good)[0] == 200
    for body in (b"{" + PAYLOAD.encode(), {"name": PAYLOAD, "data": PAYLOAD}, {"name": 1, "data": data}, [data] * 3, PAYLOAD):
        assert ask(url, f"/e/{SECRET}", body)[0] in {200, 400}
    assert ask(url, f"/e/{SECRET}x", good, f"{SECRET}y")[0] == 401
    for path in (
        "/v1/runs",
        "/v1/events?limit=x",
        f"/v1/runs/{PAYLOAD}",
        f"/v1/runs?cursor={PAYLOAD}",
        f"/{PAYLOAD}",
        "/metrics?x",
    ):
        for key in (SECRET, f"{SECRET}x"):
            if not (path == "/metrics?x" and key == SECRET):
                ask(url, path, key=key)
    assert ask(url, "/invoke/child", {"data": data})[0] in {200, 201}
    ask(url, "/v1/cancellations", {"function_id": "works", "if": f"event.data.secret == '{PAYLOAD}x'"})


def until_runs(url: str, function: str, *statuses: str) -> None:
    """Come back once every run of the function is in one of these statuses."""
    until = time.monotonic() + DEADLINE
    while live := [one for one in ask(url, f"/v1/runs?function={function}")[1]["data"] if one["status"] not in statuses]:
        assert time.monotonic() < until, live
        time.sleep(0.1)
