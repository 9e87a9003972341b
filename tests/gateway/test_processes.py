"""The processes as users start them: dev, gateway and runner, driven by the command line, killed and started again."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, Queue
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen
from uuid import uuid4

import asyncpg
import pytest

CODE = """
import stepwell

@stepwell.function(id="greet", triggers=[stepwell.on_event("user/signup")])
async def greet(ctx: stepwell.Context) -> str:
    return await ctx.step.run("say", lambda: "{word}")

@stepwell.function(id="slow", triggers=[stepwell.on_event("order/created")])
async def slow(ctx: stepwell.Context) -> str:
    first = await ctx.step.run("first", lambda: "one")
    await ctx.step.sleep("nap", "{nap}")
    return first + await ctx.step.run("second", lambda: "{word}")

@stepwell.function(id="fails", triggers=[stepwell.on_event("bad")])
async def fails(ctx: stepwell.Context) -> None:
    raise stepwell.NonRetriableError("no")
"""
STUCK = """
import threading
import stepwell

@stepwell.function(id="stuck", triggers=[stepwell.on_event("stick")])
async def stuck(ctx: stepwell.Context) -> None:
    async def body() -> None:
        threading.Event().wait()

    await ctx.step.run("body", body)
"""
DEADLINE = 60.0


class Process:
    """A `stepwell` process and what it says."""

    def __init__(self, arguments: list[str], cwd: Path) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith("STEPWELL_")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", "import sys; from stepwell.cli import main; sys.exit(main())", *arguments],
            cwd=cwd,
            env={**env, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said: list[str] = []
        self._lines: Queue[str] = Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)

    def line(self, pattern: str) -> re.Match[str]:
        """The next line that matches."""
        until = time.monotonic() + DEADLINE
        while time.monotonic() < until:
            try:
                line = self._lines.get(timeout=0.1)
            except Empty:
                if self.process.poll() is not None and self._lines.empty():
                    break
                continue
            self.said.append(line)
            found = re.search(pattern, line)
            if found:
                return found
        raise AssertionError(f"no line matches {pattern!r} in:\n{''.join(self.said)}")

    def url(self) -> str:
        return self.line(r"(http://[0-9.:]+)")[1]

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        code = self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        if self.process.stdout is not None:
            self.process.stdout.close()


Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start `stepwell …` in an empty folder; all are ended with the test."""
    processes: list[Process] = []

    def make(*arguments: str) -> Process:
        processes.append(Process(list(arguments), tmp_path))
        return processes[-1]

    yield make
    for process in processes:
        process.close()


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    """A file with functions."""
    return write(tmp_path / "orders_x.py")


def write(path: Path, word: str = "hello", nap: str = "100ms") -> Path:
    path.write_text(CODE.replace("{word}", word).replace("{nap}", nap), encoding="utf-8")
    return path


def ask(*arguments: str, code: int = 0) -> str:
    """What `stepwell …` prints; it must end with this code."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from stepwell.cli import main; sys.exit(main())", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def ask_json(*arguments: str, code: int = 0) -> Any:
    return json.loads(ask(*arguments, "--json", code=code))


def test_dev_end_to_end(start: Start, orders: Path) -> None:
    """One command serves functions; events sent from another start runs whose results come back; Ctrl-C ends it well."""
    dev = start("dev", str(orders), "--port", "0", "--ephemeral")
    url = dev.url()
    dev.line("greet")
    dev.line("event user/signup")
    dev.line("stepwell send user/signup")
    told = ask("send", "user/signup", "--data", '{"a": 1}', "--id", "e1", "--wait", "--url", url)
    assert "event e1 accepted" in told
    assert '"hello"' in told
    assert (
        ask_json("send", "user/signup", "--data", '{"a": 1}', "--id", "e1", "--url", url)["results"][0]["status"] == "duplicate"
    )
    ask("send", "user/signup", "--data", '{"a": 2}', "--id", "e1", "--url", url, code=1)
    assert ask_json("send", "order/created", "--wait", "--url", url)["runs"][0]["output"] == "onehello"
    failed = ask_json("send", "bad", "--wait", "--url", url, code=1)["runs"][0]
    assert "no function started" in ask("send", "nobody/cares", "--wait", "--url", url)
    assert ask_json("invoke", "greet", "--wait", "--url", url)["output"] == "hello"
    ask("invoke", "nobody", "--url", url, code=1)
    assert "FAILED" in ask("runs", "list", "--status", "failed", "--url", url)
    assert "NonRetriableError" in ask("runs", "get", failed["run_id"], "--url", url)
    ask("runs", "rerun", failed["run_id"], "--wait", "--url", url, code=1)
    ask("runs", "cancel", failed["run_id"], "--url", url, code=1)
    assert "user/signup" in ask("events", "list", "--url", url)
    assert "started" in ask("events", "get", "e1", "--url", url)
    ask("events", "get", "nothing", "--url", url, code=1)
    assert dev.end(signal.SIGINT) == 0


def test_dev_goes_on_after_a_kill(start: Start, orders: Path, tmp_path: Path) -> None:
    """A run that sleeps while its process is killed goes on in the next one, and no step runs twice."""
    write(orders, nap="5s")
    dev = start("dev", str(orders), "--port", "0")
    url = dev.url()
    event = ask_json("send", "order/created", "--url", url)["ids"][0]
    run = read(f"{url}/v1/events/{event}/runs")[0]["run_id"]
    until = time.monotonic() + DEADLINE
    while (
        status := read(f"{url}/v1/runs/{run}")["status"]
    ) != "SLEEPING":  # asked directly: a command may take as long as the nap
        assert time.monotonic() < until, status
    dev.end(signal.SIGKILL)
    assert (tmp_path / ".stepwell" / "dev.db").exists()
    url = start("dev", str(orders), "--port", "0").url()
    while True:
        assert time.monotonic() < until + DEADLINE
        if read(f"{url}/v1/runs/{run}")["ended_at"]:
            break
    shown = ask_json("runs", "get", run, "--url", url)
    assert (shown["status"], shown["output"], shown["event_ids"]) == ("COMPLETED", "onehello", [event])
    assert [(step["id"], step["attempts"]) for step in shown["steps"]] == [("first", 1), ("nap", 1), ("second", 1)]


def test_dev_reloads_changed_code(start: Start, orders: Path) -> None:
    """Changed code is served at once, live runs go on with it; broken code is told and the old one stays."""
    write(orders, nap="6s")
    dev = start("dev", str(orders), "--port", "0", "--ephemeral")
    url = dev.url()
    dev.line("Try it")
    ask("send", "order/created", "--id", "live", "--url", url)
    write(orders, word="changed", nap="6s")
    dev.line("reloaded 3 functions; live runs that go on with it: 1$")
    assert ask_json("send", "user/signup", "--wait", "--url", url)["runs"][0]["output"] == "changed"
    orders.write_text("import stepwell\nstepwell.nonsense()\n", encoding="utf-8")
    dev.line("the code from before goes on")
    dev.line(r"orders_x\.py:2: AttributeError")
    assert ask_json("send", "user/signup", "--wait", "--url", url)["runs"][0]["output"] == "changed"
    until = time.monotonic() + DEADLINE
    while (run := ask_json("runs", "list", "--function", "slow", "--url", url)["data"][0])["status"] != "COMPLETED":
        assert time.monotonic() < until
    assert run["output"] == "onechanged"


def test_broken_from_the_start_is_told(start: Start, tmp_path: Path) -> None:
    """Code that is broken from the start ends `dev` with 1 and a line with file and line, no traceback."""
    file = tmp_path / "broken_x.py"
    file.write_text("import stepwell\n\n1 / 0\n", encoding="utf-8")
    told = start("dev", str(file), "--port", "0", "--ephemeral")
    told.line(r"broken_x\.py:3: ZeroDivisionError")
    assert told.process.wait(DEADLINE) == 1
    assert "Traceback" not in "".join(told.said)


def test_a_taken_port_and_a_taken_file_are_told(start: Start, orders: Path) -> None:
    """A port or a file that somebody else has is told with what to do, and ends the second process."""
    first = start("dev", str(orders), "--port", "0")
    port = first.url().rpartition(":")[2]
    second = start("dev", str(orders), "--port", port, "--ephemeral")
    second.line("choose another with --port")
    assert second.process.wait(DEADLINE) == 2
    third = start("dev", str(orders), "--port", "0")
    third.line("in use by another process")
    assert third.process.wait(DEADLINE) == 1


def test_a_key_opens_what_it_should(start: Start, orders: Path) -> None:
    """With a key, only who knows it is served."""
    url = start("dev", str(orders), "--port", "0", "--ephemeral", "--key", "s3cret").url()
    ask("runs", "list", "--url", url, code=1)
    ask("send", "user/signup", "--url", url, "--key", "wrong", code=1)
    assert "accepted" in ask("send", "user/signup", "--url", url, "--key", "s3cret")
    assert "greet" in ask("runs", "list", "--url", url, "--key", "s3cret")


@pytest.fixture
def database(postgres_dsn: str) -> str:
    """The address of an empty database."""
    name = f"processes_{uuid4().hex}"

    async def create() -> None:
        connection = await asyncpg.connect(postgres_dsn)
        await connection.execute(f"create database {name}")
        await connection.close()

    asyncio.run(create())
    return f"{postgres_dsn.rpartition('/')[0]}/{name}"


def test_gateway_and_runners_apart(start: Start, orders: Path, database: str) -> None:
    """A gateway and two runners that share a store do together what dev does alone; a killed runner's run goes on in the other."""
    write(orders, nap="1s")
    assert "applied" in ask("store", "migrate", "--store", database)
    assert "up to date already" in ask("store", "migrate", "--store", database)
    gateway = start("gateway", "--store", database, "--port", "0", "--key", "k")
    url = gateway.url()
    runners = [
        start("runner", "--store", database, "--functions", str(orders), "--lease", "3s", "--health-port", "0") for _ in range(2)
    ]
    for runner in runners:
        health = runner.url()
        runner.line("runner claims")
        assert [fetch(f"{health}/{path}") for path in ("health", "ready", "metrics")] == [200, 200, 200]
    event = ask_json("send", "order/created", "--url", url, "--key", "k")["ids"][0]
    runners[0].end(signal.SIGKILL)
    until = time.monotonic() + DEADLINE
    while not (runs := ask_json("runs", "list", "--url", url, "--key", "k")["data"]) or runs[0]["ended_at"] is None:
        assert time.monotonic() < until, runs
    assert [(run["status"], run["output"], run["event_ids"]) for run in runs] == [("COMPLETED", "onehello", [event])]
    assert runners[1].end(signal.SIGTERM) == 0
    assert gateway.end(signal.SIGTERM) == 0
    assert "all invariants hold" in ask("store", "doctor", "--store", database)


def test_a_loop_that_is_stuck_for_good_fails_liveness(start: Start, database: str, tmp_path: Path) -> None:
    """Code that never gives the event loop back: the runner's `/health` answers no more, so that a probe ends the process."""
    file = tmp_path / "stuck_x.py"
    file.write_text(STUCK, encoding="utf-8")
    ask("store", "migrate", "--store", database)
    runner = start("runner", "--store", database, "--functions", str(file), "--health-port", "0")
    health = runner.url()
    runner.line("runner claims")
    assert fetch(f"{health}/health") == 200
    url = start("gateway", "--store", database, "--port", "0", "--key", "k").url()
    ask("send", "stick", "--url", url, "--key", "k")
    runner.line("the event loop is blocked.*stuck")
    with pytest.raises(TimeoutError):
        urlopen(f"{health}/health", timeout=2)


def test_dev_on_postgres(start: Start, orders: Path, database: str) -> None:
    """`dev --store postgresql://…` makes its schema and serves as on SQLite."""
    url = start("dev", str(orders), "--port", "0", "--store", database).url()
    assert ask_json("send", "order/created", "--wait", "--url", url)["runs"][0]["output"] == "onehello"


def test_a_gateway_outlasts_a_store_that_is_away(start: Start) -> None:
    """A gateway whose store is away at its start is alive and unready, and says 503 to events."""
    gateway = start("gateway", "--store", "postgresql://nobody@127.0.0.1:9/none", "--port", "0")
    url = gateway.url()
    assert fetch(f"{url}/health") == 200
    assert fetch(f"{url}/ready") == 503
    ask("send", "a", "--url", url, code=3)
    assert gateway.end(signal.SIGTERM) == 0


def test_doctor_on_a_file(start: Start, orders: Path, tmp_path: Path) -> None:
    """The doctor examines a file that `dev` has left, and a file without a schema is an error, not a clean bill."""
    dev = start("dev", str(orders), "--port", "0")
    ask("send", "user/signup", "--wait", "--url", dev.url())
    dev.end(signal.SIGKILL)
    assert "all invariants hold" in ask("store", "doctor", "--store", str(tmp_path / ".stepwell" / "dev.db"))
    ask("store", "doctor", "--store", str(tmp_path / "empty.db"), code=1)


def read(url: str) -> Any:
    with urlopen(url, timeout=DEADLINE) as answer:
        return json.load(answer)["data"]


def fetch(url: str) -> int:
    try:
        with urlopen(url, timeout=DEADLINE) as answer:
            return int(answer.status)
    except HTTPError as error:
        error.close()
        return error.code
