"""One process of the cluster: started, waited for, stopped, killed, paused; its output is in a file."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

PATIENCE = 60.0


class NotReady(AssertionError):
    """Something did not come up in time; the message ends with its log."""


class Program:
    """A command that can be run again and again, always with the same arguments and the same log file."""

    def __init__(self, name: str, command: Sequence[str | Path], log: Path, env: dict[str, str] | None = None) -> None:
        self.name = name
        self.command = [str(part) for part in command]
        self.log = log
        self.env = env
        self.process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None, f"{self.name} is not started"
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Run it; it is not ready yet."""
        assert not self.alive, f"{self.name} runs already"
        with self.log.open("ab") as log:
            env = {**os.environ, **(self.env or {})}
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=env
            )
        self._guard = guard(f"kill -KILL {self.process.pid}")

    def stop(self, patience: float = PATIENCE) -> None:
        """Ask it to end (SIGTERM) and wait until it has; kill it when it doesn't."""
        if self.process is None:
            return
        self.resume()
        self._send(signal.SIGTERM)
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self._send(signal.SIGKILL)
        self._forget()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.process is not None:
            self._send(signal.SIGKILL)
            self._forget()

    def pause(self) -> None:
        """SIGSTOP: connections to it hang, nothing answers."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`."""
        self._send(signal.SIGCONT)

    def wait_until(self, ready: Callable[[], bool], seconds: float = PATIENCE) -> None:
        """Wait until `ready` says so.

        Raises:
            NotReady: it ended, or took too long.

        """
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.alive:
                raise NotReady(f"{self.name} ended:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise NotReady(f"{self.name} was not ready after {seconds:g} s:\n{self.tail()}")
            time.sleep(0.02)

    def tail(self, characters: int = 3000) -> str:
        """The end of what it has written."""
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""

    def _send(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    def _forget(self) -> None:
        assert self.process is not None
        self.process.wait(PATIENCE)
        self.process = None
        if self._guard is not None:
            dismiss(self._guard)
            self._guard = None


def guard(command: str, cwd: Path | None = None) -> subprocess.Popen[bytes]:
    """A shell that waits until this process is gone, however it went, and then runs a command."""
    return subprocess.Popen(
        ["/bin/sh", "-c", f"read _; {command}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd=cwd,
    )


def dismiss(guarding: subprocess.Popen[bytes]) -> None:
    """End a guard that isn't needed any more."""
    guarding.kill()
    guarding.communicate()


def free_ports(count: int) -> list[int]:
    """So many loopback ports on which nobody listens, all different."""
    with contextlib.ExitStack() as open_ones:
        probes = [open_ones.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
