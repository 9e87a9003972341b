"""What Helm makes of the chart: the same each time, nothing unknown, every name and label as it should be."""

import difflib
from pathlib import Path

import pytest
import yaml
from chart.rendering import CHART, KUBERNETES, MONITORING, ROOT, SETS, Chart, pods, summary

GOLDEN = Path(__file__).with_name("rendered.golden")


@pytest.mark.parametrize("name", SETS)
def test_lint_finds_nothing(chart: Chart, name: str) -> None:
    """`helm lint --strict` has no complaint."""
    sets = [word for one in SETS[name] for word in ("--set", one)]
    done = chart.run("lint", "--strict", "--kube-version", KUBERNETES, str(CHART), *sets)
    assert done.returncode == 0, done.stdout
    assert "[WARNING]" not in done.stdout
    assert "[ERROR]" not in done.stdout


@pytest.mark.parametrize("name", SETS)
def test_rendering_twice_gives_the_same(chart: Chart, name: str) -> None:
    """Nothing that is rendered is random or of the moment: no password, no certificate, no time."""
    arguments = ["template", "stepwell", str(CHART), "--kube-version", KUBERNETES, *MONITORING]
    arguments += [word for one in SETS[name] for word in ("--set", one)]
    first, second = chart.run(*arguments), chart.run(*arguments)
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    assert not [line for line in first.stdout.splitlines() if line.startswith("kind: Secret")]


def test_what_is_rendered_is_what_was_agreed(chart: Chart) -> None:
    """Each set of values gives these objects, hooks included; `rendered.golden` lists them."""
    found = "".join(
        f"# {name}: {' '.join(sets) or 'no values'}\n" + "\n".join(summary(chart.objects(sets, *MONITORING))) + "\n\n"
        for name, sets in SETS.items()
        if name != "full"
    )
    known = GOLDEN.read_text(encoding="utf-8") if GOLDEN.exists() else ""
    difference = "\n".join(difflib.unified_diff(known.splitlines(), found.splitlines(), "golden", "rendered", lineterm=""))
    assert found == known, difference


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("nonsense=1", "nonsense"),
        ("operator.replica=3", "/operator"),
        ("operator.image.name=x", "/operator/image"),
        ("evaluationStore.storage.class=x", "/evaluationStore/storage"),
        ("metrics.serviceMonitor.on=true", "/metrics/serviceMonitor"),
        ("metrics.podMonitor.namespaces=true", "/metrics/podMonitor"),
        ("metrics.podMonitor.gatewayToken.secret=My_Secret", "/metrics/podMonitor/gatewayToken/secret"),
        ("store.dsn=postgresql://x", "/store"),
        ("operator.replicas=two", "/operator/replicas"),
        ("operator.resync=10", "/operator/resync"),
        ("operator.image.digest=abc", "/operator/image/digest"),
        ("watchNamespaces={a,a}", "/watchNamespaces"),
        ("store.adminSecret=My_Secret", "/store/adminSecret"),
    ],
)
def test_unknown_and_wrong_values_are_refused(chart: Chart, value: str, path: str) -> None:
    """A value that there isn't, or of another form, is refused with its path."""
    assert path in chart.refusal(value)


def test_two_stores_are_refused(chart: Chart) -> None:
    """A Secret of one's own and the evaluation store together are refused with a sentence."""
    assert "set one of them" in chart.refusal("store.adminSecret=a", "evaluationStore.enabled=true")


def test_every_object_of_values_is_closed() -> None:
    """The schema knows every value that there is, has no other, and leaves no object of ours open."""
    schema = yaml.safe_load((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    _compare(values, schema, schema["definitions"], "")


def _compare(values: dict[str, object], schema: dict[str, object], definitions: dict[str, object], where: str) -> None:
    named = schema.get("$ref")
    closed = definitions[str(named).rpartition("/")[2]] if named else schema
    properties = closed.get("properties")
    if properties is None:
        return
    assert closed["additionalProperties"] is False, f"{where or 'the top'} takes unknown keys"
    optional = {"global"} if not where else {"limits", "requests"}
    assert set(values) - set(properties) == set()
    assert set(properties) - set(values) <= optional, f"{where}: values.yaml doesn't show {set(properties) - set(values)}"
    for name, value in values.items():
        if isinstance(value, dict):
            _compare(value, properties[name], definitions, f"{where}.{name}")


def test_the_kinds_are_those_that_are_generated(chart: Chart) -> None:
    """The chart's kinds are crds/ to the byte; rendered they differ in one annotation, by which Helm leaves them."""
    ours, theirs = ROOT / "crds", CHART / "files" / "crds"
    files = {one.name: one.read_bytes() for one in ours.glob("*.yaml")}
    assert len(files) == 2
    copied = {one.name: one.read_bytes() for one in theirs.glob("*.yaml")}
    assert copied == files, (
        "the chart's kinds are out of date: python -m stepwell_operator.crd --folder charts/stepwell/files/crds"
    )
    rendered = {one["metadata"]["name"]: one for one in chart.objects() if one["kind"] == "CustomResourceDefinition"}
    for text in files.values():
        wanted = yaml.safe_load(text)
        wanted["metadata"].setdefault("annotations", {})["helm.sh/resource-policy"] = "keep"
        assert rendered.pop(wanted["metadata"]["name"]) == wanted
    assert not rendered


@pytest.mark.parametrize("name", SETS)
def test_every_object_has_the_recommended_labels(chart: Chart, name: str) -> None:
    """Every object but the kinds has the recommended labels, and no selector asks for one that changes with a version."""
    for one in chart.objects(SETS[name], *MONITORING):
        if one["kind"] == "CustomResourceDefinition":
            continue
        labels = one["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "stepwell"
        assert labels["app.kubernetes.io/instance"] == "stepwell"
        assert labels["app.kubernetes.io/part-of"] == "stepwell"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["app.kubernetes.io/version"]
        assert labels["app.kubernetes.io/component"]
        assert labels["helm.sh/chart"].startswith("stepwell-")
        selector = (one.get("spec") or {}).get("selector") or {}
        asked = selector.get("matchLabels", selector)
        steady = {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component", "stepwell.dev/store"}
        assert set(asked) <= steady


def test_two_releases_never_meet(chart: Chart) -> None:
    """Two releases, of other names or in other namespaces, share no object but the kinds."""
    sets = ("crds.install=false", "evaluationStore.enabled=true", "networkPolicy.enabled=true")
    places = (
        {"release": "stepwell", "namespace": "a"},
        {"release": "stepwell", "namespace": "b"},
        {"release": "other", "namespace": "a"},
    )
    found = [set(summary(chart.objects(sets, **place))) for place in places]
    assert len(set.union(*found)) == sum(len(one) for one in found)


def test_names_stay_within_limits(chart: Chart) -> None:
    """A release's name of 53 characters, Helm's limit, makes no name of more than 63."""
    for one in chart.objects(SETS["evaluation"], release="r" * 53):
        if not one["kind"].startswith("Cluster"):
            assert len(one["metadata"]["name"]) <= 63


@pytest.mark.parametrize(
    ("sets", "image"),
    [
        ((), "stepwell-operator:0.1.0"),
        (("operator.image.tag=1.2.3",), "stepwell-operator:1.2.3"),
        (("registry=registry.example/team",), "registry.example/team/stepwell-operator:0.1.0"),
        ((f"operator.image.digest=sha256:{'a' * 64}", "operator.image.tag=1.2.3"), f"stepwell-operator@sha256:{'a' * 64}"),
    ],
)
def test_images_go_by_tag_or_digest(chart: Chart, sets: tuple[str, ...], image: str) -> None:
    """The tag is the chart's version unless another is given; a digest wins; a registry stands in front."""
    deployment = chart.one("Deployment", "stepwell-operator", sets)
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == image


def test_no_image_is_latest(chart: Chart) -> None:
    """Every image has a version."""
    for _, pod in pods(chart.objects(SETS["full"], *MONITORING)):
        for container in pod["containers"]:
            assert container["image"].rpartition(":")[2] not in {"latest", container["image"]}


def test_extra_objects_are_rendered(chart: Chart) -> None:
    """Objects of one's own come along, as mappings and as templates."""
    extra = (
        "extraObjects[0].apiVersion=v1,extraObjects[0].kind=ConfigMap,extraObjects[0].metadata.name=first",
        r"extraObjects[1]=apiVersion: v1" + "\n" + r"kind: ConfigMap" + "\n" + r"metadata: {name: of-{{ .Release.Name }}}",
    )
    names = {one["metadata"]["name"] for one in chart.objects(extra) if one["kind"] == "ConfigMap"}
    assert names == {"first", "of-stepwell"}


def test_versions_agree() -> None:
    """The chart's version, its appVersion and the package's are one."""
    about = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{about["version"]}"\n' in project
    assert about["appVersion"] == about["version"]
