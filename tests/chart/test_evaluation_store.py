"""The script that the evaluation store's pod runs, with a real Postgres."""

import asyncio
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from chart.rendering import CHART
from postgres_server import Postgres

SCRIPT = (CHART / "files" / "serve_postgres.sh").read_text(encoding="utf-8")


class Pod:
    """A volume, a password file, and the script that serves them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.like = Postgres(home)
        self.data = home / "pgdata"
        self.process: subprocess.Popen[bytes] | None = None

    def give(self, password: str) -> None:
        """Put the password where the pod's first container puts it."""
        (self.home / "password").write_text(password, encoding="utf-8")

    def own(self, path: Path) -> None:
        """Give a path to the user that the script runs as."""
        if self.like._as is not None:
            os.chown(path, *self.like._as)

    def start(self) -> None:
        """Run the script as the image's unprivileged user, in an environment like the container's."""
        env = {
            "PATH": f"{self.like.bin}:/usr/bin:/bin",
            "PGDATA": str(self.data),
            "PASSWORD_FILE": str(self.home / "password"),
            "PGPORT": str(self.like.port),
        }
        log = (self.home / "log").open("ab")
        command = ["/bin/sh", "-c", SCRIPT]
        self.process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=self.home, env=env, start_new_session=True, **self.like._credentials()
        )
        log.close()

    def kill(self) -> None:
        """End it and everything below it with SIGKILL, as a node does that goes away."""
        if self.process is not None and self.process.poll() is None:
            self.like.process = self.process
            self.like.kill()
        self.process = None

    @property
    def said(self) -> str:
        """Everything that it wrote."""
        return (self.home / "log").read_text(encoding="utf-8", errors="replace")

    async def ask(self, query: str, password: str) -> Any:
        """Ask it something over TCP, once it answers."""
        deadline = time.monotonic() + 60
        while True:
            try:
                address = {"host": "127.0.0.1", "port": self.like.port, "user": "postgres", "database": "postgres"}
                connection = await asyncpg.connect(**address, password=password, timeout=10)
            except (OSError, asyncpg.CannotConnectNowError):
                if time.monotonic() > deadline or self.process is None or self.process.poll() is not None:
                    raise AssertionError(self.said) from None
                await asyncio.sleep(0.1)
                continue
            try:
                return await connection.fetchval(query)
            finally:
                await connection.close()


@pytest.fixture
def pod() -> Iterator[Pod]:
    """A pod that isn't running yet."""
    # Below /tmp itself: the unprivileged user can't enter a folder of pytest's.
    with tempfile.TemporaryDirectory(prefix="stepwell-pod-") as home:
        made = Pod(Path(home))
        made.own(Path(home))
        made.give("first-password")
        yield made
        made.kill()


async def test_it_serves_and_asks_for_the_password(pod: Pod) -> None:
    """An empty volume becomes a database that takes the Secret's password over TCP and no other, and writes none into its log."""
    pod.start()
    assert await pod.ask("select current_setting('server_encoding')", "first-password") == "UTF8"
    with pytest.raises(asyncpg.InvalidPasswordError):
        await pod.ask("select 1", "another")
    assert await pod.ask("select rolsuper from pg_roles where rolname = current_user", "first-password")
    assert "first-password" not in pod.said


async def test_data_outlives_the_pod_and_the_secret(pod: Pod) -> None:
    """After a kill and with a new password in the Secret, the data is there and the new password holds in the old one's place."""
    pod.start()
    await pod.ask("create table kept as select 7 as n", "first-password")
    pod.kill()
    pod.give("second-password")
    pod.start()
    assert await pod.ask("select n from kept", "second-password") == 7
    with pytest.raises(asyncpg.InvalidPasswordError):
        await pod.ask("select 1", "first-password")


async def test_a_half_made_database_is_made_again(pod: Pod) -> None:
    """A pod that died while it made the database leaves nothing that the next one takes for it."""
    half = pod.data.with_name("pgdata.new")
    half.mkdir()
    (half / "PG_VERSION").write_text("17\n", encoding="utf-8")
    pod.own(half)
    pod.own(half / "PG_VERSION")
    pod.start()
    assert await pod.ask("select 1", "first-password") == 1
    assert not half.exists()


def test_no_password_no_database(pod: Pod) -> None:
    """Without the password file nothing is made."""
    (pod.home / "password").unlink()
    pod.start()
    assert pod.process is not None
    assert pod.process.wait(30) != 0
    assert not pod.data.exists()
