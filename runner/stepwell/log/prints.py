"""What user code prints becomes log lines with the run's context, dropped while it replays; all else is printed as it is."""

import logging
import sys
import threading
from typing import Any, TextIO, cast

from stepwell.log.scope import Scope, current

LOGGER = "print"
LONGEST = 64 * 1024
MOST_OPEN = 1000
"""Lines that were begun and not ended, over all runs; of more than that the oldest is written as it stands."""


def capture_prints() -> None:
    """From now on make log lines of what user code prints. What it starts as processes of its own prints past this."""
    if not isinstance(sys.stdout, _Prints):
        sys.stdout = cast("TextIO", _Prints(sys.stdout))
    # Whoever prints wants to see it, whatever the level.
    logging.getLogger(LOGGER).setLevel(logging.INFO)


def real_stdout() -> TextIO:
    """Standard output itself, past the capture."""
    return sys.stdout.real if isinstance(sys.stdout, _Prints) else sys.stdout


class _Prints:
    """Standard output as user code sees it."""

    def __init__(self, real: TextIO) -> None:
        self.real = real
        self._begun: dict[tuple[str, str | None], tuple[Scope, str]] = {}
        self._writing = threading.local()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def write(self, text: str) -> int:
        """Take a piece of text; whole lines go to the log."""
        scope = current.get()
        if scope is None or getattr(self._writing, "now", False):
            return self.real.write(text)
        place = (scope.run_id, scope.step)
        _, begun = self._begun.pop(place, (scope, ""))
        *lines, rest = (begun + text).split("\n")
        for line in lines:
            self._log(scope, line)
        if len(rest) > LONGEST:
            self._log(scope, rest)
        elif rest:
            self._begun[place] = (scope, rest)
        while len(self._begun) > MOST_OPEN:
            self._log(*self._begun.pop(next(iter(self._begun))))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Take pieces of text."""
        for line in lines:
            self.write(line)

    def _log(self, scope: Scope, line: str) -> None:
        if not line.strip():
            return
        self._writing.now = True  # a handler of somebody else's may write to this very stream
        entered = current.set(scope)
        try:
            logging.getLogger(LOGGER).info("%s", line.rstrip())
        finally:
            current.reset(entered)
            self._writing.now = False
