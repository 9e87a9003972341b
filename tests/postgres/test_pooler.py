"""PgBouncer in transaction mode: no session state is relied upon."""

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres.conftest import Open
from postgres.piles import claim, event, start, step, ulid
from postgres_server import Postgres

from stepwell.engine.run import RunStatus
from stepwell.store.records import End, FunctionRow, Pile, RunnerRow, Turn

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")


@pytest.fixture
def pooled_dsn(postgres: Postgres, tmp_path: Path) -> Iterator[str]:
    """The session's Postgres by way of a PgBouncer with two server connections."""
    if PGBOUNCER is None:
        pytest.skip("PgBouncer is NOT TESTED: no pgbouncer on this machine (apt-get install pgbouncer)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "users").write_text('"postgres" ""\n')
    config = tmp_path / "pgbouncer.ini"
    config.write_text(
        f"[databases]\npostgres = host=127.0.0.1 port={postgres.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {tmp_path / 'users'}\npool_mode = transaction\n"
        "default_pool_size = 2\nserver_reset_query =\n"
    )
    command = [PGBOUNCER, str(config)]
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        for path in (tmp_path, *tmp_path.iterdir()):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        for parent in (tmp_path, *tmp_path.parents[:3]):
            parent.chmod(parent.stat().st_mode | 0o011)
        process = subprocess.Popen(command, user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[], stderr=subprocess.DEVNULL)
    else:
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 0.2).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "PgBouncer did not start"
                assert process.poll() is None, "PgBouncer ended at once"
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres?pooler=1"
    finally:
        process.terminate()
        process.wait(10)


async def test_runs_go_through_a_pooler(open_store: Open, pooled_dsn: str) -> None:
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


async def test_hints_are_off_behind_a_pooler(open_store: Open, pooled_dsn: str) -> None:
    """Behind a pooler nobody listens, and the caller is told so."""
    store = await open_store(pooled_dsn)
    assert await store.on_hint(lambda _payload: None) is False
    await store.hint("p")
