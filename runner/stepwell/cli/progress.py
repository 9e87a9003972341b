"""How far the steps of runs that are waited for are: a bar for each on a terminal, else a line for each tenth.

All of it on standard error, apart from the output that is piped on.
"""

import os
import shutil
import sys
import unicodedata
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from stepwell.cli.show import clean, note

MOST_BARS = 5
LENGTH = 20
TENTHS = 10
COLUMNS = 80

Run = dict[str, Any]


class Follower(Protocol):
    """Whoever shows progress."""

    def show(self, runs: Sequence[Run]) -> None:
        """What the steps of these runs tell now."""
        ...


@contextmanager
def following(*, json: bool) -> Generator[Follower | None]:
    """Who shows progress for as long as this lasts; nobody where a program reads on."""
    if json:
        yield None
    elif not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield Lines()
    else:
        bars = Bars()
        try:
            yield bars
        finally:
            bars.clear()


class Lines:
    """A line when a step tells anything for the first time, and for each tenth that it reaches."""

    def __init__(self) -> None:
        self._reached: dict[object, int] = {}

    def show(self, runs: Sequence[Run]) -> None:
        """Print the lines that are due."""
        for one in _words(runs):
            tenth = int(one.ratio * TENTHS)
            if tenth > self._reached.get(one.whose, -1):
                self._reached[one.whose] = tenth
                note(one.text)


class Bars:
    """Bars that are drawn over one another as they move, and are gone when that is over."""

    def __init__(self) -> None:
        self._drawn: list[str] = []

    def show(self, runs: Sequence[Run]) -> None:
        """Draw the bars, if they look any different."""
        words = _words(runs)
        bars = [fitting(f"[{_bar(one.ratio)}] {one.text}", _columns() - 1) for one in words[:MOST_BARS]]
        if len(words) > MOST_BARS:
            bars.append(f"and {len(words) - MOST_BARS} more")
        if bars != self._drawn:
            self._draw(bars)

    def clear(self) -> None:
        """Leave nothing on the terminal."""
        if self._drawn:
            self._draw([])

    def _draw(self, bars: list[str]) -> None:
        up = f"\x1b[{len(self._drawn)}A" if self._drawn else ""
        sys.stderr.write(
            "".join([up, *(f"{bar}\x1b[K\n" for bar in bars), "\x1b[J"])
        )  # over the old ones, so that nothing blinks
        sys.stderr.flush()
        self._drawn = bars


def step_name(step_id: str, occurrence: int) -> str:
    """A step as people know it: the second of one id is `#2`."""
    return f"{step_id} #{occurrence + 1}" if occurrence else step_id


def said(word: dict[str, Any]) -> str:
    """What a step tells of itself, in a few words."""
    return f"{step_name(word['step_id'], word['occurrence'])} {word['ratio']:.0%} {word['note']}".rstrip()


def fitting(text: str, columns: int) -> str:
    """As much of the text as fits into so many columns, of which some letters take two, and some none."""
    used = 0
    for place, letter in enumerate(text):
        used += _width(letter)
        if used > columns:
            return text[:place]
    return text


@dataclass(frozen=True, slots=True)
class _Word:
    whose: tuple[str, str, int, int]
    ratio: float
    text: str


def _words(runs: Sequence[Run]) -> list[_Word]:
    return [
        _Word(
            (run["run_id"], word["step_id"], word["occurrence"], word["attempt"]),
            word["ratio"],
            clean(f"{run['function_id']}: {said(word)}" if len(runs) > 1 else said(word)).replace("\n", " ").replace("\t", " "),
        )
        for run in runs
        for word in run.get("progress", ())  # an older gateway tells of none
    ]


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or COLUMNS  # standard output may be a pipe
    except OSError:
        return shutil.get_terminal_size((COLUMNS, 24)).columns


def _bar(ratio: float) -> str:
    done = int(ratio * LENGTH)
    return "#" * done + "-" * (LENGTH - done)


def _width(letter: str) -> int:
    if unicodedata.category(letter) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(letter) in {"W", "F"} else 1
