"""What a user does with functions on a cluster, and what comes of it: a real API server, real controllers, the operator as shipped."""

import asyncio
import json

import asyncpg
import pytest
from cluster.operation import BAR, CODE, Kubelet, Place, condition, crowding, end_runs, eventually, function, left, says, waiting
from postgres_server import Postgres

from stepwell.store.access import AuditFilter
from stepwell.store.postgres import PostgresStore
from stepwell.store.registry import PauseRow, Registry
from stepwell_operator.provision import schema_of

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]
OTHER = "async def main(ctx):\n    return 2\n"


def registry(place: Place) -> Registry:
    """What is registered in the well."""

    async def ask(store: PostgresStore) -> Registry:
        return await store.registry()

    return place.store(ask)


async def execute(dsn: str, *commands: str) -> None:
    """Do something to the database that the operator has no part in."""
    connection = await asyncpg.connect(dsn)
    for command in commands:
        await connection.execute(command)
    await connection.close()


def test_a_function_gets_all_it_needs(place: Place) -> None:
    """Applying a function in an empty namespace makes its well, gateway, code and runners, and it is Ready once pods are."""
    place.apply(function("one", triggers=[{"event": "go"}, {"cron": "TZ=Europe/Paris 0 12 * * 5"}]))
    made = place.ready("one")
    [name] = place.runners()
    assert name.startswith("one-")
    assert made["status"]["currentRevision"]
    assert made["status"]["selector"] == f"stepwell.dev/pool-id={name}"
    assert made["status"]["nextScheduleTime"]
    kinds = {one["type"] for one in made["status"]["conditions"]}
    assert kinds == {
        "Ready", "SpecAccepted", "StoreReady", "RunnersAvailable", "Progressing", "SchedulesReady", "Draining", "Suspended", "Paused",
    }  # fmt: skip
    core = f"/api/v1/namespaces/{place.namespace}"
    assert place.api.get(f"{core}/configmaps/{name}-code")["data"]["code.py"] == CODE
    for path in (
        "secrets/stepwell-store",
        "secrets/stepwell-gateway",
        "services/stepwell-gateway",
        "serviceaccounts/stepwell-gateway",
    ):
        assert place.api.get(f"{core}/{path}")["metadata"]["ownerReferences"][0]["name"] == "one"
    known = registry(place)
    assert [(row.function_id, row.revision, row.pool, row.active) for row in known.functions] == [
        ("one", made["status"]["currentRevision"], name, True)
    ]
    assert [row.function_id for row in known.schedules] == ["one"]


def test_a_successor_inherits_what_is_shared(place: Place) -> None:
    """A function that comes later owns the well's Secrets and the gateway too, keys and all: they outlive the one they were made for."""
    path = f"/api/v1/namespaces/{place.namespace}/secrets/stepwell-gateway"
    owners = lambda: {owner["name"] for owner in place.api.get(path)["metadata"]["ownerReferences"]}  # noqa: E731
    place.apply(function("one"))
    place.ready("one")
    before = place.api.get(path)
    place.apply(function("two"))
    eventually(lambda: owners() == {"one", "two"})
    place.delete("one")
    eventually(lambda: owners() == {"two"})
    place.ready("two")
    after = place.api.get(path)
    assert (after["metadata"]["uid"], after["data"]) == (before["metadata"]["uid"], before["data"])


def test_an_annotation_pauses_a_function(place: Place) -> None:
    """`stepwell.dev/paused-by` has a function's runs wait, by that name; without it they go on. A pause by the API stays its own."""
    place.apply(function("one"))
    place.ready("one")
    kubectl = lambda change: place.api.kubectl("-n", place.namespace, "annotate", "dfn/one", "--overwrite", change)  # noqa: E731
    for name in ("ada", "bob"):
        kubectl(f"stepwell.dev/paused-by={name}")
        eventually(lambda name=name: [one.paused_by for one in registry(place).pauses] == [name])
    assert [(one.function_id, one.source) for one in registry(place).pauses] == [("one", "manifest")]
    kubectl("stepwell.dev/paused-by-")
    eventually(lambda: not registry(place).pauses)
    eventually(lambda: {"Paused", "Resumed"} <= set(place.events("one")))

    async def by_api(store: PostgresStore) -> list[str]:
        await store.pause(PauseRow("one", 1, "eve"))
        return [act.verb for act in await store.audit(AuditFilter(actor="operator", object="functions/one"))]

    assert place.store(by_api) == ["resume", "pause", "resume", "pause"]
    kubectl("some.other/annotation=x")
    told = condition(place.until("one", says("Paused", "True", "UserRequest")), "Ready")
    assert (told["status"], told["reason"]) == ("True", "Paused")
    assert told["message"].startswith("paused by eve since 1970-01-01T00:00:00Z")
    assert [one.paused_by for one in registry(place).pauses] == ["eve"]


def test_a_function_with_a_bad_spec_is_paused_by_its_own_id(place: Place) -> None:
    """The annotation has the runs of the last good spec wait, by the id that these have, also while the newest spec is refused."""
    place.apply(function("one", functionId="own"))
    place.ready("one")
    place.patch("one", triggers=[{"event": "go", "if": "event.data.x >"}])
    place.until("one", says("SpecAccepted", "False"))
    place.api.kubectl("-n", place.namespace, "annotate", "dfn/one", "stepwell.dev/paused-by=ada")
    assert eventually(lambda: [(one.function_id, one.paused_by) for one in registry(place).pauses]) == [("own", "ada")]


def test_kubectl_works_as_with_any_kind(place: Place) -> None:
    """`kubectl get`, `wait`, `scale` and `explain` do what people expect of them."""
    place.apply(function("one"))
    place.api.kubectl("-n", place.namespace, "wait", "--for=condition=Ready", "dfn/one", "--timeout=60s")
    header, row = place.api.kubectl("-n", place.namespace, "get", "dfn").splitlines()
    assert header.split() == ["NAME", "READY", "REASON", "REVISION", "REPLICAS", "ACTIVE", "QUEUED", "SUSPENDED", "AGE"]
    assert row.split()[:3] == ["one", "True", "Available"]
    place.api.kubectl("-n", place.namespace, "scale", "dfn/one", "--replicas=3")
    place.until("one", lambda one: one["status"].get("readyReplicas") == 3)
    budgets = f"/apis/policy/v1/namespaces/{place.namespace}/poddisruptionbudgets"
    assert len(place.api.items(budgets)) == 1
    place.api.kubectl("-n", place.namespace, "scale", "dfn/one", "--replicas=0")
    place.until("one", says("RunnersAvailable", "True", "ScaledToZero"))
    eventually(lambda: not place.api.items(budgets))
    assert "triggers" in place.api.kubectl("explain", "dfn.spec.triggers").lower()


def test_live_fields_restart_nothing(place: Place) -> None:
    """Retries, concurrency, triggers, timeouts and suspend are applied to the well alone: the same pods, the same revision."""
    place.apply(function("one"))
    before = place.ready("one")
    [deployment] = place.runners().values()
    place.patch("one", retries=9, concurrency=[{"limit": 3}], timeouts={"finish": "1h"}, triggers=[{"event": "other"}])
    eventually(lambda: b'"retries":9' in registry(place).functions[0].spec)
    row = registry(place).functions[0]
    assert row.revision == before["status"]["currentRevision"]
    assert json.loads(row.spec)["triggers"] == [{"event": "other"}]
    place.patch("one", suspend=True)
    place.until("one", says("Suspended", "True", "UserRequest"))
    assert not registry(place).functions[0].active
    place.patch("one", suspend=None)
    place.ready("one")
    assert registry(place).functions[0].active
    [after] = place.runners().values()
    assert after["metadata"]["generation"] == deployment["metadata"]["generation"]


def test_runs_keep_their_revision(place: Place) -> None:
    """Other code is another revision: runs in flight hold the old pods, which go when the last run has ended, and not before."""
    place.apply(function("one"))
    first = place.ready("one")["status"]["currentRevision"]
    [old] = place.runners()
    place.start_run("one")
    place.apply(function("one", OTHER))
    draining = place.until("one", says("Draining", "True", "RevisionsDraining"))
    second = draining["status"]["currentRevision"]
    assert second != first
    assert {one["id"]: one["phase"] for one in draining["status"]["revisions"]} == {first: "Draining", second: "Current"}
    place.until("one", lambda one: [row.get("activeRuns") for row in one["status"]["revisions"] if row["id"] == first] == [1])
    assert old in place.runners()
    end_runs(place, "one")
    place.until("one", says("Draining", "False", "NoneDraining"))
    eventually(lambda: old not in place.runners())
    told = {"RevisionCreated", "RevisionPromoted", "RevisionDrained", "RevisionDeleted"}
    eventually(lambda: told <= set(place.events("one")))


def test_a_revision_is_promoted_when_its_pods_are_ready(place: Place, kubelet: Kubelet) -> None:
    """While the new revision's pods crash, new runs begin on the old one, and the condition says in seconds what is wrong."""
    place.apply(function("one"))
    first = place.ready("one")["status"]["currentRevision"]
    kubelet.idle = True
    try:
        place.apply(function("one", OTHER))
        eventually(lambda: len(place.runners()) == 2)
        [new] = [name for name, one in place.runners().items() if one["status"].get("readyReplicas", 0) == 0]
        ended = {"exitCode": 1, "reason": "Error", "message": "HandlerImportFailed: one: code.py:1: no module named 'shop'\nmore"}
        kubelet.broken[place.namespace, new] = waiting("CrashLoopBackOff", "back-off 10s", ended=ended)
    finally:
        kubelet.idle = False
    said = place.until("one", says("RunnersAvailable", "False", "HandlerImportFailed"))
    assert condition(said, "RunnersAvailable")["message"] == (
        "no runner of the new revision: 0/1 pods ready (HandlerImportFailed: one: code.py:1: no module named 'shop'); "
        "the revision before serves; mend the code at that line and apply it"
    )
    assert condition(said, "Progressing")["reason"] == "NewRevision"
    assert registry(place).functions[0].revision == first == said["status"]["currentRevision"]
    del kubelet.broken[place.namespace, new]
    for pod in place.api.items(f"/api/v1/namespaces/{place.namespace}/pods"):
        place.api.delete(f"/api/v1/namespaces/{place.namespace}/pods/{pod['metadata']['name']}")
    after = place.ready("one")
    assert after["status"]["currentRevision"] != first


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        (waiting("ImagePullBackOff", 'Back-off pulling image "nope:1"'), "ImagePullFailed", "nope:1"),
        (waiting("CrashLoopBackOff", "x", ended={"exitCode": 137, "reason": "OOMKilled"}), "CrashLooping", "OOMKilled"),
        (waiting("CreateContainerConfigError", 'secret "s" not found'), "ConfigError", 'secret "s" not found'),
        (
            {
                "phase": "Pending",
                "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes: no GPU"}
                ],
            },
            "Unschedulable",
            "no GPU",
        ),
    ],
)
def test_sick_pods_are_named(place: Place, kubelet: Kubelet, status: dict[str, object], reason: str, words: str) -> None:
    """What keeps pods from running stands in a condition within seconds."""
    kubelet.idle = True
    try:
        place.apply(function("one"))
        [pool] = eventually(place.runners)
        kubelet.broken[place.namespace, pool] = status
    finally:
        kubelet.idle = False
    said = place.until("one", says("RunnersAvailable", "False", reason))
    assert words in condition(said, "RunnersAvailable")["message"]
    assert condition(said, "Ready")["reason"] == "NoRunners"


def test_an_invalid_spec_leaves_the_last_good_one_running(place: Place) -> None:
    """What the schema can't see is told in a condition within a second or two, and what ran goes on."""
    place.apply(function("one"))
    first = place.ready("one")["status"]["currentRevision"]
    place.patch("one", triggers=[{"event": "go", "if": "event.data.x >"}])
    said = place.until("one", says("SpecAccepted", "False", "InvalidExpression"))
    assert "spec.triggers[0].if: column" in condition(said, "SpecAccepted")["message"]
    assert said["status"]["currentRevision"] == first
    assert len(place.runners()) == 1
    assert registry(place).functions[0].active
    place.patch("one", triggers=[{"cron": "0 0 31 2 *"}])
    place.until("one", says("SpecAccepted", "False", "CronNeverFires"))
    place.patch("one", triggers=[{"event": "go"}])
    place.ready("one")


def test_a_rollback_promotes_the_old_revision(place: Place) -> None:
    """Going back to code that was there before makes that very revision current again, at once where its pods still run."""
    place.apply(function("one"))
    first = place.ready("one")["status"]["currentRevision"]
    place.start_run("one")
    place.apply(function("one", OTHER))
    second = place.until("one", says("Draining", "True"))["status"]["currentRevision"]
    place.start_run("one")
    place.apply(function("one"))
    back = place.until("one", lambda one: one["status"].get("currentRevision") == first)
    assert {one["id"]: one["phase"] for one in back["status"]["revisions"]} == {first: "Current", second: "Draining"}
    assert registry(place).functions[0].revision == first
    end_runs(place, "one")


def test_too_many_revisions_are_refused(place: Place) -> None:
    """At the cap a new revision is refused loudly, what runs goes on, and it is taken as soon as an old one has drained."""
    place.apply(function("one", revisions={"max": 2}))
    place.ready("one")
    place.start_run("one")
    place.apply(function("one", OTHER, revisions={"max": 2}))
    second = place.until("one", says("Draining", "True"))["status"]["currentRevision"]
    place.start_run("one")
    place.apply(function("one", "async def main(ctx):\n    return 3\n", revisions={"max": 2}))
    said = place.until("one", says("Progressing", "False", "RevisionLimitReached"))
    assert condition(said, "Ready")["reason"] == "RevisionLimitReached"
    assert said["status"]["currentRevision"] == second
    assert len(place.runners()) == 2
    eventually(lambda: "RevisionLimitReached" in place.events("one"))
    end_runs(place, "one")
    third = place.ready("one")
    assert third["status"]["currentRevision"] != second


def test_replace_moves_runs_to_the_new_revision(place: Place) -> None:
    """With the strategy Replace live runs go on with the new code, and the old pods go."""
    place.apply(function("one", revisions={"strategy": "Replace"}))
    place.ready("one")
    [old] = place.runners()
    place.start_run("one")
    place.apply(function("one", OTHER, revisions={"strategy": "Replace"}))
    eventually(lambda: set(place.runners()) and old not in place.runners())
    [new] = place.runners()

    async def ask(store: PostgresStore) -> list[tuple[str, int]]:
        return [(row.pool, row.live) for row in await store.work()]

    assert place.store(ask) == [(new, 1)]
    end_runs(place, "one")


def test_functions_share_a_pool(place: Place) -> None:
    """Functions that name one pool and have the same source run in one Deployment, which stands until the last of them is gone."""
    both = "async def main(ctx):\n    return 1\n\nasync def second(ctx):\n    return 2\n"
    one = function("one", both, runner={"pool": "shared"})
    two = function("two", both, runner={"pool": "shared"}, replicas=2)
    two["spec"]["source"]["inline"]["handler"] = "second"
    place.apply(one)
    place.ready("one")
    place.apply(two)
    place.ready("two")
    [(name, deployment)] = place.runners().items()
    assert name.startswith("shared-")
    assert deployment["spec"]["replicas"] == 2
    assert {owner["name"] for owner in deployment["metadata"]["ownerReferences"]} == {"one", "two"}
    assert {row.pool for row in registry(place).functions} == {name}
    place.delete("two")
    eventually(lambda: place.runners()[name]["spec"]["replicas"] == 1)
    place.delete("one")
    eventually(lambda: not place.runners())


def test_code_in_a_config_map(place: Place) -> None:
    """A ConfigMap's key is a source; editing it makes a revision within ten seconds, and a missing one is named."""
    maps = f"/api/v1/namespaces/{place.namespace}/configmaps"
    document = function("one")
    document["spec"]["source"] = {"configMap": {"name": "shop", "key": "orders.py", "handler": "main"}}
    place.apply(document)
    said = place.until("one", says("SpecAccepted", "False", "SourceNotFound"))
    assert "'shop'" in condition(said, "SpecAccepted")["message"]
    place.api.create(maps, {"metadata": {"name": "shop"}, "data": {"orders.py": CODE}})
    first = place.ready("one")["status"]["currentRevision"]
    place.api.patch(f"{maps}/shop", {"data": {"orders.py": OTHER}})
    place.until("one", lambda one: one["status"].get("currentRevision") not in {None, first}, BAR * crowding())


def test_code_in_a_config_map_that_was_made_again(place: Place) -> None:
    """Function and ConfigMap deleted, edited and applied at once: no revision is made of the code that was."""
    maps = f"/api/v1/namespaces/{place.namespace}/configmaps"
    document = function("one", source={"configMap": {"name": "shop", "key": "orders.py", "handler": "main"}})
    place.apply(function("other"))
    for code in (CODE, OTHER):
        place.api.create(maps, {"metadata": {"name": "shop"}, "data": {"orders.py": code}})
        place.apply(document)
        uid = place.ready("one")["metadata"]["uid"]
        [pool] = [name for name in place.runners() if name.startswith("one-")]
        assert place.api.get(f"{maps}/{pool}-code")["data"] == {"code.py": code}
        told = place.api.items(f"/apis/events.k8s.io/v1/namespaces/{place.namespace}/events")
        made = [one for one in told if one["reason"] == "RevisionCreated" and one["regarding"].get("uid") == uid]
        assert len(made) == 1
        place.delete("one")
        place.api.delete(f"{maps}/shop")
        place.api.wait_gone(place.path("one"))
        eventually(lambda: [name.rpartition("-")[0] for name in place.runners()] == ["other"])


def test_a_deleted_function_leaves_nothing(place: Place) -> None:
    """Deleting a function stops its starts, cancels its runs, and takes its children; the last one takes the gateway along."""
    place.apply(function("one"))
    place.ready("one")
    run_id = place.start_run("one")
    dsn = place.dsn()
    place.delete("one")
    eventually(lambda: not place.runners())
    core = f"/api/v1/namespaces/{place.namespace}"
    for path in ("services/stepwell-gateway", "secrets/stepwell-store", "secrets/stepwell-gateway"):
        place.api.wait_gone(f"{core}/{path}", 60)
    place.api.wait_gone(f"/apis/apps/v1/namespaces/{place.namespace}/deployments/stepwell-gateway", 60)

    eventually(lambda: left(dsn, run_id) == ("cancelled", []))


def test_a_function_deleted_while_its_store_is_away_is_taken_out_later(place: Place, postgres: Postgres) -> None:
    """Its runs are cancelled and nothing starts any more once the store is back, though its Secret went with the function."""
    place.apply(function("one"))
    place.ready("one")
    run_id = place.start_run("one")
    dsn = place.dsn()
    postgres.kill()
    try:
        place.delete("one")
        place.api.wait_gone(f"/api/v1/namespaces/{place.namespace}/secrets/stepwell-store", 60)
    finally:
        postgres.start()
    eventually(lambda: left(dsn, run_id) == ("cancelled", []))


def test_a_function_that_drains_waits_for_its_runs(place: Place) -> None:
    """With deletionPolicy Drain the object stays until its runs have ended, starts nothing new, and says why it is still there."""
    place.apply(function("one", deletionPolicy="Drain"))
    place.ready("one")
    assert place.read("one")["metadata"]["finalizers"] == ["stepwell.dev/drain"]
    place.start_run("one")
    place.delete("one")
    eventually(lambda: "DeletionBlocked" in place.events("one"))
    assert not any(row.active for row in registry(place).functions)
    assert place.read("one")["metadata"]["deletionTimestamp"]
    end_runs(place, "one")
    place.api.wait_gone(place.path("one"), 60)


def test_a_store_of_ones_own(place: Place, postgres_dsn: str) -> None:
    """A DurableStore's Secret is used instead of a provisioned well; a missing Secret is named, and mended when it comes."""
    store = {
        "apiVersion": "stepwell.dev/v1alpha1",
        "kind": "DurableStore",
        "metadata": {"name": "default"},
        "spec": {"secretRef": {"name": "mine", "key": "url"}, "schema": place.namespace.replace("-", "_")},
    }
    place.apply(store)
    place.apply(function("one"))
    said = place.until("one", says("StoreReady", "False", "SecretNotFound"))
    assert "'mine'" in condition(said, "StoreReady")["message"]
    assert condition(said, "Ready")["reason"] == "StoreUnavailable"
    place.api.kubectl("-n", place.namespace, "create", "secret", "generic", "mine", f"--from-literal=url={postgres_dsn}")
    place.ready("one")
    assert f"schema={place.namespace.replace('-', '_')}" in place.dsn()


@pytest.mark.parametrize("keeps_role", [False, True], ids=["role-and-schema", "schema"])
def test_a_well_whose_role_or_schema_is_lost_is_made_again(place: Place, postgres_dsn: str, *, keeps_role: bool) -> None:
    """On a Postgres that lost it a well is made again, with the password that its Secret has, so that no pod is replaced."""
    place.apply(function("one"))
    place.ready("one")
    dsn, [before] = place.dsn(), place.runners().values()
    name = schema_of(place.namespace)
    log_out = f"select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = '{name}'"
    role = [f"alter role {name} nologin", log_out, f"drop owned by {name} cascade", f"drop role {name}"]

    async def registered() -> bool:
        connection = await asyncpg.connect(postgres_dsn)
        try:
            return bool(await connection.fetchval(f"select exists (select from {name}.functions where function_id = 'one')"))
        except asyncpg.PostgresError:
            return False
        finally:
            await connection.close()

    asyncio.run(execute(postgres_dsn, *([f"drop schema {name} cascade"] if keeps_role else role)))
    eventually(lambda: asyncio.run(registered()))  # the status may have said so for too short a time to be seen
    place.ready("one")
    assert place.dsn() == dsn
    assert [row.function_id for row in registry(place).functions] == ["one"]
    [after] = place.runners().values()
    assert after["metadata"]["generation"] == before["metadata"]["generation"]


def test_a_function_that_the_store_did_not_take_is_tried_again(place: Place, postgres_dsn: str) -> None:
    """Where a well that works refuses one function, its status says that it is behind, and it is registered once it can be."""
    place.apply(function("one"))
    place.ready("one")
    name = schema_of(place.namespace)

    refusing = f"create function {name}.refuse() returns trigger language plpgsql as $$ begin raise exception 'not now'; end $$"
    row = f"for each row when (new.function_id = 'two') execute function {name}.refuse()"
    asyncio.run(execute(postgres_dsn, f"{refusing}; create trigger refuse before insert on {name}.functions {row}"))
    place.apply(function("two"))
    place.until("two", says("SchedulesReady", "False", "Behind"))
    place.until("two", lambda two: two["status"].get("readyReplicas") == 1)  # nothing more is heard of it
    asyncio.run(execute(postgres_dsn, f"drop function {name}.refuse cascade"))
    place.ready("two")
    place.until("two", says("SchedulesReady", "True", "Registered"))
    assert {row.function_id for row in registry(place).functions} == {"one", "two"}


def test_a_namespace_goes_at_once(place: Place) -> None:
    """Deleting a namespace with functions in it hangs on nothing of ours."""
    place.apply(function("one"))
    place.ready("one")
    place.api.delete(f"/api/v1/namespaces/{place.namespace}")
    place.api.wait_gone(f"/api/v1/namespaces/{place.namespace}", 60)
