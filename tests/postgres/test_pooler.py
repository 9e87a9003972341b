"""PgBouncer in transaction mode: no session state is relied upon."""

import asyncio
import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres.conftest import Open
from postgres.piles import claim, event, start, step, ulid
from postgres_server import PATIENCE, PORTS, Postgres, free_port

from stepwell.engine.run import RunStatus
from stepwell.store.records import End, Pile, Turn
from stepwell.store.registry import FunctionRow
from stepwell.store.views import RunnerRow

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
LISTENING = "0A"
"""The state of a listening socket in /proc/net/tcp."""


@pytest.fixture
def pooled_dsn(postgres: Postgres, tmp_path: Path) -> Iterator[str]:
    """The session's Postgres by way of a PgBouncer with two server connections."""
    if PGBOUNCER is None:
        pytest.skip("PgBouncer is NOT TESTED: no pgbouncer on this machine (apt-get install pgbouncer)")
    for _ in range(PORTS):
        port = free_port()
        process = _start([PGBOUNCER, str(_configured(tmp_path, port, postgres.port))], tmp_path)
        if _answers(process, port):
            break
        stop(process)
    else:
        pytest.fail(f"PgBouncer did not start on any of {PORTS} ports: {(tmp_path / 'said').read_text()[-500:]}")
    yield f"postgresql://postgres@127.0.0.1:{port}/postgres?pooler=1"
    stop(process)


def _configured(folder: Path, port: int, postgres_port: int) -> Path:
    """PgBouncer's files."""
    (folder / "users").write_text('"postgres" ""\n')
    config = folder / "pgbouncer.ini"
    config.write_text(
        f"[databases]\npostgres = host=127.0.0.1 port={postgres_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {folder / 'users'}\npool_mode = transaction\n"
        "default_pool_size = 2\nserver_reset_query =\n"
    )
    return config


def _start(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """PgBouncer, which refuses to run as root."""
    with (folder / "said").open("ab") as said:
        if os.geteuid() != 0:
            return subprocess.Popen(command, stderr=said)
        nobody = pwd.getpwnam("nobody")
        for path in (folder, *folder.iterdir()):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        for parent in (folder, *folder.parents[:3]):
            parent.chmod(parent.stat().st_mode | 0o011)
        return subprocess.Popen(command, user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[], stderr=said)


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether this PgBouncer takes connections; another process may have taken its port since it was found free."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        if _listens(process.pid, port):
            return True
        time.sleep(0.02)
    return False


def _listens(pid: int, port: int) -> bool:
    """Whether one of this process's own sockets listens on the port."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{port:04X}") and row[3] == LISTENING}
    try:
        return any(str(one.readlink()) in inodes for one in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False  # something was closed meanwhile, or it has ended


def stop(process: subprocess.Popen[bytes]) -> None:
    """End it, whether it wants to wait for its clients or not."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


async def test_runs_go_through_a_pooler(pooled_dsn: str, open_store: Open) -> None:
    """Two runners behind a pooler with two server connections start, claim, record and finish; every run ends once."""
    first = await open_store(pooled_dsn)
    second = await open_store(pooled_dsn)
    await first.register("tests", [FunctionRow("f", "r1", "p", "tests", b"{}")], [])
    for store, runner_id in ((first, "A"), (second, "B")):
        await store.enrol(RunnerRow(runner_id, ("p",), ("f",), 10, 60_000_000, draining=False))
    ids = [ulid(number) for number in range(60)]

    async def work(store: object, runner_id: str, own: list[str]) -> int:
        await asyncio.gather(*(store.commit(Pile(events=(event(run_id),), starts=(start(run_id, event=0),))) for run_id in own))
        ended = 0
        while claimed := (await store.commit(Pile(claim=claim(7, runner_id)))).claimed:
            turns = tuple(Turn(run.run_id, run.epoch, (step("s"),), then=End(RunStatus.COMPLETED, b"1")) for run in claimed)
            ended += sum(turn.landed for turn in (await store.commit(Pile(turns=turns))).turns)
            assert await asyncio.to_thread(store.beat, runner_id, 60_000_000)
        return ended

    done = await asyncio.gather(work(first, "A", ids[:30]), work(second, "B", ids[30:]))
    done.append(await work(first, "A", []))
    assert sum(done) == len(ids)
    assert await first.doctor() == []


async def test_hints_are_off_behind_a_pooler(pooled_dsn: str, open_store: Open) -> None:
    """Behind a pooler nobody listens, and the caller is told so."""
    store = await open_store(pooled_dsn)
    assert await store.on_hint(lambda _payload: None) is False
    await store.hint("p")
