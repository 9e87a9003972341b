"""How the command line shows things: plain, readable at 80 columns, and never what a terminal would act on."""

import json
import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from typing import Any

RED, GREEN, YELLOW, DIM = 31, 32, 33, 2
STATUS_COLOURS = {
    "COMPLETED": GREEN,
    "FAILED": RED,
    "CANCELLED": YELLOW,
    "SKIPPED": DIM,
    "accepted": GREEN,
    "conflict": RED,
    "invalid": RED,
}
UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
GAP = "  "


def clean(text: str) -> str:
    """The text without control and direction characters, which a terminal would act on."""
    return "".join(letter for letter in text if letter in "\n\t" or unicodedata.category(letter) not in {"Cc", "Cf", "Cs", "Co"})


def line(text: str = "") -> None:
    """Print one line, cleaned."""
    sys.stdout.write(f"{clean(text)}\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Print one line for people, apart from the output that is piped on."""
    sys.stderr.write(f"{clean(text)}\n")
    sys.stderr.flush()


def json_out(document: Any) -> None:
    """Print JSON; what a terminal would act on is escaped."""
    text = json.dumps(document, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None)
    sys.stdout.write(UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n")
    sys.stdout.flush()


def status(word: str) -> str:
    """A status, coloured where that is wanted. The only text that is printed with `raw`."""
    colour = STATUS_COLOURS.get(word)
    return word if colour is None or not in_colour() else f"\x1b[{colour}m{word}\x1b[0m"


def in_colour() -> bool:
    """Colour on a terminal, unless NO_COLOR is set or the terminal is a dumb one."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], coloured: int = -1) -> None:
    """Print columns; on a terminal the last one is cut to its width. The column `coloured` holds statuses."""
    cleaned = [[clean(cell).replace("\n", " ").replace("\t", " ") for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(headings, *cleaned, strict=True)]
    room = shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 0
    for number, row in enumerate([list(headings), *cleaned]):
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)]
        if room:
            cells[-1] = cut(row[-1], room - sum(len(cell) + len(GAP) for cell in cells[:-1]))
        if number and coloured >= 0:
            cells[coloured] = cells[coloured].replace(row[coloured], status(row[coloured]), 1)
        sys.stdout.write(GAP.join(cells).rstrip() + "\n")
    sys.stdout.flush()


def cut(text: str, room: int) -> str:
    """The text, shortened to what fits; never to less than eight characters."""
    room = max(room, 8)
    return text if len(text) <= room else f"{text[: room - 1]}…"


def brief(value: Any, room: int = 200) -> str:
    """A JSON value on one line."""
    return cut(json.dumps(value, ensure_ascii=False), room)


def time_of(instant: str | None) -> str:
    """An RFC 3339 instant as people read it."""
    return "-" if instant is None else instant.replace("T", " ").removesuffix("Z").partition(".")[0]
