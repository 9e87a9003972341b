"""The chart at a real API server: every object is taken, pods are admitted as restricted, and its scripts do what they are for.

kubeconform's schemas are made of what the API server says of its kinds: the usual ones come from the internet.
"""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart.rendering import CHART, SETS, Chart, environment
from cluster.harness.api import Api, Refused
from cluster.harness.control_plane import ControlPlane
from cluster.harness.control_plane import control_plane as run_control_plane
from cluster.harness.program import free_ports
from cluster.scripts import run_script
from cluster.toolchain.build import TOOLS, CannotBuild, build

pytestmark = pytest.mark.cluster

DRAIN = "stepwell.dev/drain"
FUNCTIONS = "/apis/stepwell.dev/v1alpha1/namespaces/{}/durablefunctions"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/enforce-version": "latest"}
SMALL = ("--set", "evaluationStore.enabled=true", "--set", "networkPolicy.enabled=true", "--take-ownership")
Helm = Callable[..., str]


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    """A control plane of this module's own: Helm takes the kinds for itself, which would be in the way of other tests."""
    if os.environ.get("STEPWELL_TEST_KUBECONFIG"):
        pytest.skip("STEPWELL_TEST_KUBECONFIG names somebody's cluster; these tests replace its kinds")
    try:
        with run_control_plane() as plane:
            yield plane
    except CannotBuild as reason:
        pytest.skip(f"no control plane to test against: {reason}")


@pytest.fixture(scope="module")
def kubeconfig(control_plane: ControlPlane) -> Path:
    """Its administrator's."""
    return control_plane.kubeconfig


@pytest.fixture(scope="module")
def chart() -> Chart:
    """The chart, and Helm to render it with."""
    try:
        return Chart(build(TOOLS) / "helm")
    except CannotBuild as reason:
        pytest.skip(f"no Helm: {reason}")


@pytest.fixture
def restricted(api: Api) -> Iterator[str]:
    """A namespace that takes restricted pods alone."""
    name = api.make_namespace("chart", RESTRICTED)
    yield name
    api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def kinds(api: Api) -> None:
    """The kinds are there."""
    for file in sorted((CHART / "files" / "crds").glob("*.yaml")):
        api.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(file))
    api.kubectl("wait", "--for=condition=Established", "crd/durablefunctions.stepwell.dev", "crd/durablestores.stepwell.dev")


@pytest.fixture
def helm(api: Api, chart: Chart, restricted: str, tmp_path: Path) -> Helm:
    """Helm at the API server, for releases in the restricted namespace."""
    env = {**os.environ, "KUBECONFIG": str(api.kubeconfig), "HELM_NAMESPACE": restricted}
    env |= {f"HELM_{name}_HOME": str(tmp_path / name) for name in ("CACHE", "CONFIG", "DATA")}

    def run(*arguments: str) -> str:
        done = subprocess.run([str(chart.helm), *arguments], check=False, capture_output=True, text=True, timeout=100, env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def installed(helm: Helm, api: Api, restricted: str) -> Iterator[str]:
    """A release with the evaluation store, and its namespace; nothing runs, since there is no node."""
    helm("install", "stepwell", str(CHART), *SMALL)
    yield restricted
    if api.find(f"/apis/apps/v1/namespaces/{restricted}/deployments/stepwell-operator"):
        helm("uninstall", "stepwell", "--no-hooks")


@pytest.mark.parametrize("name", SETS)
def test_every_object_is_taken(api: Api, chart: Chart, restricted: str, name: str) -> None:
    """The API server takes every object that is rendered, hooks and tests included, with no unknown field and no warning."""
    watched = {one: api.make_namespace("watched") for one in ("shop", "bank") if any(one in text for text in SETS[name])}
    sets = [_renamed(text, watched) for text in SETS[name]]
    manifest = chart.text(sets, namespace=restricted)
    done = api.try_kubectl(
        "apply", "--dry-run=server", "--server-side", "--force-conflicts", "--validate=strict", "-f", "-", stdin=manifest
    )
    for one in watched.values():
        api.delete(f"/api/v1/namespaces/{one}")
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr


def _renamed(text: str, names: dict[str, str]) -> str:
    for before, after in names.items():
        text = text.replace(before, after)
    return text


def test_its_life(api: Api, helm: Helm, restricted: str) -> None:
    """Installed, its pods are admitted in a restricted namespace; upgraded unchanged, nothing changes; gone, only the kinds stay."""
    said = helm("install", "stepwell", str(CHART), *SMALL)
    assert "kubectl apply" in said
    assert "WARNING: the evaluation store is for trying out" in said
    names = lambda found: sorted(one["metadata"]["name"].rpartition("-")[0] for one in found["items"])  # noqa: E731
    pods = api.wait_for(f"/api/v1/namespaces/{restricted}/pods", lambda found: len(found["items"]) == 3)
    assert [name.startswith("stepwell-operator") for name in names(pods)] == [True, True, False]
    api.wait_for(f"/api/v1/namespaces/{restricted}/persistentvolumeclaims/data-stepwell-postgres-0", bool)

    before = _generations(api, restricted)
    helm("upgrade", "stepwell", str(CHART), *SMALL)
    assert _generations(api, restricted) == before

    helm("uninstall", "stepwell", "--no-hooks")
    for kind in ("apps/v1/%s/deployments", "apps/v1/%s/statefulsets", "policy/v1/%s/poddisruptionbudgets"):
        group, _, plural = kind.partition("/%s/")
        assert not api.items(f"/apis/{group}/namespaces/{restricted}/{plural}")
    api.kubectl("get", "crd", "durablefunctions.stepwell.dev", "durablestores.stepwell.dev")
    rights = api.items("/apis/rbac.authorization.k8s.io/v1/clusterroles")
    assert not [one for one in rights if one["metadata"]["name"].startswith(f"stepwell-{restricted}")]


def _generations(api: Api, namespace: str) -> list[tuple[str, int]]:
    parts = [("apps/v1", "deployments"), ("apps/v1", "statefulsets"), ("networking.k8s.io/v1", "networkpolicies")]
    found = [one for group, plural in parts for one in api.items(f"/apis/{group}/namespaces/{namespace}/{plural}")]
    assert len(found) == 4
    return sorted((one["metadata"]["name"], one["metadata"]["generation"]) for one in found)


def test_the_evaluation_stores_password_is_made_once(api: Api, installed: str, tmp_path: Path) -> None:
    """With the rights of the chart the pod's first container makes the Secret, finds it the next time, and it goes with the release."""
    first, second = tmp_path / "first", tmp_path / "second"
    assert not _make_password(api, installed, first).returncode
    path = f"/api/v1/namespaces/{installed}/secrets/stepwell-postgres"
    made = api.get(path)
    password = base64.b64decode(made["data"]["password"]).decode()
    address = f"stepwell-postgres.{installed}.svc:5432/postgres"
    assert base64.b64decode(made["data"]["dsn"]).decode() == f"postgresql://postgres:{password}@{address}"
    assert len(password) >= 32
    assert first.read_text(encoding="utf-8") == password

    assert not _make_password(api, installed, second).returncode
    assert second.read_text(encoding="utf-8") == password
    assert api.get(path)["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]

    api.delete(f"/apis/apps/v1/namespaces/{installed}/statefulsets/stepwell-postgres")
    api.wait_gone(path)


def test_a_secret_of_an_installation_before_is_not_taken(api: Api, installed: str, tmp_path: Path) -> None:
    """A Secret that is about to go with its owner, or that somebody else made, is refused with a sentence and no password in it."""
    owner = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "name": "stepwell-postgres",
        "uid": "00000000-0000-0000-0000-000000000000",
    }
    # A finalizer holds it, else it would be gone before it is looked at.
    metadata = {"name": "stepwell-postgres", "ownerReferences": [owner], "finalizers": ["stepwell.dev/test"]}
    path = f"/api/v1/namespaces/{installed}/secrets"
    api.create(path, {"metadata": metadata, "stringData": {"password": "of-before"}})
    done = _make_password(api, installed, tmp_path / "password")
    api.patch(f"{path}/stepwell-postgres", {"metadata": {"finalizers": [], "ownerReferences": []}, "data": {"password": None}})
    assert done.returncode == 1
    assert "an installation before this one" in done.stderr
    assert "of-before" not in done.stderr
    api.wait_gone(f"{path}/stepwell-postgres")
    api.create(path, {"metadata": {"name": "stepwell-postgres"}, "stringData": {"else": "x"}})
    done = _make_password(api, installed, tmp_path / "password")
    assert done.returncode == 1
    assert "isn't ours" in done.stderr


def test_the_evaluation_store_may_do_no_more(api: Api, installed: str, tmp_path: Path) -> None:
    """Its ServiceAccount reads no other Secret and lists none."""
    api.create(f"/api/v1/namespaces/{installed}/secrets", {"metadata": {"name": "other"}, "stringData": {"a": "b"}})
    with Api(api.as_service_account(installed, "stepwell-postgres", tmp_path), api.kubectl_path) as account:
        for part in ("secrets", "secrets/other", "pods"):
            with pytest.raises(Refused) as refused:
                account.get(f"/api/v1/namespaces/{installed}/{part}")
            assert refused.value.code == 403


@pytest.mark.usefixtures("kinds")
def test_cleaning_up_lets_functions_go(api: Api, chart: Chart, restricted: str, namespace: str, tmp_path: Path) -> None:
    """With the rights of its hook the clean-up takes our finalizer off every function, leaves others', and deletion goes through."""
    for name, finalizers in (("held", [DRAIN]), ("shared", ["example.com/other", DRAIN]), ("free", [])):
        api.create(FUNCTIONS.format(namespace), function(name, finalizers))
        api.delete(f"{FUNCTIONS.format(namespace)}/{name}")
    done = _clean_up(api, chart, restricted, tmp_path)
    assert not done.returncode, done.stderr
    assert f"let go of {namespace}/held" in done.stdout
    api.wait_gone(f"{FUNCTIONS.format(namespace)}/held")
    shared = f"{FUNCTIONS.format(namespace)}/shared"
    assert api.get(shared)["metadata"]["finalizers"] == ["example.com/other"]
    api.patch(shared, {"metadata": {"finalizers": []}})


@pytest.mark.usefixtures("kinds")
def test_cleaning_up_stays_in_its_namespaces(api: Api, chart: Chart, restricted: str, namespace: str, tmp_path: Path) -> None:
    """Where some namespaces are watched, functions of others are left alone."""
    path = FUNCTIONS.format(namespace)
    api.create(path, function("held", [DRAIN]))
    done = _clean_up(api, chart, restricted, tmp_path, restricted)
    assert not done.returncode, done.stderr
    assert api.get(f"{path}/held")["metadata"]["finalizers"] == [DRAIN]
    api.patch(f"{path}/held", {"metadata": {"finalizers": []}})


def function(name: str, finalizers: list[str]) -> dict[str, Any]:
    """A small function."""
    spec = {
        "source": {"inline": {"code": "async def handle(ctx):\n    return 1\n", "handler": "handle"}},
        "deletionPolicy": "Drain",
    }
    metadata = {"name": name, "finalizers": finalizers}
    return {"apiVersion": "stepwell.dev/v1alpha1", "kind": "DurableFunction", "metadata": metadata, "spec": spec}


def _make_password(api: Api, namespace: str, place: Path) -> subprocess.CompletedProcess[str]:
    more = {"SECRET": "stepwell-postgres", "NAMESPACE": namespace, "PLACE": str(place)}
    return run_script(api, (namespace, "stepwell-postgres"), "make_password.py", more, place.parent)


def _clean_up(api: Api, chart: Chart, release: str, folder: Path, *watched: str) -> subprocess.CompletedProcess[str]:
    """Run the clean-up's script as its hook does: with the hook's ServiceAccount, bound by the hook's roles."""
    sets = ("watchNamespaces={" + ",".join(watched) + "}",) if watched else ()
    hooks = [
        one
        for one in chart.objects(sets, namespace=release)
        if one["metadata"].get("annotations", {}).get("helm.sh/hook") == "post-delete" and one["kind"] != "Job"
    ]
    api.apply(*hooks)
    done = run_script(api, (release, "stepwell-cleanup"), "release_finalizers.py", {"NAMESPACES": ",".join(watched)}, folder)
    api.kubectl("delete", "-f", "-", stdin=yaml.safe_dump_all(hooks))
    return done


@pytest.mark.parametrize("name", SETS)
def test_kubeconform_finds_nothing(chart: Chart, schemas: str, name: str) -> None:
    """kubeconform, strict, with this API server's own schemas, takes every object; none is left out for want of a schema."""
    objects = [one for one in chart.objects(SETS[name]) if one["kind"] != "CustomResourceDefinition"]
    done = _kubeconform(chart, schemas, objects)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(objects)} resources found" in done.stdout
    assert "Skipped: 0" in done.stdout


def test_kubeconform_would_find_something(chart: Chart, schemas: str) -> None:
    """With these schemas a field that there isn't, deep in a pod, is refused."""
    deployment = chart.one("Deployment", "stepwell-operator")
    deployment["spec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = "Always"
    done = _kubeconform(chart, schemas, [deployment])
    assert done.returncode == 1
    assert "imagePullPolice" in done.stdout


def _kubeconform(chart: Chart, schemas: str, objects: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    command = [str(chart.helm.with_name("kubeconform")), "-strict", "-summary", "-schema-location", schemas]
    return subprocess.run(command, input=yaml.safe_dump_all(objects), check=False, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def schemas(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> str:
    """JSON schemas made of what the API server says of its kinds, and where kubeconform finds them."""
    folder = tmp_path_factory.mktemp("schemas")
    with control_plane.api as api:
        definitions = api.get("/openapi/v2")["definitions"]
    for one in definitions.values():
        if "properties" in one:
            one["additionalProperties"] = False
    definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"] = {"type": ["string", "integer"]}
    definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"] = {"type": ["string", "number"]}
    (folder / "definitions.json").write_text(json.dumps({"definitions": definitions}), encoding="utf-8")
    for name, one in definitions.items():
        for kind in one.get("x-kubernetes-group-version-kind", ()):
            group = kind["group"].partition(".")[0]
            place = folder / f"{'-'.join(filter(None, (kind['kind'], group, kind['version'])))}.json".lower()
            place.write_text(json.dumps({"$ref": f"definitions.json#/definitions/{name}"}), encoding="utf-8")
    return f"{folder}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"


@pytest.mark.parametrize("watching", ["the cluster", "some namespaces"])
def test_the_operator_lacks_nothing(api: Api, helm: Helm, chart: Chart, restricted: str, watching: str, tmp_path: Path) -> None:
    """With the chart's rights and environment the operator leads and says that it is ready; `helm test` asks it just that."""
    sets = ["store.adminSecret=pg", *([f"watchNamespaces={{{restricted}}}"] if watching == "some namespaces" else [])]
    api.create(
        f"/api/v1/namespaces/{restricted}/secrets",
        {"metadata": {"name": "pg"}, "stringData": {"dsn": "postgresql://x@127.0.0.1:1/x"}},
    )
    helm("install", "stepwell", str(CHART), "--take-ownership", *(word for one in sets for word in ("--set", one)))
    pod = chart.one("Deployment", "stepwell-operator", sets)["spec"]["template"]["spec"]
    given = {name: one["value"] for name, one in environment(pod).items() if "value" in one}
    if "STEPWELL_TOKEN_REVIEWERS" in given:  # the release lies in another namespace here, by which its cluster roles are named
        given["STEPWELL_TOKEN_REVIEWERS"] = f"stepwell-{restricted}-gateway"
    (port,) = free_ports(1)
    env = {**os.environ, **given, "STEPWELL_OPERATOR_NAMESPACE": restricted, "STEPWELL_OPERATOR_POD": "operator-0"}
    env |= {"STEPWELL_HEALTH_HOST": "127.0.0.1", "STEPWELL_HEALTH_PORT": str(port)}
    env["KUBECONFIG"] = str(api.as_service_account(restricted, "stepwell-operator", tmp_path))
    log = tmp_path / "log"
    with log.open("wb") as place:
        process = subprocess.Popen([sys.executable, "-m", "stepwell_operator.main"], stdout=place, stderr=place, env=env)
    try:
        asked = _ask_ready(port, "40")
        assert not asked.returncode, asked.stderr + log.read_text(encoding="utf-8")
        lease = f"/apis/coordination.k8s.io/v1/namespaces/{restricted}/leases/stepwell-operator"
        api.wait_for(lease, lambda found: found["spec"]["holderIdentity"].startswith("operator-0_"))
    finally:
        process.terminate()
        ended = process.wait(30)
        helm("uninstall", "stepwell", "--no-hooks")
    assert ended == 0, log.read_text(encoding="utf-8")
    assert "forbidden" not in log.read_text(encoding="utf-8").lower()


def test_helm_test_tells_what_is_wrong() -> None:
    """Where no operator answers, the test's script ends with a sentence and with 1."""
    (port,) = free_ports(1)
    asked = _ask_ready(port, "0.1")
    assert asked.returncode == 1
    assert "can't be reached" in asked.stderr


def _ask_ready(port: int, patience: str) -> subprocess.CompletedProcess[str]:
    env = {"URL": f"http://127.0.0.1:{port}/readyz", "PATIENCE": patience}
    command = [sys.executable, "-I", "-c", (CHART / "files" / "ask_ready.py").read_text(encoding="utf-8")]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=90, env=env)
