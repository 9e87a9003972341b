"""A Postgres that the node's pods can reach, and this side too; its processes may be stopped, killed and paused."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from secrets import token_hex
from typing import Literal

from cluster.harness.node import NodeCluster
from cluster.harness.program import NotReady

TESTS = Path(__file__).parents[2]
Verb = Literal["start", "stop", "kill", "pause", "resume"]


class NodePostgres:
    """One server, with two addresses for its two kinds of clients."""

    def __init__(self, node: NodeCluster) -> None:
        self._node = node
        self._password = token_hex(12)
        self._errors = node.home / "postgres.log"
        with self._errors.open("ab") as errors:
            self._process = subprocess.Popen(
                node.inside(sys.executable, "-m", "cluster.harness.postgres_inside", node.name, self._password),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=TESTS,
                env={**os.environ, "PYTHONPATH": str(TESTS)},
                text=True,
            )
        self.port = int(self._answer())

    @property
    def dsn(self) -> str:
        """For pods, as a superuser with a password."""
        return f"postgresql://postgres:{self._password}@{self._node.address}:{self.port}/postgres"

    @property
    def dsn_here(self) -> str:
        """For the test, as the same user."""
        return f"postgresql://postgres:{self._password}@127.0.0.1:{self._node.reach(self._node.address, self.port)}/postgres"

    def do(self, verb: Verb) -> None:
        """Start, stop, kill, pause or resume the server, and come back when it is done."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{verb}\n")
        self._process.stdin.flush()
        self._answer()

    def end(self) -> None:
        """Stop the server and remove its data."""
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise NotReady(f"Postgres in the node's network ended:\n{self._errors.read_text(errors='replace')[-2000:]}")
        return line.strip()


@contextlib.contextmanager
def node_postgres(node: NodeCluster) -> Generator[NodePostgres]:
    """A started server, gone at the end."""
    postgres = NodePostgres(node)
    try:
        yield postgres
    finally:
        postgres.end()
