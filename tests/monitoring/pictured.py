"""Which boards have a picture in the docs, where it lies, and what is written into it of the board that it shows."""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BOARDS = ROOT / "charts" / "stepwell" / "files" / "dashboards"
PICTURES = ROOT / "docs" / "pictures"
MAIN = ("overview", "function", "retries", "runners")
KEY = "Board"
PNG = b"\x89PNG\r\n\x1a\n"

Told = list[dict[str, Any]]


def board_of(name: str) -> dict[str, Any]:
    """The board as the chart brings it."""
    return json.loads((BOARDS / f"{name}.json").read_text(encoding="utf-8"))


def picture_of(name: str) -> Path:
    return PICTURES / f"{name}.png"


def told_of(board: dict[str, Any]) -> Told:
    """What a picture shows of each panel: where the board has changed in it, the picture is out of date."""
    return [
        {
            "title": panel["title"],
            "type": panel["type"],
            "place": panel["gridPos"],
            "unit": panel["fieldConfig"]["defaults"]["unit"],
            "asks": [[target["expr"], target["legendFormat"]] for target in panel["targets"]],
        }
        for panel in board["panels"]
    ]


def told_in(picture: Path) -> Told | None:
    """What was written into the picture when it was drawn, as text of the PNG; None where nothing was."""
    data, at = picture.read_bytes(), len(PNG)
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        key, _, rest = data[at + 8 : at + 8 + length].partition(b"\0")
        if kind == b"zTXt" and key == KEY.encode():
            return json.loads(zlib.decompress(rest[1:]))  # one byte names the method: there is only this one
        at += length + 12
    return None
