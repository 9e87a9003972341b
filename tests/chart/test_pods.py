"""The chart's pods: restricted, and told what the operator reads."""

import re

import pytest
from chart.rendering import MONITORING, ROOT, SETS, Chart, Object, containers, environment, pods

SETTINGS = ROOT / "operator" / "stepwell_operator" / "settings.py"
AGREED = {
    "STEPWELL_OPERATOR_NAMESPACE",
    "STEPWELL_OPERATOR_POD",
    "STEPWELL_ADMIN_SECRET",
    "STEPWELL_RUNNER_IMAGE",
    "STEPWELL_IMAGE_PULL_POLICY",
    "STEPWELL_WATCH_NAMESPACES",
    "STEPWELL_HEALTH_PORT",
    "STEPWELL_LOG_LEVEL",
    "STEPWELL_LOG_FORMAT",
    "STEPWELL_RESYNC",
    "STEPWELL_NETWORK_POLICY",
    "STEPWELL_EVALUATION_STORE",
    "STEPWELL_GATEWAY_REPLICAS",
    "STEPWELL_GATEWAY_KEEP",
    "STEPWELL_TOKEN_REVIEWERS",
}


def operator(chart: Chart, *sets: str) -> Object:
    """The operator's Deployment."""
    return chart.one("Deployment", "stepwell-operator", sets)


@pytest.mark.parametrize("name", SETS)
def test_every_pod_is_restricted(chart: Chart, name: str) -> None:
    """Every pod, hooks and tests included, is what Pod Security calls restricted, with a read-only root and bounded memory."""
    found = list(pods(chart.objects(SETS[name], *MONITORING)))
    assert len(found) >= 2
    for where, pod in found:
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True, where
        assert context["runAsUser"] > 0, where
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, where
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), where
        assert pod["enableServiceLinks"] is False, where
        for volume in pod.get("volumes", ()):
            assert "hostPath" not in volume, where
        for container in containers(pod):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, where
            assert own["capabilities"] == {"drop": ["ALL"]}, where
            assert own["readOnlyRootFilesystem"] is True, where
            assert own["runAsNonRoot"] is True, where
            assert "privileged" not in own, where
            assert container["resources"]["limits"]["memory"], where
            assert container["resources"]["requests"]["cpu"], where


def test_only_those_who_ask_the_api_server_have_a_token(chart: Chart) -> None:
    """The operator and the clean-up have a token; Postgres and the test have none, and of the store's pod one container alone."""
    tokens = {where: pod.get("automountServiceAccountToken") for where, pod in pods(chart.objects(SETS["evaluation"]))}
    assert tokens == {
        "Deployment stepwell-system/stepwell-operator": True,
        "Job stepwell-system/stepwell-cleanup (post-delete)": True,
        "Pod stepwell-system/stepwell-test (test)": False,
        "StatefulSet stepwell-system/stepwell-postgres": False,
    }
    store = chart.one("StatefulSet", "stepwell-postgres", SETS["evaluation"])["spec"]["template"]["spec"]
    with_token = [one["name"] for one in containers(store) if any(mount["name"] == "token" for mount in one["volumeMounts"])]
    assert with_token == ["password"]


def test_the_operator_is_told_what_it_reads(chart: Chart) -> None:
    """Every variable of the operator's is one that its settings read, and those that were agreed are all there."""
    read = set(re.findall(r'"(STEPWELL_[A-Z_]+)"', SETTINGS.read_text(encoding="utf-8")))
    given = set(environment(operator(chart)["spec"]["template"]["spec"]))
    assert given <= read, given - read
    assert given == AGREED


@pytest.mark.parametrize(
    ("sets", "name", "value"),
    [
        ((), "STEPWELL_ADMIN_SECRET", ""),
        (("store.adminSecret=pg",), "STEPWELL_ADMIN_SECRET", "pg"),
        (("evaluationStore.enabled=true",), "STEPWELL_ADMIN_SECRET", "stepwell-postgres"),
        (("evaluationStore.enabled=true",), "STEPWELL_EVALUATION_STORE", "1"),
        ((), "STEPWELL_EVALUATION_STORE", "0"),
        (("watchNamespaces={a,b}",), "STEPWELL_WATCH_NAMESPACES", "a,b"),
        (("networkPolicy.enabled=true",), "STEPWELL_NETWORK_POLICY", "1"),
        (("registry=r.example",), "STEPWELL_RUNNER_IMAGE", "r.example/stepwell-runner:0.1.0"),
        (("runnerImage.pullPolicy=Never",), "STEPWELL_IMAGE_PULL_POLICY", "Never"),
        (("gateway.replicas=3",), "STEPWELL_GATEWAY_REPLICAS", "3"),
        (("gateway.keep=30d",), "STEPWELL_GATEWAY_KEEP", "30d"),
        (("operator.resync=1h",), "STEPWELL_RESYNC", "1h"),
    ],
)
def test_values_reach_the_operator(chart: Chart, sets: tuple[str, ...], name: str, value: str) -> None:
    """What is set in values is what the operator reads."""
    assert environment(operator(chart, *sets)["spec"]["template"]["spec"])[name]["value"] == value


def test_the_operator_reads_what_the_chart_says(chart: Chart) -> None:
    """The operator takes the chart's environment as it stands."""
    from stepwell_operator.settings import read_settings

    env = environment(operator(chart, *SETS["full"])["spec"]["template"]["spec"])
    given = {name: one.get("value", "given-by-the-pod") for name, one in env.items()}
    settings = read_settings(given)
    assert settings.admin_secret == "stepwell-postgres"
    assert settings.runner_image == "registry.example/team/stepwell-runner:0.1.0"
    assert settings.evaluation_store
    assert settings.network_policy


def test_the_operator_is_there_twice(chart: Chart) -> None:
    """Two operators by default, spread as far as it goes, replaced one after the other, and never evicted together."""
    spec = operator(chart)["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    spread = spec["template"]["spec"]["topologySpreadConstraints"]
    assert {one["whenUnsatisfiable"] for one in spread} == {"ScheduleAnyway"}
    budget = chart.one("PodDisruptionBudget", "stepwell-operator")
    assert budget["spec"]["selector"] == spec["selector"]
    single = chart.objects(("operator.replicas=1",))
    assert not [one for one in single if one["kind"] == "PodDisruptionBudget"]


def test_policies_let_through_what_is_needed(chart: Chart) -> None:
    """With policies on, the operator reaches DNS, the API server and Postgres, and Postgres takes Stepwell's own pods alone."""
    policy = chart.one("NetworkPolicy", "stepwell-operator", SETS["evaluation"])["spec"]
    assert {port["port"] for rule in policy["egress"] for port in rule["ports"]} == {53, 443, 6443, 5432}
    store = chart.one("NetworkPolicy", "stepwell-postgres", SETS["evaluation"])["spec"]
    (rule,) = store["ingress"]
    assert rule["from"] == [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app.kubernetes.io/name": "stepwell"}}}]
