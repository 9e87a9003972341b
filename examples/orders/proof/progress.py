"""Something to look at while the demo works: a bar on a terminal, else one line a second."""

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

BAR = 16


class Progress:
    """How many lines are sent, and what the live runs are doing."""

    def __init__(self, lines: int) -> None:
        self.lines = lines
        self.began = time.monotonic()
        self._told = 0.0
        self._is_terminal = sys.stdout.isatty()
        self._open = False

    @property
    def is_due(self) -> bool:
        """Whether it is time to show something again."""
        return time.monotonic() - self._told >= (0.25 if self._is_terminal else 1.0)

    def show(self, sent: int, live: Mapping[str, Sequence[dict[str, Any]]]) -> None:
        """Show where things stand."""
        self._told = time.monotonic()
        filled = BAR * sent // self.lines
        bar = f"[{'#' * filled}{'.' * (BAR - filled)}] " if self._is_terminal else ""
        doing = "  ".join(f"{len(runs)} {status.lower()}" for status, runs in live.items())
        self._write(f"{self._clock()}  {bar}sent {sent}/{self.lines}   {doing}", stays=not self._is_terminal)

    def say(self, text: str) -> None:
        """Say something that stays."""
        self._write(f"{self._clock()}  {text}", stays=True)

    def _clock(self) -> str:
        return f"{time.monotonic() - self.began:5.1f} s"

    def _write(self, text: str, *, stays: bool) -> None:
        over = "\r\033[K" if self._open else ""
        if not stays:
            text = text[: shutil.get_terminal_size().columns - 1]
        sys.stdout.write(f"{over}{text}" + ("\n" if stays else ""))
        sys.stdout.flush()
        self._open = not stays
