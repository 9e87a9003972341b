"""Which fields of a spec make a revision and which are applied live: every field, by the models that the schema is made from."""

import copy
from dataclasses import replace
from typing import Any

import pytest
from crd_schema import parts
from unit.operator.observations import seen_of, spec_of

from stepwell_operator.crd.definitions import function_definition
from stepwell_operator.target import Code, Fault, PoolSpec, Target, config_map_of, read_pool, target_of

SCHEMA = function_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
BASE = spec_of(1, replicas=1)

REVISION: dict[str, Any] = {
    "source.inline.code": {"source": {"inline": {"code": "async def main(ctx): ...", "handler": "main"}}},
    "source.inline.handler": {"source": {"inline": {**BASE["source"]["inline"], "handler": "other"}}},
    "source.image.image": {"source": {"image": {"image": "registry/shop:2", "handler": "shop:main"}}},
    "source.image.handler": {"source": {"image": {"image": "registry/shop:1", "handler": "shop:other"}}},
    "source.configMap.name": {"source": {"configMap": {"name": "other", "key": "a.py", "handler": "main"}}},
    "source.configMap.key": {"source": {"configMap": {"name": "maps", "key": "b.py", "handler": "main"}}},
    "source.configMap.handler": {"source": {"configMap": {"name": "maps", "key": "a.py", "handler": "other"}}},
    "onFailure": {"onFailure": "tidy"},
    "runner.pool": {"runner": {"pool": "shared"}},
    "runner.resources": {"runner": {"resources": {"requests": {"cpu": "1"}}}},
    "runner.env": {"runner": {"env": [{"name": "A", "value": "1"}]}},
    "runner.envFrom": {"runner": {"envFrom": [{"secretRef": {"name": "s"}}]}},
    "runner.nodeSelector": {"runner": {"nodeSelector": {"a": "b"}}},
    "runner.tolerations": {"runner": {"tolerations": [{"operator": "Exists"}]}},
    "runner.topologySpreadConstraints": {
        "runner": {"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]}
    },
    "runner.labels": {"runner": {"labels": {"team": "a"}}},
    "runner.annotations": {"runner": {"annotations": {"note": "a"}}},
    "runner.imagePullSecrets": {"runner": {"imagePullSecrets": [{"name": "r"}]}},
    "runner.serviceAccountName": {"runner": {"serviceAccountName": "shop"}},
    "runner.runtimeClassName": {"runner": {"runtimeClassName": "gvisor"}},
    "runner.terminationGracePeriodSeconds": {"runner": {"terminationGracePeriodSeconds": 30}},
    "runner.priorityClassName": {"runner": {"priorityClassName": "first"}},
}
"""By field: an edit that makes a revision."""

LIVE: dict[str, Any] = {
    "triggers": {"triggers": [{"cron": "@daily"}]},
    "retries": {"retries": 9},
    "backoff": {"backoff": {"strategy": "fixed", "base": "1s"}},
    "concurrency": {"concurrency": [{"limit": 3}]},
    "idempotency": {"idempotency": "event.data.id"},
    "cancelOn": {"cancelOn": [{"event": "stop"}]},
    "timeouts": {"timeouts": {"start": "5m"}},
    "checkpointing": {"checkpointing": {"bufferedSteps": 5}},
    "suspend": {"suspend": True},
    "replicas": {"replicas": 3},
    "revisions": {"revisions": {"strategy": "Replace", "max": 3}},
}
"""By field: an edit that is applied live. Every one shows in the target."""

FIXED = {"functionId", "storeRef"}
"""What never changes: the schema refuses it."""
POLICY = {"deletionPolicy": {"deletionPolicy": "Drain"}}
MAPS = {("shop", "maps"): {"a.py": "A = 1\n", "b.py": "B = 1\n"}, ("shop", "other"): {"a.py": "A = 2\n"}}
FIRST = {
    "image": {"source": {"image": {"image": "registry/shop:1", "handler": "shop:main"}}},
    "configMap": {"source": {"configMap": {"name": "maps", "key": "a.py", "handler": "main"}}},
}


def made(change: dict[str, Any]) -> Target:
    found = target_of(seen_of({**copy.deepcopy(BASE), **change}), MAPS)
    assert isinstance(found, Target), found
    return found


def test_every_field_is_classified() -> None:
    """Each field of the schema stands in exactly one of the classes, so that a new one can't be forgotten."""
    top = {path for path, _ in parts(SCHEMA) if path and "." not in path and not path.endswith(("[]", "{}"))}
    runner = {path for path, _ in parts(SCHEMA["properties"]["runner"], "runner") if path.count(".") == 1 and "[" not in path}
    runner = {path for path in runner if not path.endswith("{}")}
    source = {path for path, _ in parts(SCHEMA["properties"]["source"], "source") if path.count(".") == 2}
    classes = [set(REVISION), set(LIVE), FIXED, set(POLICY)]
    known = set().union(*classes)
    assert sum(map(len, classes)) == len(known)
    assert known == (top - {"runner", "source"}) | runner | source


@pytest.mark.parametrize("field", sorted(REVISION))
def test_a_field_that_makes_a_revision(field: str) -> None:
    """Another value is another revision, and the old value makes the old one again."""
    first = made(FIRST.get(field.split(".")[1] if "." in field else "", {}))
    after = made(REVISION[field])
    assert after.revision != first.revision
    assert made(REVISION[field]).revision == after.revision


@pytest.mark.parametrize("field", sorted(LIVE))
def test_a_field_that_is_applied_live(field: str) -> None:
    """Another value shows in what is registered or planned, and in neither revision nor Deployment."""
    first, after = made({}), made(LIVE[field])
    assert (after.revision, after.pool_id, after.code_row()) == (first.revision, first.pool_id, first.code_row())
    assert after != first


def test_a_deletion_policy_is_kept_with_the_revision() -> None:
    """The policy makes no revision; it is stored beside the code, so that it is known when the object is gone."""
    first, after = made({}), made(POLICY["deletionPolicy"])
    assert after.revision == first.revision
    assert after.code_row() != first.code_row()


@pytest.mark.parametrize(
    "change", [{}, FIRST["image"], FIRST["configMap"], REVISION["runner.env"]], ids=["inline", "image", "map", "env"]
)
def test_a_stored_revision_is_enough_to_make_its_deployment_again(change: dict[str, Any]) -> None:
    """The pool read back from a revision's row is the pool that the row was made from, name and all."""
    target = made(change)
    pool = read_pool(target.code_row())
    assert pool is not None
    assert pool == target.pool
    assert pool.id == target.pool_id
    assert read_pool(b'{"handler":"main"}') is None


def test_the_same_text_inline_or_in_a_map_is_another_pool() -> None:
    """Where code comes from is a part of its pool's identity: a map's edit must not change an inline function."""
    text = "A = 1\n"
    pools = [PoolSpec("one", code, {}).id for code in (Code("inline", text), Code("configMap", text, config_map="maps"))]
    assert len(set(pools)) == 2


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({"triggers": [{"event": "go", "if": "event.data.x >"}]}, "InvalidExpression", "spec.triggers[0].if"),
        ({"concurrency": [{"limit": 1, "key": "evnt.x"}]}, "InvalidExpression", "spec.concurrency[0].key"),
        ({"idempotency": "evnt.x"}, "InvalidExpression", "spec.idempotency"),
        ({"triggers": [{"cron": "61 * * * *"}]}, "InvalidCron", "spec.triggers[0].cron"),
        ({"triggers": [{"cron": "0 0 31 2 *"}]}, "CronNeverFires", "spec.triggers[0].cron"),
        ({"triggers": [{"cron": "TZ=Mars/Base 0 12 * * *"}]}, "UnknownTimezone", "Mars/Base"),
        ({"source": {"configMap": {"name": "gone", "key": "a.py", "handler": "f"}}}, "SourceNotFound", "'gone'"),
        ({"source": {"configMap": {"name": "maps", "key": "c.py", "handler": "f"}}}, "SourceNotFound", "it has: a.py, b.py"),
        ({"replicas": "many"}, "InvalidSpec", "spec.replicas"),
        ({"source": 7}, "InvalidSpec", "spec.source"),
        ({"nonsense": 1}, "InvalidSpec", "nonsense"),
    ],
)
def test_what_isnt_accepted_is_told(change: dict[str, Any], reason: str, words: str) -> None:
    """A fault has a stable reason, and a message with the path."""
    found = target_of(seen_of({**BASE, **change}), MAPS)
    assert isinstance(found, Fault), found
    assert found.reason == reason
    assert words in found.message
    assert len(found.message) <= 1000


@pytest.mark.parametrize("spec", [b"null", b"7", b"[]", b'"x"', b"{}", b'{"source":{"configMap":7}}', b'{"source":[]}'])
def test_what_is_no_spec_at_all_is_a_fault(spec: bytes) -> None:
    """Whatever stands in the place of a spec is told as a fault; nothing is raised."""
    seen = replace(seen_of(), spec=spec)
    assert isinstance(target_of(seen, {}), Fault)
    assert config_map_of(seen) is None


def test_the_annotation_suspends() -> None:
    """`stepwell.dev/suspend` suspends as `spec.suspend` does."""
    found = target_of(seen_of(BASE, annotations={"stepwell.dev/suspend": "true"}), {})
    assert isinstance(found, Target)
    assert found.suspended
