"""Rules and boards in the chart: off unless asked for, and then exactly those that the code makes."""

import json

import pytest
from chart.rendering import MONITORING, ROOT, SETS, Chart

from stepwell_operator.monitoring.boards import BOARDS
from stepwell_operator.monitoring.panels import dashboard
from stepwell_operator.monitoring.rules import rules

WANTED = SETS["monitored"]


def kinds(chart: Chart, *sets: str) -> list[str]:
    return [one["kind"] for one in chart.objects(sets, *MONITORING)]


def test_nothing_of_it_is_there_unasked(chart: Chart) -> None:
    """Without a value set there is neither a rule nor a board, whatever the cluster knows."""
    assert {"PrometheusRule", "ConfigMap"} & set(kinds(chart)) == set()


def test_no_rules_where_the_kind_is_unknown(chart: Chart) -> None:
    """A cluster without the monitoring kinds gets no PrometheusRule, so that the release installs; the boards come."""
    found = [one["kind"] for one in chart.objects(WANTED)]
    assert "PrometheusRule" not in found
    assert found.count("ConfigMap") == len(BOARDS)


def test_the_rules_are_those_that_are_made(chart: Chart) -> None:
    """The PrometheusRule holds the generated groups, and the labels by which a Prometheus selects it."""
    one = chart.one("PrometheusRule", "stepwell", WANTED, *MONITORING)
    assert one["spec"] == rules()
    assert one["metadata"]["labels"]["release"] == "prometheus"


def test_addresses_can_be_ones_own(chart: Chart) -> None:
    """Runbooks and boards are linked where one has them."""
    sets = (
        *WANTED,
        "metrics.rules.runbookUrl=https://wiki.example/stepwell/",
        "metrics.rules.grafanaUrl=https://grafana.example",
    )
    spec = chart.one("PrometheusRule", "stepwell", sets, *MONITORING)["spec"]
    for rule in spec["groups"][1]["rules"]:
        assert rule["annotations"]["runbook_url"].startswith("https://wiki.example/stepwell/Stepwell")
        assert rule["annotations"]["dashboard_url"].startswith("https://grafana.example/d/stepwell-")


@pytest.mark.parametrize("board", BOARDS, ids=lambda one: one.name)
def test_each_board_has_its_config_map(chart: Chart, board: object) -> None:
    """A ConfigMap labelled `grafana_dashboard` holds the board's JSON."""
    name = getattr(board, "name", "")
    one = chart.one("ConfigMap", f"stepwell-board-{name}", WANTED, *MONITORING)
    assert one["metadata"]["labels"]["grafana_dashboard"] == "1"
    (text,) = one["data"].values()
    assert json.loads(text) == dashboard(next(made for made in BOARDS if made.name == name))


def test_the_generated_files_are_in_the_package() -> None:
    """What the templates read is not left out by .helmignore."""
    ignored = (ROOT / "charts" / "stepwell" / ".helmignore").read_text(encoding="utf-8")
    assert "files" not in ignored
