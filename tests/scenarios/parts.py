"""Processes of `stepwell` as users start them, each with its log in a file, ended with the test."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

DEADLINE = 30.0
Start = Callable[..., "Part"]


class Part:
    """A process of `stepwell` with its log in a file."""

    def __init__(self, arguments: list[str], env: dict[str, str], home: Path) -> None:
        self.log = home / f"{arguments[0]}-{uuid4().hex}.log"
        bare = {name: value for name, value in os.environ.items() if not name.startswith("STEPWELL_")}
        command = [sys.executable, "-c", "import sys; from stepwell.cli import main; sys.exit(main())", *arguments]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=home, env={**bare, **env}, stdout=log, stderr=subprocess.STDOUT)

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    def wait_for(self, words: str) -> str:
        """The first line with these words."""
        until = time.monotonic() + DEADLINE
        while True:
            found = next((line for line in self.lines() if words in line), None)
            if found is not None:
                return found
            assert time.monotonic() < until, self.log.read_text()
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start parts; all are ended with the test."""
    parts: list[Part] = []

    def make(*arguments: str, **env: str) -> Part:
        parts.append(Part(list(arguments), env, tmp_path))
        return parts[-1]

    yield make
    for part in parts:
        if part.process.poll() is None:
            part.process.kill()
        part.process.wait(DEADLINE)
