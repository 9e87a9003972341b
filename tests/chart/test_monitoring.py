"""Rules and boards in the chart: off unless asked for, and then exactly those that the code makes."""

import json

import pytest
from chart.rendering import MONITORING, ROOT, SETS, Chart

from stepwell_operator.monitoring.boards import BOARDS
from stepwell_operator.monitoring.panels import dashboard
from stepwell_operator.monitoring.rules import rules
from stepwell_operator.names import GATEWAY_SECRET
from stepwell_operator.resources.gateway import GatewaySpec, gateway_objects
from stepwell_operator.resources.pool import Around, pool_objects
from stepwell_operator.target import DEFAULT_STORE, Code, PoolSpec

WANTED = SETS["monitored"]


def kinds(chart: Chart, *sets: str) -> list[str]:
    return [one["kind"] for one in chart.objects(sets, *MONITORING)]


def test_nothing_of_it_is_there_unasked(chart: Chart) -> None:
    """Without a value set there is neither a rule nor a board, whatever the cluster knows."""
    assert {"PrometheusRule", "ConfigMap", "PodMonitor", "ServiceMonitor"} & set(kinds(chart)) == set()


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


def test_one_token_reads_every_gateway(chart: Chart) -> None:
    """In the whole cluster a PodMonitor finds the runners and one the gateways, wherever they are; that one has the named token."""
    runners = chart.one("PodMonitor", "stepwell-runners", WANTED, *MONITORING)["spec"]
    gateways = chart.one("PodMonitor", "stepwell-gateways", WANTED, *MONITORING)["spec"]
    for spec, port in ((runners, "metrics"), (gateways, "http")):
        assert spec["namespaceSelector"] == {"any": True}
        (endpoint,) = spec["podMetricsEndpoints"]
        assert (endpoint["port"], endpoint["path"], endpoint["honorLabels"]) == (port, "/metrics", True)
    assert "authorization" not in runners["podMetricsEndpoints"][0]
    credentials = gateways["podMetricsEndpoints"][0]["authorization"]["credentials"]
    assert credentials == {"name": "stepwell-scrape", "key": "token"}


def test_without_a_token_no_gateway_of_the_cluster_is_read(chart: Chart) -> None:
    """What nothing would be answered isn't asked for."""
    objects = chart.objects(("metrics.podMonitor.enabled=true",), *MONITORING)
    assert [one["metadata"]["name"] for one in objects if one["kind"] == "PodMonitor"] == ["stepwell-runners"]


def test_watched_namespaces_are_read_with_their_own_keys(chart: Chart) -> None:
    """With `watchNamespaces` only those are looked into, and each one's gateway with the key that lies beside it."""
    found = [one for one in chart.objects(SETS["watched"], *MONITORING) if one["kind"] == "PodMonitor"]
    runners, *gateways = found
    assert runners["spec"]["namespaceSelector"] == {"matchNames": ["shop", "bank"]}
    assert [one["metadata"]["namespace"] for one in gateways] == ["shop", "bank"]
    for one in gateways:
        assert "namespaceSelector" not in one["spec"]
        assert one["spec"]["selector"]["matchLabels"]["stepwell.dev/store"] == DEFAULT_STORE
        credentials = one["spec"]["podMetricsEndpoints"][0]["authorization"]["credentials"]
        assert credentials == {"name": GATEWAY_SECRET, "key": "key"}


@pytest.mark.parametrize("name", ["monitored", "watched"])
def test_the_monitors_find_the_operators_pods(chart: Chart, name: str) -> None:
    """The pods that the operator makes have the labels that the monitors select by, and the port that these read."""
    around = Around("shop", "stepwell-store", "d", "image", "IfNotPresent", network_policy=False)
    made = [
        *pool_objects(PoolSpec("p", Code("inline", "text"), {}), around, [], 1),
        *gateway_objects(GatewaySpec("shop", DEFAULT_STORE, "d", "image", "IfNotPresent", 1, network_policy=False), []),
    ]
    pods = [one["spec"]["template"] for one in made if one["kind"] == "Deployment"]
    for monitor in (one for one in chart.objects(SETS[name], *MONITORING) if one["kind"] == "PodMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        (pod,) = [one for one in pods if wanted <= one["metadata"]["labels"].items()]
        ports = [port["name"] for one in pod["spec"]["containers"] for port in one["ports"]]
        assert ports == [monitor["spec"]["podMetricsEndpoints"][0]["port"]]


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
