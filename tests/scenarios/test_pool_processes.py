"""A runner and a gateway as an operator starts them: by their environment alone, on one schema of a database."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen
from uuid import uuid4

import asyncpg
import orjson
import pytest

from stepwell.clock import SystemClock
from stepwell.engine.registration import registration
from stepwell.gateway.serve import ANSWER
from stepwell.spec.function import validate
from stepwell.store.postgres import PostgresStore
from stepwell.store.registry import RevisionRow

DEADLINE = 30.0
PATIENCE = 0.05
CODE = """
async def greet(ctx):
    return await ctx.step.run("say", lambda: "hello from {pool}")

async def nap(ctx):
    await ctx.step.sleep("nap", "1s")
    return "{pool}"
"""
COPY = """
import asyncio
from pathlib import Path

import stepwell

async def copying():
    stepwell.current_step().progress(0.4, "120/300")
    while not Path("{done}").exists():
        await asyncio.sleep(0.05)
    return 300

async def copy(ctx):
    return await ctx.step.run("copy", copying)
"""

Apply = Callable[..., Awaitable[None]]
Start = Callable[..., "Process"]


class Process:
    """A `stepwell` process that knows its environment alone; its log goes to a file."""

    def __init__(self, part: str, env: dict[str, str], home: Path) -> None:
        self.log = home / f"{part}-{uuid4().hex}.log"
        bare = {name: value for name, value in os.environ.items() if not name.startswith("STEPWELL_")}
        command = [sys.executable, "-c", "import sys; from stepwell.cli import main; sys.exit(main())", part]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=home, env={**bare, **env}, stdout=log, stderr=subprocess.STDOUT)

    async def url(self) -> str:
        """Where it listens, once it does."""
        found = await until(lambda: re.search(r"http://[0-9.]+:(\d+)", self.log.read_text()), self)
        return f"http://127.0.0.1:{found[1]}"

    async def end(self, number: signal.Signals | None = None) -> int:
        """Its exit code, after a signal or by itself."""
        if number is not None:
            self.process.send_signal(number)
        return await asyncio.to_thread(self.process.wait, DEADLINE)


async def until(look: Callable[[], Any], process: Process | None = None) -> Any:
    """What `look` finds, once it finds something."""
    end = time.monotonic() + DEADLINE
    while not (found := await asyncio.to_thread(look)):
        assert time.monotonic() < end, process.log.read_text() if process is not None else "nothing came"
        await asyncio.sleep(PATIENCE)
    return found


def ask(url: str, body: Any = None, key: str = "s3cret") -> Any:
    """What an address answers: the JSON of a 200 or 201, else the status."""
    data = orjson.dumps(body) if body is not None else None
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    try:
        with urlopen(Request(url, data, headers), timeout=DEADLINE) as answer:
            return json.loads(answer.read() or b"null") if "json" in answer.headers["Content-Type"] else answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code
    except OSError:
        return None


@pytest.fixture
async def store(postgres_dsn: str) -> AsyncIterator[PostgresStore]:
    """A well in a schema of its own that the address names."""
    made = PostgresStore(f"{postgres_dsn}?schema=pods_{uuid4().hex}")
    await made.migrate()
    await made.open()
    yield made
    assert await made.doctor() == []
    await made.close()


@pytest.fixture
def start(tmp_path: Path, store: PostgresStore, postgres_dsn: str) -> Iterator[Start]:
    """Start a part with the environment that it has in a pod."""
    processes: list[Process] = []
    shared = {
        "STEPWELL_STORE": f"{postgres_dsn}?schema={store._schema}",
        "STEPWELL_NAMESPACE": "shop",
        "STEPWELL_LOG_FORMAT": "text",
    }

    def make(part: str, **env: str) -> Process:
        processes.append(Process(part, {**shared, **env}, tmp_path))
        return processes[-1]

    def runner(pool: str, code: str, **env: str) -> Process:
        (tmp_path / f"{pool}.py").write_text(code, encoding="utf-8")
        given = {
            "STEPWELL_REGISTERED": "1",
            "STEPWELL_POOL": pool,
            "STEPWELL_CODE": str(tmp_path / f"{pool}.py"),
            "STEPWELL_HEALTH_HOST": "0.0.0.0",
            "STEPWELL_HEALTH_PORT": "0",
            "STEPWELL_TERMINATION_LOG": str(tmp_path / "termination-log"),
        }
        return make("runner", **{**given, **env})

    def either(part: str, *given: str, **env: str) -> Process:
        if part == "runner":
            return runner(*given, **env)
        own = {"STEPWELL_HOST": "0.0.0.0", "STEPWELL_PORT": "0", "STEPWELL_KEY": "s3cret", "STEPWELL_EVENT_KEY": "e"}
        return make("gateway", **{**own, **env})

    yield either
    for one in processes:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait(DEADLINE)


@pytest.fixture
def apply(store: PostgresStore) -> Apply:
    """Register a function as an operator does."""

    async def make(name: str, pool: str, revision: str, handler: str, **given: Any) -> None:
        now = SystemClock().now()
        asked = registration(f"dfn/{name}", [(validate({"id": name, **given}), revision)], pool, now)
        row = RevisionRow(name, revision, pool, orjson.dumps({"handler": handler}), now)
        await store.register(asked.owner, asked.functions, asked.schedules, [row])

    return make


async def test_from_an_empty_pool_to_a_new_revision(start: Start, apply: Apply, store: PostgresStore) -> None:
    """An empty pool's runner is ready; what is registered is served at once; runs in flight outlast a new pool's coming."""
    gateway, old = start("gateway"), start("runner", "p-1", CODE.format(pool="p-1"))
    url, health = await gateway.url(), await old.url()
    await until(lambda: isinstance(ask(f"{health}/ready"), dict), old)
    await until(lambda: isinstance(ask(f"{url}/ready"), dict), gateway)
    assert 'namespace="shop"' in ask(f"{health}/metrics")
    assert ask(f"{url}/v1/functions", key="e") == 401
    await apply("greet", "p-1", "r1", "greet", triggers=[{"event": "hi"}])
    await apply("nap", "p-1", "r1", "nap", triggers=[{"event": "hi"}])
    await until(lambda: len(ask(f"{url}/v1/functions")["data"]) == 2)
    (event,) = ask(f"{url}/e/e", {"name": "hi", "data": {}})["ids"]
    new = start("runner", "p-2", CODE.format(pool="p-2"))
    await apply("nap", "p-2", "r2", "nap", triggers=[{"event": "hi"}])
    runs = await until(lambda: ended(url, event), old)
    assert runs == {"greet": "hello from p-1", "nap": "p-1"}
    assert await store.forget_revision("nap", "r1")
    (event,) = ask(f"{url}/e/e", {"name": "hi", "data": {}})["ids"]
    assert await until(lambda: ended(url, event), new) == {"greet": "hello from p-1", "nap": "p-2"}
    assert [await one.end(signal.SIGTERM) for one in (old, new, gateway)] == [0, 0, 0]


async def test_a_gateway_shows_what_a_runners_steps_tell(start: Start, apply: Apply, tmp_path: Path) -> None:
    """A step's progress goes from the runner's process to the gateway's with a beat, and `stepwell runs get` prints it."""
    await apply("copy", "p", "r1", "copy", triggers=[{"event": "files"}])
    gateway = start("gateway")
    runner = start("runner", "p", COPY.format(done=str(tmp_path / "done")), STEPWELL_LEASE="3s")
    url = await gateway.url()
    await until(lambda: isinstance(ask(f"{url}/ready"), dict), gateway)
    (event,) = ask(f"{url}/e/e", {"name": "files", "data": {}})["ids"]
    (run,) = await until(lambda: ask(f"{url}/v1/events/{event}/runs")["data"], runner)
    path = f"{url}/v1/runs/{run['run_id']}"
    (said,) = await until(lambda: ask(path)["data"]["progress"], runner)
    assert (said["step_id"], said["ratio"], said["note"]) == ("copy", 0.4, "120/300")
    shown = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", "import sys; from stepwell.cli import main; sys.exit(main())", "runs", "get", run["run_id"]],
        env={**os.environ, "STEPWELL_URL": url, "STEPWELL_KEY": "s3cret"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "progress  copy 40% 120/300" in shown.stdout.splitlines()
    (tmp_path / "done").touch()
    assert await until(lambda: ask(path)["data"]["output"], runner) == 300
    assert ask(path)["data"]["progress"] == []
    assert [await one.end(signal.SIGTERM) for one in (runner, gateway)] == [0, 0]


async def test_code_that_can_not_be_imported_ends_the_pod(start: Start, apply: Apply, tmp_path: Path) -> None:
    """A runner whose code is broken ends with 1; the termination log's first line names the function or the file, and the line."""
    broken = start("runner", "p", "import sys\n\nimport nowhere_to_be_found\n")
    assert await broken.end() == 1
    word = (tmp_path / "termination-log").read_text().splitlines()[0]
    assert word == f"HandlerImportFailed: p.py: {tmp_path}/p.py:3: ModuleNotFoundError: No module named 'nowhere_to_be_found'"
    await apply("greet", "q", "r1", "gone")
    missing = start("runner", "q", CODE.format(pool="q"))
    assert await missing.end() == 1
    word = (tmp_path / "termination-log").read_text().splitlines()[0]
    assert word.startswith("HandlerImportFailed: greet: ")
    assert "there is no function 'gone'" in word
    assert "Traceback" not in missing.log.read_text()


async def test_a_runner_waits_for_its_store(start: Start) -> None:
    """While the store is away at its start a runner is alive and unready, and ends well when told to."""
    away = start("runner", "p", CODE.format(pool="p"), STEPWELL_STORE="postgresql://nobody@127.0.0.1:9/none?schema=x")
    health = await away.url()
    assert ask(f"{health}/health")["data"] == {"alive": True}
    assert ask(f"{health}/ready") == 503
    assert await away.end(signal.SIGTERM) == 0


async def test_both_wait_for_a_role_that_is_refused(start: Start, apply: Apply, store: PostgresStore, postgres_dsn: str) -> None:
    """Begun while their role may not log in, gateway and runner are alive, say in `/ready` why they wait, and go on by themselves."""
    side = await asyncpg.connect(postgres_dsn)
    role = f"guest_{uuid4().hex}"
    await side.execute(f"create role {role} superuser nologin")
    await apply("greet", "p", "r1", "greet", triggers=[{"event": "hi"}])
    address = {"STEPWELL_STORE": f"{postgres_dsn.replace('postgres@', f'{role}@')}?schema={store._schema}"}
    both = [start("gateway", **address), start("runner", "p", CODE.format(pool="p"), **address)]
    urls = [await one.url() for one in both]
    for one, url in zip(both, urls, strict=True):
        told = await until(lambda url=url: why(url), one)
        assert told == "Postgres refuses the user or password of this address (28000)"
        assert ask(f"{url}/health")["data"] == {"alive": True}
        assert one.log.read_text().count("the store can't be used yet") == 1
    await side.execute(f"alter role {role} login")
    for one, url in zip(both, urls, strict=True):
        await until(lambda url=url: isinstance(ask(f"{url}/ready"), dict), one)
        assert "the store can be used now" in one.log.read_text()
    (event,) = ask(f"{urls[0]}/e/e", {"name": "hi", "data": {}})["ids"]
    await until(
        lambda: [run for run in ask(f"{urls[0]}/v1/events/{event}/runs")["data"] if run["status"] == "COMPLETED"], both[1]
    )
    assert [await one.end(signal.SIGTERM) for one in both] == [0, 0]
    await side.close()


@pytest.mark.parametrize("broken", ["postgresql://u@h:port/d", "another build"])
async def test_what_no_waiting_mends_ends_the_pod(
    start: Start, store: PostgresStore, postgres_dsn: str, tmp_path: Path, broken: str
) -> None:
    """An address that can't be read and a schema of another build end gateway and runner with 1 and what is wrong."""
    address, word = {"STEPWELL_STORE": broken}, "AddressRefused: the store's address has a port that is no number"
    if broken == "another build":
        schema = f"other_{uuid4().hex}"
        address, word = (
            {"STEPWELL_STORE": f"{postgres_dsn}?schema={schema}"},
            f"StoreError: the schema {schema!r} was made by another build",
        )
        await PostgresStore(address["STEPWELL_STORE"]).migrate()
        side = await asyncpg.connect(postgres_dsn)
        await side.execute(f"update {schema}.migrations set digest = 'x' where name = '0001_tables'")
        await side.close()
    gateway, runner = start("gateway", **address), start("runner", "p", CODE.format(pool="p"), **address)
    assert [await one.end() for one in (gateway, runner)] == [1, 1]
    assert (tmp_path / "termination-log").read_text().startswith(word)
    for one in (gateway, runner):
        assert word.partition(": ")[2] in one.log.read_text()
        assert "Traceback" not in one.log.read_text()


async def test_handlers_of_an_image(start: Start, apply: Apply, store: PostgresStore, tmp_path: Path) -> None:
    """Without a code file handlers are `module:function` of the working folder or of what is installed."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "orders.py").write_text(CODE.format(pool="an image"), encoding="utf-8")
    await apply("greet", "p", "r1", "shop.orders:greet", triggers=[{"event": "hi"}])
    await apply("nap", "p", "r1", "shop.orders:nap", triggers=[{"event": "hi"}])
    runner = start("runner", "p", "", STEPWELL_CODE="")
    gateway = start("gateway")
    url = await gateway.url()
    await until(lambda: isinstance(ask(f"{url}/ready"), dict), gateway)
    (event,) = ask(f"{url}/e/e", {"name": "hi", "data": {}})["ids"]
    assert await until(lambda: ended(url, event), runner) == {"greet": "hello from an image", "nap": "an image"}
    assert (await store.stats()).runners[0].functions == ("greet", "nap")
    await apply("late", "p", "r1", "shop.orders:nowhere")
    await until(lambda: "can't be imported" in runner.log.read_text(), runner)
    assert isinstance(ask(f"{await runner.url()}/ready"), dict)
    assert (await store.stats()).runners[0].functions == ("greet", "nap")


def why(url: str) -> str | None:
    """What `/ready` says that a process waits for, once it has met that."""
    try:
        urlopen(f"{url}/ready", timeout=DEADLINE).close()
    except HTTPError as error:
        with error:
            told = json.loads(error.read())["waiting_for"]
            return None if told == ANSWER else told
    return "it is ready"


def ended(url: str, event: str) -> dict[str, Any] | None:
    """What the two runs of an event returned, once both have ended."""
    runs = ask(f"{url}/v1/events/{event}/runs")["data"]
    outputs = {run["function_id"]: run["output"] for run in runs if run["ended_at"] is not None}
    return outputs if len(outputs) == 2 else None
