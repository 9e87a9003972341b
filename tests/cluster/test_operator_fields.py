"""Every field of a DurableFunction: set, changed, made invalid, restored, removed; each time the end is that of a fresh create."""

import copy
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from cluster.harness.api import Api, Object, Refused
from cluster.operation import CODE, FUNCTIONS, PATIENCE, Installed, Kubelet, OperatorProcess, Place, condition, function, says

from stepwell.store.postgres import PostgresStore
from stepwell_operator.target import Target, target_of
from stepwell_operator.world import read_seen

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]
QUICK = {"STEPWELL_LOOK": "1s", "STEPWELL_CENSUS": "2s", "STEPWELL_DRAIN_CHECK": "300ms"}
SECONDS = 10
"""How long an edit may take. STEPWELL_LONG=1 measures it; a shared machine would be measured instead of the operator."""

OURS = (
    "/apis/apps/v1/namespaces/{}/deployments",
    "/api/v1/namespaces/{}/configmaps",
    "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
)
MAPS = {"maps": {"a.py": CODE, "b.py": f"{CODE}# b\n"}, "other": {"a.py": f"{CODE}# other\n"}}
SCHEMA = "the schema"


@dataclass(frozen=True, slots=True)
class Field:
    """A field with two good values and bad ones, each with who refuses it: the schema, or the operator for a reason."""

    path: str
    one: Any
    two: Any
    bad: tuple[tuple[Any, str], ...]
    base: Any = None
    """Its value where it is neither set nor changed; None: it is left out."""

    @property
    def name(self) -> str:
        """The name of the function that tries it."""
        return self.path.lower().replace(".", "-")

    def document(self, value: Any) -> Object:
        """A function with this value in the field."""
        made = function(self.name)
        inner = made["spec"]
        *outer, last = self.path.split(".")
        for part in outer:
            inner = inner.setdefault(part, {})
        if self.path.startswith("source."):
            inner.clear()
        if value is None:
            inner.pop(last, None)
        else:
            inner[last] = value
        if made["spec"].get("runner") == {}:
            del made["spec"]["runner"]  # an empty mapping in the place of one that had fields is no apply patch
        return made


def schema(*values: Any) -> tuple[tuple[Any, str], ...]:
    return tuple((value, SCHEMA) for value in values)


SPREAD = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
EVENT = [{"event": "go"}]
INLINE = {"code": CODE, "handler": "main"}
GROUPS: dict[str, tuple[Field, ...]] = {
    "starting": (
        Field(
            "triggers",
            [{"event": "other"}, {"cron": "TZ=Europe/Paris 0 12 * * 5"}],
            [{"cron": "@daily", "overlap": "Skip"}, {"event": "x", "if": "event.data.a > 1"}],
            (
                ([{"event": "go", "if": "event.data.x >"}], "InvalidExpression"),
                ([{"cron": "0 0 31 2 *"}], "CronNeverFires"),
                ([{"cron": "TZ=Mars/Base 0 0 * * *"}], "UnknownTimezone"),
                ([{"cron": "99 0 1 2 *"}], "InvalidCron"),
                *schema([{"event": "a", "cron": "@daily"}]),
            ),
        ),
        Field("concurrency", [{"limit": 3}], [{"limit": 4, "key": "event.data.a"}], (([{"limit": 1, "key": "nope.x"}], "InvalidExpression"), *schema([{"limit": 0}]))),
        Field("idempotency", "event.data.id", "event.data.other", (("nope.x", "InvalidExpression"), *schema(""))),
        Field("cancelOn", [{"event": "stop"}], [{"event": "halt", "if": "event.data.a == async.data.a", "timeout": "1d"}], (([{"event": "stop", "if": "1 +"}], "InvalidExpression"), *schema([{"event": "a/*"}]))),
    ),
    "running": (
        Field("retries", 2, 0, schema(21, "many")),
        Field("backoff", {"strategy": "fixed", "base": "1s"}, {"strategy": "table", "table": ["1s", "5s"]}, (*schema({"strategy": "table", "base": "1s"}), ({"strategy": "fixed", "factor": 2}, SCHEMA))),
        Field("timeouts", {"start": "5m"}, {"run": "30m"}, schema({"run": "1h", "finish": "1h"}, {"start": "soon"})),
        Field("checkpointing", {"bufferedSteps": 5}, {"maxInterval": "1s", "maxRuntime": "1m"}, schema({"bufferedSteps": 0})),
        Field("onFailure", "tidy", "mend", schema("not a name")),
    ),
    "sources": (
        Field("source.inline", {"code": f"{CODE}# one\n", "handler": "main"}, {"code": CODE, "handler": "other"}, schema({"code": "x" * 70_000, "handler": "f"}, {"code": CODE, "handler": "a b"}), INLINE),
        Field("source.image", {"image": "registry/shop:1", "handler": "shop:main"}, {"image": "registry/shop:2", "handler": "shop:other"}, schema({"image": "a b", "handler": "m:f"}, {"image": "a", "handler": "f"}), {"image": "registry/shop:0", "handler": "shop:main"}),
        Field("source.configMap", {"name": "maps", "key": "b.py", "handler": "main"}, {"name": "other", "key": "a.py", "handler": "second"}, (({"name": "gone", "key": "a.py", "handler": "f"}, "SourceNotFound"), ({"name": "maps", "key": "gone", "handler": "f"}, "SourceNotFound"), *schema({"name": "maps", "handler": "f"})), {"name": "maps", "key": "a.py", "handler": "main"}),
    ),
    "pods": (
        Field("runner.pool", "first", "second", schema("Not A Label")),
        Field("runner.resources", {"requests": {"cpu": "1000m"}, "limits": {"memory": 1073741824}}, {"limits": {"example.com/gpu": "1"}}, schema({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}, {"limits": {"cpu": "fast"}})),
        Field("runner.env", [{"name": "A", "value": "1"}], [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}], schema([{"name": "STEPWELL_STORE", "value": "x"}])),
        Field("runner.envFrom", [{"secretRef": {"name": "s", "optional": True}}], [{"prefix": "P_", "configMapRef": {"name": "c", "optional": True}}], schema([{}])),
        Field("runner.labels", {"team": "a"}, {"team": "b", "example.com/x": "y"}, schema({"stepwell.dev/pool-id": "evil"})),
    ),
    "placing": (
        Field("runner.annotations", {"note": "a"}, {"note": "b"}, schema({"stepwell.dev/store": "evil"})),
        Field("runner.nodeSelector", {"kubernetes.io/arch": "amd64"}, {"disk": "ssd"}, schema({"a": "not a value"})),
        Field("runner.tolerations", [{"operator": "Exists"}], [{"key": "a", "value": "b", "effect": "NoSchedule"}], schema([{"operator": "Equal"}])),
        Field("runner.topologySpreadConstraints", [SPREAD], [{**SPREAD, "minDomains": 2}], schema([{**SPREAD, "maxSkew": 0}])),
    ),
    "identity": (
        Field("runner.imagePullSecrets", [{"name": "r"}], [{"name": "r"}, {"name": "q"}], schema([{"name": ""}])),
        Field("runner.serviceAccountName", "shop", "depot", schema("Not A Name")),
        Field("runner.runtimeClassName", "stepwell-one", "stepwell-two", schema("Not A Name")),
        Field("runner.priorityClassName", "stepwell-one", "stepwell-two", schema("system-node-critical")),
        Field("runner.terminationGracePeriodSeconds", 30, 90, schema(0, "long")),
    ),
    "standing": (
        Field("replicas", 3, 0, schema(-1, 1001)),
        Field("suspend", True, False, schema("yes")),
        Field("revisions", {"max": 3}, {"strategy": "Replace", "max": 5}, schema({"max": 0}, {"strategy": "Blue"})),
        Field("deletionPolicy", "Drain", "Cancel", schema("Orphan")),
    ),
}  # fmt: skip
APART = {"functionId", "storeRef"}
"""What never changes has a test of its own."""


@pytest.fixture(scope="module")
def operator(administrator: Api, postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    installed = Installed(administrator, tmp_path_factory.mktemp("operator"), postgres_dsn)
    with installed.operator(**QUICK) as process, Kubelet(administrator):
        yield process
    installed.remove()


@pytest.fixture(scope="module")
def classes(administrator: Api) -> Iterator[None]:
    """What pods may name: two priority classes and two runtime classes."""
    made = {
        "/apis/scheduling.k8s.io/v1/priorityclasses": {"value": 7},
        "/apis/node.k8s.io/v1/runtimeclasses": {"handler": "runc"},
    }
    for path, body in made.items():
        for name in ("stepwell-one", "stepwell-two"):
            administrator.create(path, {"metadata": {"name": name}, **body})
    yield
    for path in made:
        for name in ("stepwell-one", "stepwell-two"):
            administrator.delete(f"{path}/{name}")


@pytest.fixture(scope="module")
def places(administrator: Api, operator: OperatorProcess, classes: None) -> Iterator[list[Place]]:
    """Four namespaces with a well each: one where things are edited, three for fresh creates."""
    made = [Place(administrator, administrator.make_namespace()) for _ in range(4)]
    for place in made:
        for name, data in MAPS.items():
            administrator.create(f"/api/v1/namespaces/{place.namespace}/configmaps", {"metadata": {"name": name}, "data": data})
        for name in ("shop", "depot"):
            administrator.create(f"/api/v1/namespaces/{place.namespace}/serviceaccounts", {"metadata": {"name": name}})
        put(place, function("keeper", replicas=0))
    for place in made:
        place.ready("keeper")
    yield made
    for place in made:
        administrator.delete(f"/api/v1/namespaces/{place.namespace}")


def put(place: Place, document: Object) -> None:
    """Server-side apply, as a user's whole word: what isn't in it any more goes."""
    path = f"{place.path(document['metadata']['name'])}?fieldManager=user&force=true"
    place.api.patch(path, document, "apply")


def fully(document: Object) -> bool:
    """Whether a function has come to rest."""
    status, spec = document.get("status", {}), document["spec"]
    at_rest = status.get("observedGeneration") == document["metadata"]["generation"]
    reason = condition(document, "Ready").get("reason")
    scheduled = condition(document, "SchedulesReady").get("reason")
    return (
        at_rest
        and reason in {"Available", "Suspended"}
        and scheduled in {"Registered", "Suspended"}
        and status.get("readyReplicas") == status.get("replicas") == spec["replicas"]
        and len(status["revisions"]) == 1
        and status["revisions"][0]["phase"] == "Current"
    )


class Pictures:
    """What there is of functions in a namespace, without what differs from one namespace or minute to the next."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._objects: list[tuple[str, Object]] = []
        for path in OURS:
            selector = "labelSelector=app.kubernetes.io%2Fmanaged-by%3Dstepwell-operator"
            found = place.api.items(f"{path.format(place.namespace)}?{selector}")
            self._objects += [(path.rpartition("/")[2], one) for one in found if not one["metadata"].get("deletionTimestamp")]
        self._functions, self._revisions, self._schedules = place.store(_rows)
        self._documents = {one["metadata"]["name"]: one for one in place.api.items(FUNCTIONS.format(place.namespace))}

    def of(self, name: str) -> Any:
        """One function: its children, its rows, its status and its finalizers."""
        ids = {name, f"{name}-failure"}
        document = self._documents[name]
        picture = {
            "children": sorted((_child(kind, one) for kind, one in self._objects if _is_owned(one, name)), key=str),
            "functions": sorted(row for row in self._functions if row[0] == name or (row[0] in ids and row[-1])),
            "revisions": sorted(row for row in self._revisions if row[0] in ids),
            "schedules": sorted(row for row in self._schedules if row[1] in ids),
            "status": _status(document),
            "finalizers": document["metadata"].get("finalizers", []),
        }
        return json.loads(json.dumps(picture).replace(self._place.namespace, "NAMESPACE"))


async def _rows(store: PostgresStore) -> Any:
    registry = await store.registry()
    functions = [
        (row.function_id, row.revision, row.pool, row.owner, row.spec.decode(), row.active) for row in registry.functions
    ]
    revisions = [(row.function_id, row.revision, row.pool, row.code.decode()) for row in await store.revisions()]
    return functions, revisions, [(row.schedule_id, row.function_id, row.cron.decode()) for row in registry.schedules]


def _is_owned(one: Object, name: str) -> bool:
    is_pool = "stepwell.dev/pool-id" in one["metadata"].get("labels", {})
    return is_pool and name in {owner["name"] for owner in one["metadata"].get("ownerReferences", ())}


def _child(kind: str, one: Object) -> Any:
    metadata = one["metadata"]
    owners = sorted(owner["name"] for owner in metadata["ownerReferences"])
    spec = copy.deepcopy(one.get("spec", {}))
    if kind == "deployments":
        spec["template"]["metadata"].pop("creationTimestamp", None)
        spec["template"]["metadata"]["annotations"]["stepwell.dev/store"] = "a digest of the address"
    return [kind, metadata["name"], metadata["labels"], owners, spec, one.get("data"), one.get("immutable")]


def _status(document: Object) -> Any:
    status = copy.deepcopy(document.get("status", {}))
    for one in [status, *status.get("conditions", [])]:
        one.pop("lastTransitionTime", None)
        one.pop("observedGeneration", None)
    for one in [status, *status.get("schedules", [])]:
        one.pop("lastScheduleTime", None)
        if "nextScheduleTime" in one:
            one["nextScheduleTime"] = one["nextScheduleTime"].partition("T")[2]  # which day it is hangs on when one looks
    return status


def agree(place: Place, fields: tuple[Field, ...], expected: dict[str, Any]) -> float:
    """Wait until what is there is what a fresh create made; how long it took. What differs is told if it doesn't become so."""
    began = time.monotonic()
    while True:
        pictures = Pictures(place)
        found = {field.name: pictures.of(field.name) for field in fields}
        if found == expected:
            return time.monotonic() - began
        assert time.monotonic() - began < PATIENCE, "\n".join(_differences(found, expected))
        time.sleep(0.2)


def _differences(found: Any, expected: Any, path: str = "") -> Iterator[str]:
    if isinstance(found, dict) and isinstance(expected, dict):
        for name in sorted({*found, *expected}):
            yield from _differences(found.get(name), expected.get(name), f"{path}.{name}")
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        for place, pair in enumerate(zip(found, expected, strict=True)):
            yield from _differences(*pair, f"{path}[{place}]")
    elif found != expected:
        yield f"{path}: {found} instead of {expected}"


def revision_by_the_book(place: Place, name: str) -> str:
    """The revision that the pure classification gives a function."""
    target = target_of(read_seen(place.read(name)), {(place.namespace, key): data for key, data in MAPS.items()})
    assert isinstance(target, Target), target
    return target.revision


def fresh(place: Place, fields: tuple[Field, ...], value: Callable[[Field], Any]) -> dict[str, Any]:
    """What creating these functions with these values comes to."""
    for field in fields:
        put(place, field.document(value(field)))
    for field in fields:
        place.until(field.name, fully)
    pictures = Pictures(place)
    return {field.name: pictures.of(field.name) for field in fields}


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_a_field_is_converged_like_a_fresh_create(places: list[Place], group: str) -> None:
    """Set, changed, restored after a refusal and removed: within ten seconds (STEPWELL_LONG=1) all is as if it had been created so."""
    taken: list[float] = []
    edited, *others = places
    fields = GROUPS[group]
    base = fresh(others[0], fields, lambda field: field.base)
    one = fresh(others[1], fields, lambda field: field.one)
    two = fresh(others[2], fields, lambda field: field.two)
    steps: list[tuple[dict[str, Any], Callable[[Field], Any]]] = [
        (base, lambda field: field.base),
        (one, lambda field: field.one),
        (two, lambda field: field.two),
        (one, lambda field: field.one),
        (base, lambda field: field.base),
    ]
    for place, (expected, value) in enumerate(steps):
        for field in fields:
            put(edited, field.document(value(field)))
        taken.append(agree(edited, fields, expected))
        for field in fields:
            assert expected[field.name]["status"]["currentRevision"] == revision_by_the_book(edited, field.name)
        if place == 2:
            for field in fields:
                spoil(edited, field, expected[field.name])
    for field in fields:
        for where in places:
            where.delete(field.name)
    if os.environ.get("STEPWELL_LONG") == "1":
        assert statistics.median(taken) <= SECONDS, taken


def spoil(place: Place, field: Field, before: Any) -> None:
    """Give a field each of its bad values: what is refused changes nothing, what isn't accepted leaves the last good spec."""
    for value, reason in field.bad:
        if reason == SCHEMA:
            with pytest.raises(Refused) as refused:
                put(place, field.document(value))
            assert refused.value.code in {400, 422, 500}, refused.value  # 500: of the apply patch itself
            continue
        put(place, field.document(value))
        said = place.until(field.name, says("SpecAccepted", "False", reason))
        assert condition(said, "SpecAccepted")["message"].startswith(f"spec.{field.path}")
        assert condition(said, "Ready")["reason"] == "SpecInvalid"
        now = Pictures(place).of(field.name)
        assert {part: now[part] for part in now if part != "status"} == {part: before[part] for part in now if part != "status"}
        assert now["status"]["currentRevision"] == before["status"]["currentRevision"]


def test_every_field_is_tried(administrator: Api, operator: OperatorProcess) -> None:
    """The schema has no field that these tests leave out."""
    definition = administrator.get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/durablefunctions.stepwell.dev")
    spec = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    known = {name for name in spec if name not in {"runner", "source"}}
    known |= {f"runner.{name}" for name in spec["runner"]["properties"]}
    known |= {f"source.{name}" for name in spec["source"]["properties"]}
    assert {field.path for fields in GROUPS.values() for field in fields} | APART == known


def test_a_functions_id_never_changes(places: list[Place]) -> None:
    """An id of its own keys the function's rows; it can be neither changed nor removed nor added later."""
    place = places[0]
    put(place, function("named", functionId="Shop.named"))
    place.ready("named")
    rows = [row for row in place.store(_rows)[0] if row[3] == "dfn/named"]
    assert [row[0] for row in rows] == ["Shop.named"]
    for other in ({"functionId": "Shop.other"}, {}):
        with pytest.raises(Refused, match="functionId` is immutable"):
            put(place, function("named", **other))
    with pytest.raises(Refused, match="functionId` is immutable"):
        put(place, function("keeper", functionId="Shop.keeper", replicas=0))
    assert [row for row in place.store(_rows)[0] if row[3] == "dfn/named"] == rows
    place.delete("named")


def test_a_functions_store_never_changes(places: list[Place], postgres_dsn: str) -> None:
    """Runs can't move to another store, so the reference is refused when it changes; naming the default is no change."""
    place = places[0]
    secret = {"metadata": {"name": "db"}, "stringData": {"dsn": postgres_dsn}}
    place.api.create(f"/api/v1/namespaces/{place.namespace}/secrets", secret)
    schema_name = f"{place.namespace}-own".replace("-", "_")
    store = {
        "apiVersion": "stepwell.dev/v1alpha1",
        "kind": "DurableStore",
        "metadata": {"name": "own"},
        "spec": {"secretRef": {"name": "db"}, "schema": schema_name},
    }
    place.api.create(f"/apis/stepwell.dev/v1alpha1/namespaces/{place.namespace}/durablestores", store)
    put(place, function("stored", storeRef={"name": "own"}))
    place.ready("stored")
    assert place.read("stored")["status"]["store"] == "own: Connected"
    assert "stored" not in {row[0] for row in place.store(_rows)[0]}
    for other in ({"storeRef": {"name": "default"}}, {}):
        with pytest.raises(Refused, match="storeRef` is immutable"):
            put(place, function("stored", **other))
    put(place, function("keeper", replicas=0, storeRef={"name": "default"}))
    with pytest.raises(Refused, match="storeRef` is immutable"):
        put(place, function("keeper", replicas=0, storeRef={"name": "own"}))
    put(place, function("keeper", replicas=0))
    before = [name for name, one in place.runners().items() if _is_owned(one, "stored")]
    put(place, function("stored", storeRef={"name": "own"}, idempotency="nope.x"))
    said = place.until("stored", says("SpecAccepted", "False", "InvalidExpression"))
    assert said["status"]["store"] == "own: Connected"
    assert said["status"]["currentRevision"]
    assert [name for name, one in place.runners().items() if _is_owned(one, "stored")] == before
    place.delete("stored")
    gateway = f"/apis/apps/v1/namespaces/{place.namespace}/deployments/stepwell-gateway-own"
    place.api.wait_gone(gateway, 20)
