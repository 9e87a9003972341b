"""The definitions at a real API server: what it accepts, what it refuses and how, what it adds and what it shows."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import pytest
import yaml
from cluster.harness.api import Api, Refused
from crd_cases import SOURCE, Case, cases, document
from crd_documents import VARIANTS, with_junk
from docs.blocks import PAGES, blocks_of

from stepwell.errors import SpecError
from stepwell.spec.manifest import parse_manifest

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "crds").glob("*.yaml"))
PLURALS = {"DurableFunction": "durablefunctions", "DurableStore": "durablestores"}
READY: set[str] = set()
"""API servers that serve the definitions."""
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


@pytest.fixture(autouse=True)
def definitions(api: Api) -> None:
    """The definitions as they lie in crds/, established."""
    if api.server in READY:
        return
    for path in FILES:
        definition = yaml.safe_load(path.read_text(encoding="utf-8"))
        where = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{definition['metadata']['name']}"
        if api.find(where) is None:
            api.kubectl("apply", "--server-side", "-f", str(path))
        api.wait_for(where, lambda found: has_condition(found, "Established"))
    group = "apis/stepwell.dev/v1alpha1"
    api.wait_for(f"/{group}", lambda found: {one["name"] for one in found["resources"]} >= set(PLURALS.values()))
    api.wait_for(
        f"/openapi/v3/{group}",
        lambda found: all(f"dev.stepwell.v1alpha1.{kind}" in found["components"]["schemas"] for kind in PLURALS),
    )
    wait_until(lambda: known(api) >= {*PLURALS.values(), "dfn", "dst"})
    READY.add(api.server)


def wait_until(ready: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"it did not come true in {seconds:g} s"
        time.sleep(0.05)


def known(api: Api) -> set[str]:
    """The names that kubectl knows of our kinds; asking for all drops what it remembers from before they were there."""
    return set(api.kubectl("api-resources", "--api-group=stepwell.dev", "--no-headers").split())


def has_condition(found: dict[str, Any], kind: str) -> bool:
    conditions = found.get("status", {}).get("conditions") or []
    return any(one["type"] == kind and one["status"] == "True" for one in conditions)


def objects(namespace: str, kind: str = "DurableFunction") -> str:
    return f"/apis/stepwell.dev/v1alpha1/namespaces/{namespace}/{PLURALS[kind]}"


def try_out(api: Api, namespace: str, given: dict[str, Any]) -> dict[str, Any]:
    """What the API server would make of it; it keeps nothing."""
    return api.create(f"{objects(namespace, given['kind'])}?dryRun=All&fieldValidation=Strict", given)


def make(api: Api, namespace: str, spec: dict[str, Any], name: str | None = None) -> dict[str, Any]:
    return api.create(objects(namespace), document(spec, name=name or f"f-{uuid4().hex[:8]}"))


def causes(refused: Refused) -> set[tuple[str, str]]:
    return {(cause.get("field", ""), cause["message"]) for cause in refused.status["details"]["causes"]}


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case.rule[:60]} ({case.field})")
def test_each_rule_accepts_and_refuses(api: Api, case: Case) -> None:
    """A rule lets its good case through, and refuses its bad one with its own words, at the field that is to blame."""
    if case.before is None:
        try_out(api, "default", case.accepted)
        with pytest.raises(Refused) as caught:
            try_out(api, "default", case.refused)
    else:
        path = f"{objects('default')}/{make(api, 'default', case.before['spec'])['metadata']['name']}"
        api.replace(path, {**api.get(path), "spec": case.accepted["spec"]})
        with pytest.raises(Refused) as caught:
            api.replace(path, {**api.get(path), "spec": case.refused["spec"]})
        api.delete(path)
    assert caught.value.code == 422
    ((field, message),) = causes(caught.value)
    assert field == case.field
    assert message.removeprefix("Invalid value: ").endswith(f": {case.rule}") or message == f"Invalid value: {case.rule}"


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"retrys": 3}, "spec.retrys"),
        ({"triggers": [{"event": "a", "iff": "true"}]}, "spec.triggers[0].iff"),
        ({"rateLimit": {"limit": 1, "period": "1m"}}, "spec.rateLimit"),
        ({"throttle": {"limit": 1, "period": "1m"}}, "spec.throttle"),
        ({"debounce": {"period": "1m"}}, "spec.debounce"),
        ({"batchEvents": {"maxSize": 2, "timeout": "1s"}}, "spec.batchEvents"),
        ({"priority": {"run": "1"}}, "spec.priority"),
        ({"singleton": {"mode": "skip"}}, "spec.singleton"),
        ({"source": {"http": {"url": "https://a", "functionId": "b"}, **SOURCE}}, "spec.source.http"),
        ({"runner": {"securityContext": {"privileged": True}}}, "spec.runner.securityContext"),
        ({"runner": {"template": {}}}, "spec.runner.template"),
        ({"runner": {"volumes": []}}, "spec.runner.volumes"),
        (
            {"runner": {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]}},
            "spec.runner.env[0].valueFrom.fieldRef",
        ),
        ({"cancel_on": []}, "spec.cancel_on"),
    ],
)
def test_unknown_fields_are_refused_by_strict_clients(api: Api, spec: dict[str, Any], field: str) -> None:
    """kubectl, which asks for strict validation, is told of each field that there isn't: slips, later options, raw pod fields."""
    manifest = yaml.safe_dump(document(spec))
    done = api.try_kubectl("apply", "--dry-run=server", "-f", "-", stdin=manifest)
    assert done.returncode != 0
    assert f'unknown field "{field}"' in done.stderr


@pytest.mark.parametrize(
    ("spec", "field", "says"),
    [
        ({"retries": "4"}, "spec.retries", "must be of type integer"),
        ({"retries": 21}, "spec.retries", "less than or equal to 20"),
        ({"replicas": -1}, "spec.replicas", "greater than or equal to 0"),
        ({"replicas": 1001}, "spec.replicas", "less than or equal to 1000"),
        ({"concurrency": 10}, "spec.concurrency", "must be of type array"),
        ({"concurrency": [{"limit": 1}, {"limit": 2}, {"limit": 3}]}, "spec.concurrency", "must have at most 2 items"),
        ({"concurrency": [{"limit": 0}]}, "spec.concurrency[0].limit", "greater than or equal to 1"),
        ({"concurrency": [{"key": "a"}]}, "spec.concurrency[0].limit", "Required value"),
        ({"triggers": [{"event": "a"}] * 11}, "spec.triggers", "must have at most 10 items"),
        ({"triggers": [{"event": ""}]}, "spec.triggers[0].event", "at least 1 chars long"),
        ({"triggers": [{"event": "a" * 256}]}, "spec.triggers[0].event", "may not be more than 255"),
        ({"timeouts": {"start": 30}}, "spec.timeouts.start", "must be of type string"),
        ({"timeouts": {"start": "30"}}, "spec.timeouts.start", "should match"),
        ({"deletionPolicy": "cancel"}, "spec.deletionPolicy", "Unsupported value"),
        ({"revisions": {"max": 51}}, "spec.revisions.max", "less than or equal to 50"),
        ({"source": {"inline": {"code": "x" * 65_537, "handler": "f"}}}, "spec.source.inline.code", "may not be more than 65536"),
        ({"runner": {"pool": "A"}}, "spec.runner.pool", "should match"),
        ({"runner": {"resources": {"limits": {"cpu": "much"}}}}, "spec.runner.resources.limits.cpu", "should match"),
        ({"runner": {"resources": {"limits": {"cpu": -1}}}}, "spec.runner.resources.limits.cpu", "greater than or equal to 0"),
        ({"runner": {"env": [{"name": "A", "value": "1"}] * 2}}, "spec.runner.env[1]", "Duplicate value"),
        ({"runner": {"labels": {f"l{n}": "" for n in range(33)}}}, "spec.runner.labels", "at most 32 items"),
        ({"suspend": "no"}, "spec.suspend", "must be of type boolean"),
    ],
)
def test_bounds_and_types_are_refused_at_their_field(api: Api, spec: dict[str, Any], field: str, says: str) -> None:
    """What has the wrong type or is out of bounds is refused with its path."""
    with pytest.raises(Refused) as caught:
        try_out(api, "default", document(spec))
    assert caught.value.code == 422
    told = [message for where, message in causes(caught.value) if where == field]
    assert any(says in message for message in told), caught.value


def test_null_is_the_same_as_nothing(api: Api) -> None:
    """A field that is null is left out, and gets its default if it has one."""
    made = try_out(api, "default", document({"functionId": None, "runner": {"pool": None}, "retries": None}))
    assert "functionId" not in made["spec"]
    assert (made["spec"]["runner"], made["spec"]["retries"]) == ({}, 4)


def test_defaults_are_filled_in(api: Api) -> None:
    """The smallest function gets the defaults that readers of it rely on, and nothing inside of lists."""
    made = try_out(api, "default", document({"triggers": [{"cron": "@daily"}], "concurrency": [{"limit": 1}]}))
    assert made["spec"] == {
        "source": SOURCE,
        "triggers": [{"cron": "@daily"}],
        "concurrency": [{"limit": 1}],
        "retries": 4,
        "replicas": 1,
        "suspend": False,
        "deletionPolicy": "Cancel",
        "revisions": {"strategy": "Pinned", "max": 10},
    }
    made = try_out(api, "default", document({"secretRef": {"name": "db"}}, "DurableStore"))
    assert made["spec"] == {"secretRef": {"name": "db", "key": "dsn"}}
    made = try_out(api, "default", document({"revisions": {"max": 2}}))
    assert made["spec"]["revisions"] == {"strategy": "Pinned", "max": 2}


def test_a_function_scales(api: Api, namespace: str) -> None:
    """kubectl scale and the scale subresource read and set spec.replicas, and show the status to autoscalers."""
    name = make(api, namespace, {})["metadata"]["name"]
    path = f"{objects(namespace)}/{name}"
    scale = api.get(f"{path}/scale")
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (1, 0)
    api.patch(f"{path}/status", {"status": {"replicas": 1, "selector": "stepwell.dev/pool-id=f-00000000"}})
    scale = api.get(f"{path}/scale")
    assert scale["status"] == {"replicas": 1, "selector": "stepwell.dev/pool-id=f-00000000"}
    scale["spec"]["replicas"] = 3
    api.replace(f"{path}/scale", scale)
    assert api.get(path)["spec"]["replicas"] == 3
    api.kubectl("scale", f"dfn/{name}", "--replicas=0", "-n", namespace)
    assert api.get(path)["spec"]["replicas"] == 0
    with pytest.raises(Refused) as caught:
        api.replace(f"{path}/scale", {**api.get(f"{path}/scale"), "spec": {"replicas": 1001}})
    assert caught.value.code == 422


STATUS: dict[str, Any] = {
    "observedGeneration": 1,
    "conditions": [
        {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": "Because.",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
            "observedGeneration": 1,
        }
        for kind, status, reason in (("Suspended", "False", "NotSuspended"), ("Ready", "True", "Available"))
    ],
    "currentRevision": "0badcafe",
    "revisions": [{"id": "0badcafe", "pool": "f-00000000", "phase": "Current", "activeRuns": 12, "dueRuns": 2}],
    "replicas": 2,
    "readyReplicas": 2,
    "selector": "a=b",
    "runs": {"active": 12, "queued": 3, "due": 2},
    "schedules": [{"cron": "@daily", "lastScheduleTime": "2026-01-01T00:00:00Z", "nextScheduleTime": "2030-01-02T00:00:00Z"}],
    "triggersSummary": "order/created, @daily",
    "nextScheduleTime": "2030-01-02T00:00:00Z",
    "store": "default",
    "draining": 0,
}


def test_the_table_shows_what_matters(api: Api, namespace: str) -> None:
    """The columns of `kubectl get dfn` and of its wide form hold the status, the next tick as text."""
    name = make(api, namespace, {})["metadata"]["name"]
    api.patch(f"{objects(namespace)}/{name}/status", {"status": STATUS})
    table = api.request("GET", objects(namespace), Accept=TABLE)
    columns = {
        column["name"]: (column["priority"], cell)
        for column, cell in zip(table["columnDefinitions"], table["rows"][0]["cells"], strict=True)
    }
    age = columns.pop("Age")
    assert (age[0], bool(age[1])) == (0, True)
    assert columns == {
        "Name": (0, name),
        "Ready": (0, "True"),
        "Reason": (0, "Available"),
        "Revision": (0, "0badcafe"),
        "Replicas": (0, 2),
        "Active": (0, 12),
        "Queued": (0, 3),
        "Suspended": (0, "False"),
        "Next": (1, "2030-01-02T00:00:00Z"),
        "Triggers": (1, "order/created, @daily"),
        "Store": (1, "default"),
        "Draining": (1, 0),
    }
    head = api.kubectl("get", "dfn", "-n", namespace).splitlines()[0].split()
    assert head == ["NAME", "READY", "REASON", "REVISION", "REPLICAS", "ACTIVE", "QUEUED", "SUSPENDED", "AGE"]
    api.kubectl("wait", "--for=condition=Ready", f"dfn/{name}", "-n", namespace, "--timeout=5s")


def test_a_store_has_its_table_and_names(api: Api, namespace: str) -> None:
    """Stores are `dst`, and both kinds are of the category `stepwell`."""
    api.create(objects(namespace, "DurableStore"), document({"secretRef": {"name": "db"}}, "DurableStore", "own"))
    make(api, namespace, {}, "mine")
    assert api.kubectl("get", "dst", "-n", namespace).splitlines()[0].split() == ["NAME", "READY", "REASON", "SCHEMA", "AGE"]
    both = api.kubectl("get", "stepwell", "-n", namespace, "-o", "name").split()
    assert sorted(both) == ["durablefunction.stepwell.dev/mine", "durablestore.stepwell.dev/own"]


def test_lists_are_filtered_by_field(api: Api, namespace: str) -> None:
    """The selectable fields find functions by pool, image, store and suspension."""
    make(api, namespace, {"runner": {"pool": "shop"}, "suspend": True}, "a")
    make(api, namespace, {"storeRef": {"name": "own"}, "source": {"image": {"image": "other", "handler": "m:f"}}}, "b")
    found = {
        selector: [item["metadata"]["name"] for item in api.items(f"{objects(namespace)}?fieldSelector={selector}")]
        for selector in ("spec.runner.pool=shop", "spec.suspend=false", "spec.source.image.image=other", "spec.storeRef.name=own")
    }
    assert list(found.values()) == [["a"], ["b"], ["b"], ["b"]]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("dfn", "A durable function"),
        ("dfn.spec.triggers", "What starts a run"),
        ("dfn.spec.triggers.cron", "Five fields"),
        ("dfn.spec.runner.env.valueFrom.secretKeyRef", "A key of a Secret"),
        ("dfn.spec.source.inline.code", "at most 64 KiB"),
        ("dfn.status.conditions.reason", "in one word"),
        ("dst.spec.secretRef", "address of the database"),
    ],
)
def test_kubectl_explains(api: Api, path: str, says: str) -> None:
    """Each field is explained in words."""
    assert says in " ".join(api.kubectl("explain", path).split())


def test_status_and_spec_are_written_apart(api: Api, namespace: str) -> None:
    """A write to the status leaves the spec as it is, a write to the object leaves the status."""
    name = make(api, namespace, {"retries": 2})["metadata"]["name"]
    path = f"{objects(namespace)}/{name}"
    api.replace(f"{path}/status", {**api.get(path), "spec": document({"retries": 9})["spec"], "status": STATUS})
    assert api.get(path)["spec"]["retries"] == 2
    assert api.get(path)["metadata"]["generation"] == 1
    api.patch(path, {"spec": {"retries": 3}, "status": {"replicas": 77, "currentRevision": None}})
    found = api.get(path)
    assert (found["spec"]["retries"], found["status"], found["metadata"]["generation"]) == (3, STATUS, 2)


def test_conditions_are_merged_by_type(api: Api, namespace: str) -> None:
    """Server-side apply of one condition by another manager leaves the operator's conditions."""
    name = make(api, namespace, {})["metadata"]["name"]
    path = f"{objects(namespace)}/{name}/status"
    head = {"apiVersion": "stepwell.dev/v1alpha1", "kind": "DurableFunction", "metadata": {"name": name}}
    ready, other = STATUS["conditions"][1], {**STATUS["conditions"][1], "type": "Reachable"}
    api.patch(f"{path}?fieldManager=stepwell-operator", {**head, "status": {"conditions": [ready]}}, "apply")
    api.patch(f"{path}?fieldManager=probe", {**head, "status": {"conditions": [other]}}, "apply")
    assert [one["type"] for one in api.get(path)["status"]["conditions"]] == ["Ready", "Reachable"]


def shown() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every manifest that people are shown, with its place: of README, docs and examples."""
    texts = [(block.place, block.text) for page in PAGES for block in blocks_of(page) if block.language == "yaml"]
    texts += [(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")) for path in ROOT.glob("examples/**/*.yaml")]
    for place, text in texts:
        for found in yaml.safe_load_all(text):
            for one in found if isinstance(found, list) else [found]:
                if isinstance(one, dict) and str(one.get("apiVersion", "")).startswith("stepwell.dev/"):
                    yield f"{place} {one['kind']}", one


SHOWN = dict(shown())


@pytest.mark.parametrize("place", SHOWN)
def test_what_is_shown_is_accepted_as_it_is(api: Api, place: str) -> None:
    """Every manifest of README, docs and examples passes strict validation."""
    try_out(api, "default", SHOWN[place])


def test_manifests_are_shown() -> None:
    """The pages that must show one do."""
    pages = {place.partition(":")[0].partition(" ")[0] for place in SHOWN}
    assert pages >= {"docs/reference/manifest.md", "docs/how-to/install.md", "examples/cluster/orders.yaml"}


ONLY_MODELS = re.compile(r"column \d|from 1s to 5m|longer than 0|too long|never fires|cron|not null")
"""What the API server can't know: whether expressions, cron expressions and lengths of time mean something. And it drops nulls."""


@pytest.mark.parametrize("seed", range(8))
def test_the_api_server_and_the_models_agree(api: Api, seed: int) -> None:
    """Junk anywhere in a document: what the models read the API server takes, and what it takes they refuse for its meaning alone."""
    random = Random(seed)
    for _ in range(60):
        spec = with_junk(random.choice(VARIANTS), random)
        given = {**document({}), "spec": spec}
        fault = None
        try:
            parse_manifest(given)
        except SpecError as error:
            fault = str(error)
        refused = refusal(api, given)
        if refused is None:
            assert fault is None or ONLY_MODELS.search(fault), (spec, fault)
        else:
            assert fault is not None, (spec, refused)


def refusal(api: Api, given: dict[str, Any]) -> Refused | None:
    try:
        try_out(api, "default", given)
    except Refused as refused:
        return refused
    return None
