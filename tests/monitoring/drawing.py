"""A board drawn as Grafana lays it out: its JSON and the figures that answer its queries make a PNG. Needs matplotlib."""

import io
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import DateFormatter, SecondLocator
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator, PercentFormatter
from monitoring.pictured import KEY, told_of
from PIL import Image
from PIL.PngImagePlugin import PngInfo

COLUMNS = 24
WIDTH, ROW, HEAD, FOOT, GAP = 1500, 42, 76, 44, 7
"""Pixels: of the picture, of one row of the grid, above and below the panels, and between a panel and the lines of the grid."""
DPI = 150
TEXT, SMALL = 7.2, 6.2
SIZES = {"font.family": "DejaVu Sans", "font.size": TEXT, "axes.linewidth": 0.5, "lines.linewidth": 1.1}
LINES = ("#56a64b", "#e0a800", "#3274d9", "#ff780a", "#e02f44", "#8f3bb8", "#37a2b7", "#7c5c3b", "#c15c9c", "#5a6270")
PAPER, SHEET, EDGE, INK, FAINT, GRID = "#f4f5f5", "#ffffff", "#dcdfe3", "#24292e", "#6b7280", "#e7e9ec"
LEGEND_ROWS = 3
NOTHING = "no data: nothing of that kind happened"

Answer = list[dict[str, Any]]
"""What Prometheus found for one query."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels from the top left."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Seen:
    """The figures of a board: for each panel the answers to its queries, and the times that they were asked for."""

    answers: dict[int, list[Answer]]
    times: Sequence[float]


class Sheet:
    """One figure that is drawn upon in pixels from the top left."""

    def __init__(self, height: float) -> None:
        self.height = height
        self.figure = Figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI, facecolor=PAPER)
        self.canvas = FigureCanvasAgg(self.figure)

    def text(self, x: float, y: float, text: str, **style: Any) -> float:
        """Write in the middle of a line at y; where the text ends."""
        put = self.figure.text(x / WIDTH, 1 - y / self.height, text, **({"va": "center", "color": INK} | style))
        return put.get_window_extent(self.canvas.get_renderer()).x1

    def panel(self, box: Box) -> None:
        edge = FancyBboxPatch(
            (box.x / WIDTH, 1 - (box.y + box.height) / self.height),
            *(box.width / WIDTH, box.height / self.height),
            boxstyle="square,pad=0",
            transform=self.figure.transFigure,
            facecolor=SHEET,
            edgecolor=EDGE,
            linewidth=0.6,
            zorder=-1,
        )
        self.figure.add_artist(edge)

    def axes(self, box: Box) -> Axes:
        place = (box.x / WIDTH, 1 - (box.y + box.height) / self.height, box.width / WIDTH, box.height / self.height)
        return self.figure.add_axes(place, facecolor=SHEET)


def draw(board: dict[str, Any], seen: Seen, foot: str, path: Path) -> None:
    """Write the picture of the board with these figures."""
    with mpl.rc_context(SIZES):
        rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
        sheet = Sheet(HEAD + rows * ROW + FOOT)
        _head(sheet, board, seen)
        for panel in board["panels"]:
            _panel(sheet, panel, seen)
        sheet.text(2 * GAP, sheet.height - FOOT / 2, foot, fontsize=SMALL, color=FAINT)
        _save(sheet, board, path)


def _head(sheet: Sheet, board: dict[str, Any], seen: Seen) -> None:
    sheet.text(2 * GAP, 22, board["title"], fontsize=11, fontweight="bold")
    chosen = [f"{one['label']}: All" for one in board["templating"]["list"] if one["type"] == "query"]
    sheet.text(2 * GAP, 56, f"{board['description']}     {'     '.join(chosen)}", color=FAINT)
    span = " to ".join(f"{datetime.fromtimestamp(at, UTC):%H:%M:%S}" for at in (seen.times[0], seen.times[-1]))
    sheet.text(WIDTH - 2 * GAP, 22, f"{span} UTC", ha="right", color=FAINT)


def _panel(sheet: Sheet, panel: dict[str, Any], seen: Seen) -> None:
    place, cell = panel["gridPos"], (WIDTH - 2 * GAP) / COLUMNS
    box = Box(
        GAP + place["x"] * cell + GAP / 2,
        HEAD + place["y"] * ROW + GAP / 2,
        place["w"] * cell - GAP,
        place["h"] * ROW - GAP,
    )
    sheet.panel(box)
    sheet.text(box.x + 12, box.y + 20, panel["title"], fontweight="bold")
    kinds: dict[str, Callable[[Sheet, Box, dict[str, Any], Seen], bool]] = {"timeseries": _lines, "table": _table}
    if not kinds[panel["type"]](sheet, box, panel, seen):
        sheet.text(box.x + box.width / 2, box.y + box.height / 2 + 10, NOTHING, ha="center", color=FAINT)


def _lines(sheet: Sheet, box: Box, panel: dict[str, Any], seen: Seen) -> bool:
    """The lines of a panel over time, what they are called below; whether there are any."""
    found = list(_series(panel, seen))
    if not found:
        return False
    names = [name for name, _ in found]
    rows = _legend(sheet, box, names)
    axes = sheet.axes(Box(box.x + 92, box.y + 42, box.width - 134, box.height - 82 - 22 * rows))
    highest = 0.0
    for place, (_, points) in enumerate(found):
        times = [datetime.fromtimestamp(at, UTC) for at, _ in points]
        values = [value for _, value in points]
        axes.plot(times, values, color=LINES[place % len(LINES)], solid_joinstyle="round", clip_on=False)
        highest = max([highest, *(value for value in values if not math.isnan(value))])
    axes.set_ylim(0, highest * 1.1 or 1)
    axes.set_xlim(*(datetime.fromtimestamp(at, UTC) for at in (seen.times[0], seen.times[-1])))
    _scales(axes, panel["fieldConfig"]["defaults"]["unit"])
    return True


def _scales(axes: Axes, unit: str) -> None:
    units = {
        "s": EngFormatter("s", sep=" "),
        "ops": FuncFormatter(lambda value, _: f"{value:g} ops/s"),
        "percentunit": PercentFormatter(1, decimals=0),
        "short": FuncFormatter(lambda value, _: f"{value:g}"),
    }
    axes.yaxis.set_major_formatter(units[unit])
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_locator(SecondLocator(bysecond=(0, 30)))
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M:%S"))
    axes.tick_params(length=0, labelsize=SMALL, labelcolor=FAINT, pad=4)
    axes.tick_params(axis="x", pad=7)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)


def _series(panel: dict[str, Any], seen: Seen) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """Every line that has a value, and what it is called."""
    for target, answer in zip(panel["targets"], seen.answers[panel["id"]], strict=True):
        for one in answer:
            labels = one["metric"]
            name = re.sub(r"\{\{(\w+)\}\}", lambda found, labels=labels: labels.get(found[1], ""), target["legendFormat"])
            found = {float(at): float(value) for at, value in one["values"]}
            points = [(at, found.get(at, math.nan)) for at in seen.times]  # where a figure is missing the line breaks
            if any(not math.isnan(value) for _, value in points):
                yield name.strip(), points


def _legend(sheet: Sheet, box: Box, names: Sequence[str]) -> int:
    """Names from left to right below the lines, as many as there is room for; how many rows they take."""
    left, right = box.x + 14, box.x + box.width - 12
    rows: list[list[int]] = [[]]
    at = left
    for place, name in enumerate(names):
        wide = _width(sheet, name) + 40
        if at + wide > right and rows[-1]:
            rows.append([])
            at = left
        rows[-1].append(place)
        at += wide
    for number, row in enumerate(rows[:LEGEND_ROWS]):
        at = left
        y = box.y + box.height - 15 - 22 * (min(len(rows), LEGEND_ROWS) - 1 - number)
        for place in row:
            sheet.text(at, y, "\N{EM DASH}", fontweight="bold", color=LINES[place % len(LINES)])
            at = sheet.text(at + 20, y, names[place], fontsize=SMALL) + 20
    left_out = sum(len(row) for row in rows[LEGEND_ROWS:])
    if left_out:
        sheet.text(right, box.y + 20, f"and {left_out} more lines", fontsize=SMALL, color=FAINT, ha="right")
    return min(len(rows), LEGEND_ROWS)


def _width(sheet: Sheet, text: str) -> float:
    put = sheet.figure.text(0, 0, text, fontsize=SMALL)
    width = put.get_window_extent(sheet.canvas.get_renderer()).width
    put.remove()
    return width


def _table(sheet: Sheet, box: Box, panel: dict[str, Any], seen: Seen) -> bool:
    """What was found last, a row each, as many as there is room for; whether there is anything."""
    rows = [{**one["metric"], "Value": f"{float(one['value'][1]):.3g}"} for one in seen.answers[panel["id"]][0]]
    if not rows:
        return False
    columns = list(rows[0])
    step = (box.width - 28) / len(columns)
    shown = rows[: int((box.height - 80) // 28)]
    for place, name in enumerate(columns):
        x, align = (box.x + 14 + place * step, "left") if name != "Value" else (box.x + box.width - 16, "right")
        sheet.text(x, box.y + 52, name, fontsize=SMALL, color=LINES[2], ha=align)
        for number, row in enumerate(shown):
            sheet.text(x, box.y + 82 + 28 * number, row[name], fontsize=SMALL, ha=align)
    return True


def _save(sheet: Sheet, board: dict[str, Any], path: Path) -> None:
    """As a PNG of few colours, half as large, that carries what it shows of the board."""
    drawn = io.BytesIO()
    sheet.figure.savefig(drawn, format="png", dpi=DPI, facecolor=PAPER)
    told = PngInfo()
    told.add_text(KEY, json.dumps(told_of(board)), zip=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.open(drawn).convert("RGB").quantize(palette=_palette(), dither=Image.Dither.NONE)
    image.save(path, optimize=True, pnginfo=told)


def _palette() -> Image.Image:
    """Every colour of ours in steps to the white on which it is drawn: lines keep their colour, and edges stay smooth."""
    palette = Image.new("P", (1, 1))
    steps = [(colour, part / 16) for colour in (*LINES, INK, FAINT) for part in range(2, 17)]
    mixed = [255 - (255 - whole) * share for colour, share in steps for whole in bytes.fromhex(colour[1:])]
    palette.putpalette([*(round(one) for one in mixed), *bytes.fromhex("".join(one[1:] for one in (GRID, EDGE, PAPER, SHEET)))])
    return palette
