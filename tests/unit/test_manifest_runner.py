"""How a function stands in the cluster, as its manifest says it: pods, revisions, deletion, its id."""

import contextlib
import copy
from typing import Any

import pytest
from crd_cases import document
from crd_documents import FULL
from hypothesis import given
from hypothesis import strategies as st

from stepwell.errors import SpecError
from stepwell.spec.function import validate
from stepwell.spec.manifest import Manifest, parse_manifest, parse_manifests, to_manifest
from stepwell.spec.quantity import amount
from stepwell.spec.runner import RunnerOptions


def read(**spec: Any) -> Manifest:
    return parse_manifest(document(spec))


def pods(**runner: Any) -> dict[str, Any]:
    return read(runner=runner).runner.pod_fields()


def fault(**spec: Any) -> tuple[str, str]:
    with pytest.raises(SpecError) as caught:
        read(**spec)
    return caught.value.path.removeprefix("manifest: spec").removeprefix("."), caught.value.message


def test_everything_that_a_manifest_may_say_is_read() -> None:
    """A manifest that names every field arrives whole."""
    manifest = read(**FULL)
    assert (manifest.function_id, manifest.spec.id, manifest.name) == ("Shop.f", "Shop.f", "f")
    assert (manifest.pool, manifest.store, manifest.replicas, manifest.suspend) == ("shop", "own", 3, True)
    assert (manifest.revisions.strategy, manifest.revisions.max, manifest.deletion_policy) == ("Replace", 5, "Drain")
    fields = manifest.runner.pod_fields()
    expected = {name: value for name, value in copy.deepcopy(FULL["runner"]).items() if name != "pool"}
    expected["resources"] = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1073741824"}}
    expected["tolerations"] = [{"key": "a", "value": "b", "effect": "NoExecute", "tolerationSeconds": 60}]
    expected["env"][2]["valueFrom"]["configMapKeyRef"].pop("optional", None)
    expected["envFrom"][1]["configMapRef"].pop("optional", None)
    assert fields == expected


def test_the_smallest_manifest_has_defaults() -> None:
    """Without a word about pods there are no pod fields, one runner, pinned revisions."""
    manifest = read()
    assert manifest.runner == RunnerOptions()
    assert manifest.runner.pod_fields() == {}
    assert (manifest.revisions.strategy, manifest.revisions.max, manifest.deletion_policy) == ("Pinned", 10, "Cancel")
    assert manifest.function_id == manifest.name


def test_the_pool_is_no_pod_field() -> None:
    """Moving a function to another pool doesn't change what its pods are like."""
    assert pods(pool="a") == pods(pool="b") == {}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"resources": {"requests": {"cpu": 1}}}, {"resources": {"requests": {"cpu": "1"}}}),
        ({"labels": {}}, {}),
        ({"env": []}, {}),
        ({"resources": {}}, {}),
        ({"tolerations": [{"key": "a", "operator": "Equal"}]}, {"tolerations": [{"key": "a"}]}),
        ({"labels": {"a": "1", "b": "2"}}, {"labels": {"b": "2", "a": "1"}}),
    ],
)
def test_equal_pods_have_equal_fields(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Spelling a default out, or a number as text, makes no new revision."""
    assert pods(**one) == pods(**other)


@pytest.mark.parametrize(
    ("runner", "path", "says"),
    [
        ({"securityContext": {}}, "runner.securityContext", "there is no such option"),
        ({"node_selector": {}}, "runner.node_selector", "did you mean `nodeSelector`?"),
        ({"env": [{"name": "STEPWELL_STORE", "value": "x"}]}, "runner.env[0].name", "the operator's own"),
        ({"env": [{"name": "A-B", "value": "x"}]}, "runner.env[0].name", "letters, digits and `_`"),
        ({"env": [{"name": "A", "value": 1}]}, "runner.env[0].value", "must be text, not 1"),
        ({"env": [{"name": "A"}]}, "runner.env[0]", "exactly one of `value` or `valueFrom`"),
        ({"env": [{"name": "A", "value": ""}] * 2}, "runner.env[1]", "stands in this list twice"),
        (
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"nme": "s", "name": "s", "key": "k"}}}]},
            "runner.env[0].valueFrom.secretKeyRef.nme",
            "did you mean `name`?",
        ),
        ({"env": [{"name": f"A{n}", "value": ""} for n in range(101)]}, "runner.env", "at most 100"),
        ({"envFrom": [{"prefix": "STEPWELL_", "secretRef": {"name": "s"}}]}, "runner.envFrom[0].prefix", "the operator's own"),
        ({"labels": {"stepwell.dev/pool": "a"}}, "runner.labels[stepwell.dev/pool]", "the operator's own"),
        ({"labels": {"app.kubernetes.io/name": "a"}}, "runner.labels[app.kubernetes.io/name]", "the operator's own"),
        ({"annotations": {"x.k8s.io/y": "a"}}, "runner.annotations[x.k8s.io/y]", "the operator's own"),
        ({"labels": {"a": "x y"}}, "runner.labels[a]", "a label's value"),
        ({"resources": {"requests": {"cpu": 0.5}}}, "runner.resources.requests", "written as text: '0.5'"),
        (
            {"resources": {"requests": {"cpu": "1.5"}, "limits": {"cpu": 1}}},
            "runner.resources.requests.cpu",
            "more than the limit",
        ),
        (
            {"resources": {"requests": {"nvidia.com/gpu": 1}}},
            "runner.resources.requests.nvidia.com/gpu",
            "must be the same in `limits`",
        ),
        ({"resources": {"limits": {"cores": 1}}}, "runner.resources.limits[cores]", "must be cpu, memory"),
        ({"imagePullSecrets": [{"name": "a"}, {"name": "a"}]}, "runner.imagePullSecrets[1]", "twice"),
        ({"terminationGracePeriodSeconds": 0}, "runner.terminationGracePeriodSeconds", "at least 1"),
        ({"priorityClassName": "system-cluster-critical"}, "runner.priorityClassName", "not for functions"),
        (
            {"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]},
            "runner.tolerations[0].value",
            "may not be specified",
        ),
    ],
)
def test_what_is_wrong_with_pods_is_told_with_its_place(runner: dict[str, Any], path: str, says: str) -> None:
    """A raw pod field, a reserved name, a slip: each is refused where it stands, with what to write."""
    where, message = fault(runner=runner)
    assert where == path
    assert says in message


@pytest.mark.parametrize(
    ("spec", "path", "says"),
    [
        ({"functionId": "a b"}, "functionId", "an id of letters"),
        ({"functionId": "f" * 129}, "functionId", "at most 128"),
        ({"functionId": "f" * 121, "onFailure": "g"}, "functionId", "at most 120"),
        ({"revisions": {"max": 0}}, "revisions.max", "at least 1"),
        ({"revisions": {"strategy": "pinned"}}, "revisions.strategy", "must be one of 'Pinned' or 'Replace'"),
        ({"revisions": {"maximum": 1}}, "revisions.maximum", "did you mean `max`?"),
        ({"deletionPolicy": "Keep"}, "deletionPolicy", "must be one of 'Cancel' or 'Drain'"),
        ({"storeRef": {"name": "a.b"}}, "storeRef.name", "a store's name"),
        ({"onFailure": "clean up"}, "onFailure", "the name of a function beside the handler"),
        ({"concurrency": 10}, "concurrency", "must be a list"),
        ({"timeouts": {"start": 30}}, "timeouts.start", "with its unit: '30s'"),
        ({"backoff": {"table": ["1s", 2]}}, "backoff.table[1]", "with its unit: '2s'"),
        ({"cancelOn": [{"event": "a", "timeout": " 1d"}]}, "cancelOn[0].timeout", "remove the blanks"),
        ({"backoff": {"strategy": "table"}}, "backoff.table", "must be set"),
        ({"checkpointing": {"buffered_steps": 2}}, "checkpointing.buffered_steps", "did you mean `bufferedSteps`?"),
    ],
)
def test_what_the_cluster_would_not_take_is_refused_here(spec: dict[str, Any], path: str, says: str) -> None:
    """A manifest is read as the API server reads it, so that what passes here passes there."""
    where, message = fault(**spec)
    assert where == path
    assert says in message


def test_a_name_leaves_room_for_deployments() -> None:
    """An object's name has 52 characters at most; a longer id is given as functionId."""
    manifest = parse_manifest(document({"functionId": "f" * 128}, name="n" * 52))
    assert manifest.function_id == "f" * 128
    with pytest.raises(SpecError, match="at most 52"):
        parse_manifest(document({}, name="n" * 53))
    with pytest.raises(SpecError, match="an id such as"):
        to_manifest(validate({"id": "n" * 53}), "m:f")
    assert parse_manifests(to_manifest(validate({"id": "n" * 52}), "m:f"))[0].name == "n" * 52


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("500m", "0.5"),
        ("1", "1"),
        ("1.5", "1.5"),
        ("1k", "1000"),
        ("1Ki", "1024"),
        ("0.5Gi", "536870912"),
        ("1e3", "1000"),
        ("2E", "2e18"),
    ],
)
def test_amounts_are_read_exactly(text: str, number: str) -> None:
    """An amount stands for the number that Kubernetes takes it for."""
    assert amount(text) == amount(number)


@given(
    st.dictionaries(
        st.sampled_from([1, None, "labels", "env", "resources", "x"]),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=3),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.integers() | st.text(max_size=3), inner, max_size=2),
        ),
    )
)
def test_nonsense_about_pods_is_always_a_spec_error(runner: dict[Any, Any]) -> None:
    """Whatever stands under `runner`, and under whatever keys, is read or refused, never another exception."""
    with contextlib.suppress(SpecError):
        read(runner=runner)


@pytest.mark.parametrize("key", [1, None, True, 1.5])
def test_a_name_that_is_no_text_is_refused(key: object) -> None:
    """YAML has names that are numbers, true or nothing; no option has."""
    for spec in ({key: 1}, {"runner": {key: 1}}, {"backoff": {key: 1}}, {"runner": {"labels": {key: "a"}}}):
        with pytest.raises(SpecError):
            parse_manifest(document(spec))
