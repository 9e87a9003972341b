"""Boards: seven, complete, of known metrics, in the form that Grafana reads."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from monitoring.test_rules import SERIES, names_in

from stepwell.metrics.catalogue import CATALOGUE
from stepwell_operator.monitoring.alerts import ALERTS
from stepwell_operator.monitoring.boards import BOARDS
from stepwell_operator.monitoring.panels import Board, dashboard

ROOT = Path(__file__).parents[2]
UNITS = {"s", "ops", "percentunit", "short"}


def queries(board: Board) -> list[str]:
    return [ask.expr for panel in board.panels for ask in panel.asks]


def test_there_are_seven() -> None:
    """Overview, Function, Retries and concurrency, Runners, Store, Cron, Operator."""
    assert [board.name for board in BOARDS] == ["overview", "function", "retries", "runners", "store", "cron", "operator"]
    assert len({dashboard(board)["uid"] for board in BOARDS}) == 7


def test_every_query_names_what_there_is() -> None:
    """Every series that a panel asks for is in the table of metrics."""
    for board in BOARDS:
        for query in queries(board):
            assert names_in(query), query
            assert names_in(query) <= SERIES, names_in(query) - SERIES


def test_every_metric_is_somewhere() -> None:
    """Each metric of the table is on a board or in an alert: what nobody looks at need not be counted."""
    asked = " ".join([*(query for board in BOARDS for query in queries(board)), *(alert.expr for alert in ALERTS)])
    assert [one.name for one in CATALOGUE if not re.search(rf"\b{one}\b|\b{one}_(bucket|count|sum)\b", asked)] == []


@pytest.mark.parametrize("board", BOARDS, ids=lambda one: one.name)
def test_the_json_is_a_dashboard(board: Board) -> None:
    """What Grafana needs is there: ids, places that don't overlap, targets with a data source, variables that are used."""
    document: dict[str, Any] = json.loads(json.dumps(dashboard(board)))
    assert document["uid"] == f"stepwell-{board.name}"
    assert len(document["uid"]) <= 40
    assert document["schemaVersion"] >= 36
    assert {"from", "to"} == set(document["time"])
    assert len({panel["id"] for panel in document["panels"]}) == len(document["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in document["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
        assert panel["type"] in {"timeseries", "stat", "table"}
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        assert panel["targets"]
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs)
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert target["instant"] is not target["range"]
    variables = [one["name"] for one in document["templating"]["list"]]
    assert variables[0] == "datasource"
    assert set(board.by) <= set(variables)
    used = set(re.findall(r"\$(?:\{)?(\w+)", json.dumps([panel["targets"] for panel in document["panels"]])))
    assert used - {"datasource", "__rate_interval", "__range"} == set(board.by) & used
    assert used - {"datasource", "__rate_interval", "__range"} <= set(variables)


@pytest.mark.parametrize("board", [one for one in BOARDS if one.by], ids=lambda one: one.name)
def test_each_panel_leads_to_the_runs(board: Board) -> None:
    """Every panel of a board about runs has a link to the run search."""
    for panel in dashboard(board)["panels"]:
        assert panel["links"][0]["url"].startswith("${runs}")


def test_the_charts_boards_are_these() -> None:
    """The chart has a file for each board, and no other."""
    folder = ROOT / "charts" / "stepwell" / "files" / "dashboards"
    assert {path.stem for path in folder.glob("*.json")} == {board.name for board in BOARDS}
