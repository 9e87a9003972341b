"""The parts of a board: what is asked, in which unit, how it is drawn. Pure."""

from dataclasses import dataclass
from typing import Any

from stepwell.metrics.catalogue import RUNS_CREATED

Document = dict[str, Any]
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24


@dataclass(frozen=True, slots=True)
class Ask:
    """One query of a panel and the name of its lines."""

    expr: str
    legend: str = "__auto"


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. `unit` is Grafana's name for it (`s`, `ops`, `percentunit`, `short`); `kind` timeseries, stat or table."""

    title: str
    told: str
    asks: tuple[Ask, ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    height: int = 7


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard. `by` are its variables: namespace, function, or none on the operator's."""

    name: str
    title: str
    told: str
    panels: tuple[Panel, ...]
    by: tuple[str, ...] = ("namespace", "function")


def dashboard(board: Board) -> Document:
    """The board as Grafana's JSON (schema 39, Grafana 10 and later)."""
    return {
        "uid": f"stepwell-{board.name}",
        "title": f"Stepwell / {board.title}",
        "description": board.told,
        "tags": ["stepwell"],
        "timezone": "browser",
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timepicker": {},
        "annotations": {"list": []},
        "links": [_boards()],
        "templating": {
            "list": [_datasource(), *(_variable(name, board.by) for name in board.by), *([_runs()] if board.by else [])]
        },
        "panels": _placed(board),
    }


def _placed(board: Board) -> list[Document]:
    """The panels from left to right, a new line where the next one doesn't fit."""
    placed: list[Document] = []
    x = y = tallest = 0
    for number, panel in enumerate(board.panels, 1):
        if x + panel.width > WIDTH:
            x, y, tallest = 0, y + tallest, 0
        placed.append(_panel(panel, number, {"x": x, "y": y, "w": panel.width, "h": panel.height}, board.by))
        x, tallest = x + panel.width, max(tallest, panel.height)
    return placed


def _panel(panel: Panel, number: int, place: Document, by: tuple[str, ...]) -> Document:
    document: Document = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.told,
        "gridPos": place,
        "datasource": DATASOURCE,
        "targets": [_target(ask, place, panel) for place, ask in enumerate(panel.asks)],
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": {}}, "overrides": []},
        "options": _options(panel.kind),
    }
    if by:
        search = "${runs}?function=${function}" if "function" in by else "${runs}"
        document["links"] = [{"title": "The runs behind it", "url": search, "targetBlank": True}]
    if panel.kind == "table":
        hidden = {"Time": True}
        document["transformations"] = [{"id": "organize", "options": {"excludeByName": hidden}}]
    return document


def _target(ask: Ask, place: int, panel: Panel) -> Document:
    instant = panel.kind in {"table", "stat"}
    return {
        "refId": chr(ord("A") + place),
        "datasource": DATASOURCE,
        "expr": ask.expr,
        "legendFormat": ask.legend,
        "editorMode": "code",
        "instant": instant,
        "range": not instant,
        "format": "table" if panel.kind == "table" else "time_series",
    }


def _options(kind: str) -> Document:
    if kind == "timeseries":
        return {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    if kind == "stat":
        return {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "value",
            "graphMode": "area",
        }
    return {"showHeader": True, "cellHeight": "sm"}


def _boards() -> Document:
    return {
        "type": "dashboards",
        "title": "Stepwell",
        "tags": ["stepwell"],
        "asDropdown": True,
        "includeVars": True,
        "keepTime": True,
    }


def _datasource() -> Document:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0, "refresh": 1}


def _runs() -> Document:
    """Where the run search is: the gateway's address, which Grafana can't know."""
    address = "http://localhost:8288/v1/runs"
    current = {"text": address, "value": address}
    return {"name": "runs", "label": "Runs at", "type": "textbox", "query": address, "current": current, "options": [], "hide": 0}


def _variable(name: str, by: tuple[str, ...]) -> Document:
    within = '{namespace=~"$namespace"}' if name == "function" and "namespace" in by else ""
    query = f"label_values({RUNS_CREATED}{within}, {name})"
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": "variable"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "hide": 0,
    }
