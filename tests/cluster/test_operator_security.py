"""What must hold whatever users do: namespaces apart in the database, secrets unseen, pods restricted, nobody stops the operator."""

import asyncio
import base64
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from cluster.harness.api import Api, Object, Refused
from cluster.operation import (
    CRDS,
    FUNCTIONS,
    Installed,
    Kubelet,
    OperatorProcess,
    Place,
    condition,
    crowding,
    eventually,
    function,
    says,
)

from stepwell.store.postgres import PostgresStore
from stepwell.store.views import RunRow
from stepwell_operator import rights
from stepwell_operator.provision import schema_of

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
DEFINITION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{}.stepwell.dev"
STORES = "/apis/stepwell.dev/v1alpha1/namespaces/{}/durablestores"


@pytest.fixture(scope="module")
def operator(administrator: Api, postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """An operator that logs all it can."""
    installed = Installed(administrator, tmp_path_factory.mktemp("operator"), postgres_dsn)
    quick = {"STEPWELL_LOOK": "1s", "STEPWELL_CENSUS": "2s", "STEPWELL_LOG_LEVEL": "DEBUG"}
    with installed.operator(**quick) as process, Kubelet(administrator):
        yield process
    installed.remove()


@pytest.fixture
def place(api: Api, operator: OperatorProcess) -> Iterator[Place]:
    """A namespace that lets in none but restricted pods."""
    name = api.make_namespace(labels={"pod-security.kubernetes.io/enforce": "restricted"})
    yield Place(api, name)
    api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def other(api: Api, namespace: str, operator: OperatorProcess) -> Place:
    """Another namespace with a function, and so a well, of its own."""
    made = Place(api, namespace)
    made.apply(function("theirs"))
    made.ready("theirs")
    return made


# --- the database ---


def attacks(schema: str, tables: list[str]) -> list[str]:
    """What somebody would try who knows the other namespace's name."""
    on_tables = [
        statement.format(f'"{schema}"."{table}"')
        for table in tables
        for statement in (
            "select * from {} limit 1",
            "delete from {}",
            "truncate {}",
            "drop table {}",
            "alter table {} add evil int",
            "do $$ begin lock table {}; end $$",
        )
    ]
    return [
        *on_tables,
        f'set role "{schema}"',
        f'set session authorization "{schema}"',
        f"alter role \"{schema}\" password 'mine'",
        f'grant "{schema}" to current_user',
        f'alter schema "{schema}" rename to mine',
        f'drop schema "{schema}" cascade',
        f'create table "{schema}".evil (a int)',
        f'grant usage on schema "{schema}" to current_user',
        f'select "{schema}".register_nothing()',
        "create role evil",
        "create database evil",
        "alter role current_user superuser",
        "alter role current_user createrole",
        "select rolpassword from pg_authid",
    ]


def bare(dsn: str) -> str:
    """The address without our own part of its query."""
    return dsn.partition("?")[0]


def tables_of(dsn: str, schema: str) -> list[str]:
    async def ask() -> list[str]:
        connection = await asyncpg.connect(bare(dsn))
        try:
            rows = await connection.fetch("select tablename from pg_tables where schemaname = $1", schema)
        finally:
            await connection.close()
        return sorted(row["tablename"] for row in rows)

    return asyncio.run(ask())


def test_a_role_reaches_no_other_namespaces_rows(place: Place, other: Place) -> None:
    """With the address out of its Secret a namespace can neither read, change, rename nor drop another's, nor become it."""
    place.apply(function("ours"))
    place.ready("ours")
    schema = schema_of(other.namespace)
    tables = tables_of(other.dsn(), schema)
    assert {"functions", "queue", "runs"} <= set(tables)

    async def attempt() -> dict[str, str]:
        connection = await asyncpg.connect(bare(place.dsn()))
        outcomes: dict[str, str] = {}
        try:
            for statement in attacks(schema, tables):
                try:
                    await connection.execute(statement)
                    outcomes[statement] = "it was done"
                except asyncpg.PostgresError as error:
                    outcomes[statement] = error.sqlstate or "?"
        finally:
            await connection.close()
        return outcomes

    outcomes = asyncio.run(attempt())
    allowed = {statement: said for statement, said in outcomes.items() if said not in {"42501", "0LP01"}}
    assert allowed == {}
    other.ready("theirs")
    assert tables_of(other.dsn(), schema) == tables


def test_a_namespace_makes_itself_no_role_of_anothers(place: Place, operator: OperatorProcess) -> None:
    """A Secret as of a store `x`, with the role of the namespace `…--x` in it, has the operator neither make nor change that role."""
    place.apply(function("ours"))
    place.ready("ours")
    ours = urlsplit(place.dsn())
    role = schema_of(f"{place.namespace}--x")
    who = f"{role}:{'m' * 32}@{ours.netloc.rpartition('@')[2]}"
    secret(place, "stepwell-store-x", {"dsn": ours._replace(netloc=who, query=f"schema={role}").geturl()})
    place.apply(function("taker", storeRef={"name": "x"}))
    told = place.until("taker", says("StoreReady", "False"))
    assert condition(told, "StoreReady")["reason"] == "Unreachable"

    async def roles() -> list[str]:
        connection = await asyncpg.connect(operator.installed.dsn)
        try:
            rows = await connection.fetch("select rolname from pg_roles where rolname like 'stepwell_%'")
        finally:
            await connection.close()
        return [row["rolname"] for row in rows]

    made = asyncio.run(roles())
    assert schema_of(place.namespace) in made
    assert role not in made


SPY = """
import os
import asyncpg

async def spy(ctx):
    async def look():
        connection = await asyncpg.connect(os.environ["STEPWELL_STORE"].partition("?")[0])
        said = []
        for statement in {statements!r}:
            try:
                await connection.execute(statement)
                said.append("it was done: " + statement)
            except asyncpg.PostgresError as error:
                said.append(error.sqlstate)
        await connection.close()
        return said
    return await ctx.step.run("look", look)
"""


def test_a_handler_reaches_no_other_namespaces_rows(place: Place, other: Place, tmp_path: Path) -> None:
    """Code that runs in a runner holds its own namespace's address, and that opens nothing of another's."""
    schema = schema_of(other.namespace)
    statements = attacks(schema, ["runs", "functions"])
    place.apply(
        function(
            "spy",
            SPY.format(statements=statements),
            source={"inline": {"code": SPY.format(statements=statements), "handler": "spy"}},
        )
    )
    place.ready("spy")
    [pool] = place.runners()
    code = tmp_path / "code.py"
    code.write_text(SPY.format(statements=statements), encoding="utf-8")
    started = place.start_run("spy", b'[{"id":"e","name":"go","data":{},"ts":0}]', wait=0)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("STEPWELL_")},
        "STEPWELL_STORE": place.dsn(),
        "STEPWELL_REGISTERED": "1",
        "STEPWELL_POOL": pool,
        "STEPWELL_CODE": str(code),
    }
    command = [str(Path(sys.executable).parent / "stepwell"), "runner"]
    with (tmp_path / "runner.log").open("wb") as log:
        runner = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        ended = eventually(lambda: _ended(place, started), 30)
    finally:
        runner.terminate()
        runner.wait(20)
    assert ended.value is not None
    assert set(json.loads(ended.value)) <= {"42501", "0LP01"}, ended


def _ended(place: Place, run_id: str) -> RunRow | None:
    async def ask(store: PostgresStore) -> RunRow | None:
        return await store.run(run_id)

    row = place.store(ask)
    return row if row is not None and row.status.value in {"completed", "failed", "cancelled"} else None


# --- what is seen ---

CANARY = "canary-5f2c1e"


def secret(place: Place, name: str, data: dict[str, str]) -> None:
    place.api.create(f"/api/v1/namespaces/{place.namespace}/secrets", {"metadata": {"name": name}, "stringData": data})


def durable_store(place: Place, name: str, key: str, **spec: str) -> None:
    place.api.create(
        STORES.format(place.namespace),
        {
            "apiVersion": "stepwell.dev/v1alpha1",
            "kind": "DurableStore",
            "metadata": {"name": name},
            "spec": {"secretRef": {"name": "addresses", "key": key}, **spec},
        },
    )


def test_nothing_confidential_is_told(place: Place, operator: OperatorProcess) -> None:
    """A word out of payloads, Secrets, variables and code stands in no log, Event, status or metric of the operator."""
    code = f"# {CANARY}\nasync def main(ctx):\n    return 1\n"
    secret(place, "mine", {"password": CANARY})
    env = [
        {"name": "TOKEN", "value": CANARY},
        {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "mine", "key": "password"}}},
    ]
    place.apply(function("one", code, runner={"env": env, "annotations": {"note": CANARY}}))
    place.ready("one")
    run_id = place.start_run("one", json.dumps([{"name": "go", "data": {"card": CANARY}}]).encode(), wait=0)
    place.until("one", lambda one: one["status"]["runs"]["active"] == 1)
    secret(
        place,
        "addresses",
        {
            "port": f"postgresql://user:{CANARY}@127.0.0.1:{CANARY}/db",
            "away": f"postgresql://user:{CANARY}@127.0.0.1:1/db",
            "no-role": f"postgresql://nobody-{CANARY}:{CANARY}@{bare(place.dsn()).rpartition('@')[2]}",
            "option": f"postgresql://user:{CANARY}@127.0.0.1/db?{CANARY}={CANARY}",
            "no-address": CANARY,
            "key-value": f"host=127.0.0.1 password={CANARY}",
            "wide-at": f"postgresql://user:{CANARY}\uff20x@127.0.0.1/db",
            "no-host": f"postgresql://user:{CANARY}@db..svc/db",
        },
    )
    bad = [(key, {}) for key in ("port", "away", "no-role", "option", "no-address", "key-value", "wide-at", "no-host")]
    bad += [(key, {"schema": "mine"}) for key in ("port", "wide-at", "no-host")]
    for number, (key, more) in enumerate(bad):
        durable_store(place, f"bad-{number}", key, **more)
        place.apply(function(f"on-{number}", storeRef={"name": f"bad-{number}"}))
    for number, (key, _) in enumerate(bad):
        said = place.until(f"on-{number}", says("StoreReady", "False"))
        assert condition(said, "StoreReady")["reason"] == "Unreachable", key
    place.apply(function("one", f"{code}# other {CANARY}\n", runner={"env": env}, retries=2))
    place.until("one", says("Draining", "True"))
    place.delete("one")
    eventually(lambda: _ended_or_gone(place, run_id), 20)
    shown = {
        "log": operator.log.read_text(errors="replace"),
        "metrics": operator.ask("/metrics").text,
        "health": operator.ask("/healthz").text + operator.ask("/readyz").text,
        "events": json.dumps([one for one in place.api.items("/apis/events.k8s.io/v1/events") if one["reportingController"] == "stepwell-operator"]),
        "status": json.dumps([one.get("status") for one in place.api.items(FUNCTIONS.format(place.namespace))]),
        "stores": json.dumps([one.get("status") for one in place.api.items(STORES.format(place.namespace))]),
    }  # fmt: skip
    assert [name for name, text in shown.items() if CANARY in text] == []
    assert [name for name, text in shown.items() if text.strip() in {"", "[]"}] == []


def _ended_or_gone(place: Place, run_id: str) -> bool:
    try:
        return _ended(place, run_id) is not None
    except Refused:
        return True  # the Secret with the address has gone with the last function


# --- what is malformed ---

UNICODE = "ß\u202e\U0001f469\u200d\U0001f680\u0000\ufffe\u2028'\"\\{{}}%s"
DEEP: Any = "x"
for _ in range(60):
    DEEP = {"a": [DEEP]}
INLINE = {"inline": {"code": "async def main(ctx): ...", "handler": "main"}}
SPECS: dict[str, Any] = {
    "null": None,
    "text": "a spec",
    "number": 7,
    "list": [1, None, {}],
    "empty": {},
    "source-text": {"source": "inline"},
    "source-null": {"source": {"inline": None}},
    "code-number": {"source": {"inline": {"code": 7, "handler": None}}},
    "code-big": {"source": {"inline": {"code": "ß" * 32_768, "handler": "main"}}},
    "code-unicode": {"source": {"inline": {"code": UNICODE * 500, "handler": "main"}}},
    "map-number": {"source": {"configMap": {"name": 7, "key": [], "handler": {}}}},
    "map-path": {"source": {"configMap": {"name": "../../secrets/admin", "key": "a", "handler": "f"}}},
    "image-unicode": {"source": {"image": {"image": UNICODE, "handler": UNICODE}}},
    "triggers-many": {"source": INLINE, "triggers": [{"event": f"e{n}"} for n in range(5000)]},
    "triggers-odd": {"source": INLINE, "triggers": [None, 7, "x", {"cron": 5}, {"event": {}}, {"if": UNICODE}]},
    "triggers-text": {"source": INLINE, "triggers": UNICODE},
    "expression": {"source": INLINE, "idempotency": "(" * 5000},
    "expression-odd": {"source": INLINE, "concurrency": [{"limit": "1", "key": UNICODE}]},
    "numbers": {"source": INLINE, "replicas": 1e300, "retries": -(2**63), "revisions": {"max": 0.5}},
    "replicas-null": {"source": INLINE, "replicas": None, "suspend": None, "runner": None, "storeRef": None},
    "runner-odd": {"source": INLINE, "runner": {"env": {"a": 1}, "resources": [], "labels": {"": None}, "pool": UNICODE}},
    "runner-evil": {"source": INLINE, "runner": {"securityContext": {"privileged": True}, "hostNetwork": True}},
    "store-odd": {"source": INLINE, "storeRef": 7},
    "store-path": {"source": INLINE, "storeRef": {"name": "../../../kube-system/secrets/x"}},
    "store-quote": {"source": INLINE, "storeRef": {"name": '"; drop schema public cascade; --'}},
    "store-broken": {"source": INLINE, "storeRef": {"name": "broken"}},
    "id-odd": {"source": INLINE, "functionId": UNICODE},
    "id-list": {"source": INLINE, "functionId": ["a"]},
    "policy": {"source": INLINE, "deletionPolicy": {"a": 1}},
    "deep": {"source": INLINE, "backoff": DEEP},
    "unknown": {"source": INLINE, UNICODE.replace("\u0000", ""): UNICODE, "id": "evil"},
}  # fmt: skip
STATUSES: tuple[Any, ...] = (
    {"conditions": "x"},
    {"conditions": [1, None, "x"]},
    {"conditions": [{"type": None}, {"reason": "x"}, {"type": "Ready", "status": 7}]},
    {"runs": 7, "revisions": {"a": 1}, "triggersSummary": [], "observedGeneration": "x"},
    "text",
    [1],
)


@pytest.fixture
def anything_goes(administrator: Api) -> Iterator[None]:
    """The definitions let in whatever is written, as those of another version might."""
    for kind in ("durablefunctions", "durablestores"):
        path = DEFINITION.format(kind)
        definition = administrator.get(path)
        for version in definition["spec"]["versions"]:
            anything = {"x-kubernetes-preserve-unknown-fields": True}
            version["schema"]["openAPIV3Schema"] = {"type": "object", "properties": {"spec": anything, "status": anything}}
            version.pop("selectableFields", None)
            version.get("subresources", {}).pop("scale", None)
        administrator.replace(path, definition)
    yield
    administrator.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    for kind in ("durablefunctions", "durablestores"):
        for one in CRDS.glob(f"{kind}.yaml"):
            administrator.kubectl("replace", "-f", str(one))


def odd(name: str, spec: Any, **metadata: Any) -> Object:
    return {
        "apiVersion": "stepwell.dev/v1alpha1",
        "kind": "DurableFunction",
        "metadata": {"name": name, **metadata},
        "spec": spec,
    }


@pytest.mark.timeout(400)
def test_a_malformed_object_delays_nobody(
    api: Api, other: Place, namespace: str, operator: OperatorProcess, anything_goes: None
) -> None:
    """Whatever is written past the schema, the operator goes on, and another object's edits are taken up in 2 s, the slowest in 30."""
    eventually(lambda: _takes_anything(api, namespace))
    _edit(other)  # not measured: a definition that was replaced has ended the watches
    where = FUNCTIONS.format(namespace)
    process = operator.process
    taken = [_edit(other)]
    broken = {
        "apiVersion": "stepwell.dev/v1alpha1",
        "kind": "DurableStore",
        "metadata": {"name": "broken"},
        "spec": {"secretRef": 7},
    }
    api.create(STORES.format(namespace), broken)
    for number, (name, spec) in enumerate(SPECS.items()):
        annotations = {f"a-{n}": UNICODE[:6] for n in range(9_000)} if number % 7 == 0 else {"stepwell.dev/suspend": UNICODE}
        api.create(
            where, odd(name, spec, annotations=annotations, finalizers=["example.com/of-others"] if number % 5 == 0 else [])
        )
        api.patch(f"{where}/{name}/status", {"status": STATUSES[number % len(STATUSES)]})
        if number % 3 == 0:
            taken.append(_edit(other))
    for name in SPECS:
        said = eventually(lambda name=name: _refused(api, f"{where}/{name}"))
        assert said["reason"] in {"InvalidSpec", "InvalidExpression", "SourceNotFound", "ReservedName", "Accepted"}, (name, said)
    taken.append(_edit(other))
    for name in SPECS:
        api.patch(f"{where}/{name}", {"metadata": {"finalizers": None}})
        api.delete(f"{where}/{name}")
        api.wait_gone(f"{where}/{name}")
    api.delete(f"{STORES.format(namespace)}/broken")
    taken.append(_edit(other))
    assert statistics.median(taken) <= 2 * crowding(), taken
    assert process is not None
    assert process.poll() is None
    assert operator.ask("/healthz").status_code == 200


def _takes_anything(api: Api, namespace: str) -> bool:
    try:
        api.create(FUNCTIONS.format(namespace), odd("probe", 7))
    except Refused:
        return False
    api.delete(f"{FUNCTIONS.format(namespace)}/probe")
    return True


def _refused(api: Api, path: str) -> Object | None:
    document = api.get(path)
    try:
        said = condition(document, "SpecAccepted")
    except (AttributeError, TypeError, KeyError):
        return None  # still the status that was written by hand
    return (
        said if said.get("message") is not None and said.get("observedGeneration") == document["metadata"]["generation"] else None
    )


def _edit(place: Place) -> float:
    """How long it takes until an edit of the good function has been taken up."""
    began = time.monotonic()
    retries = (place.read("theirs")["spec"].get("retries", 4) + 1) % 20
    place.patch("theirs", retries=retries)
    generation = place.read("theirs")["metadata"]["generation"]
    place.until("theirs", lambda one: one["status"].get("observedGeneration") == generation, 30)
    return time.monotonic() - began


def test_stores_that_answer_nothing_delay_nobody(place: Place, other: Place) -> None:
    """Twenty functions of one address that swallows packets, and twenty of addresses each of their own, hold up no other's edit."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as hole:  # it accepts nobody
        address = f"postgresql://u:p@127.0.0.1:{hole.getsockname()[1]}/d"
        secret(place, "addresses", {"hole": address})
        durable_store(place, "hole", "hole")
        for number in range(20):
            durable_store(place, f"hole-{number}", "hole")
        where = FUNCTIONS.format(place.namespace)
        for number in range(20):
            for name, store in ((f"one-{number}", "hole"), (f"own-{number}", f"hole-{number}")):
                place.api.create(where, function(name, storeRef={"name": store}))
        slowest = max(_edit(other) for _ in range(12))
        for name in ("one-19", "own-19"):
            place.until(name, says("StoreReady", "False", "Unreachable"))
        slowest = max([slowest, *(_edit(other) for _ in range(12))])
        assert slowest <= 2 * crowding(), slowest


# --- pods and rights ---


def test_pods_are_restricted_and_hold_no_token(place: Place) -> None:
    """In a namespace that enforces Pod Security restricted all our pods are made, and none is given a Kubernetes token."""
    accounts = f"/api/v1/namespaces/{place.namespace}/serviceaccounts"
    place.api.create(accounts, {"metadata": {"name": "eager"}, "automountServiceAccountToken": True})
    place.apply(function("one", replicas=2, runner={"serviceAccountName": "eager"}))
    place.apply(function("two", source={"image": {"image": "registry/shop:1", "handler": "shop:main"}}))
    place.ready("one")
    place.ready("two")
    deployments = f"/apis/apps/v1/namespaces/{place.namespace}/deployments/stepwell-gateway"
    place.api.wait_for(deployments, lambda one: one["status"].get("readyReplicas") == 1)
    pods = place.api.items(f"/api/v1/namespaces/{place.namespace}/pods")
    components = sorted(pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in pods)
    assert components == ["gateway", "runner", "runner", "runner"]
    for pod in pods:
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert not any("projected" in volume or "hostPath" in volume or "secret" in volume for volume in spec["volumes"])
        mounts = [mount["mountPath"] for container in spec["containers"] for mount in container["volumeMounts"]]
        assert not any(path.startswith("/var/run/secrets") for path in mounts)
        assert all(container["securityContext"]["readOnlyRootFilesystem"] for container in spec["containers"])


def test_the_operator_may_do_no_more_than_it_needs(
    administrator: Api, operator: OperatorProcess, tmp_path: Path, place: Place
) -> None:
    """No list of Secrets, no exec, no wildcard, no way to give itself rights: neither in the list nor at the server."""
    everything = [*rights.IN_NAMESPACES, *rights.KOPF, *rights.IN_OWN_NAMESPACE]
    assert not any("*" in part for right in everything for part in right)
    verbs = {resource: {verb for _, name, verb in everything if name == resource} for _, resource, _ in everything}
    assert verbs["secrets"] == {"get", "create", "patch"}
    assert not {verb for right in everything for verb in right} & {"escalate", "bind", "impersonate", "deletecollection"}
    assert not {name for name in verbs if name.startswith(("pods/", "roles", "clusterroles", "serviceaccounts/", "nodes"))}
    kubeconfig = administrator.as_service_account(operator.installed.namespace, "stepwell-operator", tmp_path)
    with Api(kubeconfig, administrator.kubectl_path) as own:
        tried = {
            "list Secrets": ("GET", f"/api/v1/namespaces/{place.namespace}/secrets"),
            "list all Secrets": ("GET", "/api/v1/secrets"),
            "delete a Secret": ("DELETE", f"/api/v1/namespaces/{place.namespace}/secrets/x"),
            "exec": ("POST", f"/api/v1/namespaces/{place.namespace}/pods/x/exec?command=sh"),
            "make a token": ("POST", f"/api/v1/namespaces/{place.namespace}/serviceaccounts/default/token"),
            "make a role": ("POST", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{place.namespace}/roles"),
            "delete a function": ("DELETE", f"{FUNCTIONS.format(place.namespace)}/x"),
            "write elsewhere": ("PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/x"),
        }
        for what, (method, path) in tried.items():
            with pytest.raises(Refused) as refused:
                own.request(method, path, {} if method in {"POST", "PUT"} else None)
            assert refused.value.code == 403, what


def test_a_secret_of_ours_holds_a_password_of_its_own(place: Place, other: Place) -> None:
    """Two namespaces have two roles with two passwords, and the administrator's address is in neither."""
    place.apply(function("one"))
    place.ready("one")
    ours, theirs = place.dsn(), other.dsn()
    assert ours.partition("@")[0] != theirs.partition("@")[0]
    keys = place.api.get(f"/api/v1/namespaces/{place.namespace}/secrets/stepwell-gateway")["data"]
    assert len({base64.b64decode(value) for value in keys.values()}) == 2
