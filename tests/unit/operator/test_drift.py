"""Whether a child still says what was stated."""

import copy
from typing import Any

import hypothesis.strategies as st
import orjson
import pytest
from hypothesis import given
from unit.operator.observations import child_of, target_at

from stepwell_operator.drift import is_as_stated, undoing
from stepwell_operator.names import APPLIED
from stepwell_operator.resources.gateway import GatewaySpec, gateway_objects
from stepwell_operator.resources.pool import Around, pool_objects
from stepwell_operator.world import Child, read_child

OWNERS = [{"apiVersion": "stepwell.dev/v1alpha1", "kind": "DurableFunction", "name": "one", "uid": "uid-1"}]
AROUND = Around("shop", "stepwell-store", "d1", "runner:1", "IfNotPresent", network_policy=False)
TARGET = target_at(
    1, runner={"resources": {"requests": {"cpu": "1000m"}, "limits": {"memory": "1Gi"}}, "nodeSelector": {"a": "b"}}
)
STATED = next(one for one in pool_objects(TARGET.pool, AROUND, OWNERS, 2) if one["kind"] == "Deployment")


def seen(document: dict[str, Any]) -> Child:
    """The document as the server would give it back."""
    served = copy.deepcopy(document)
    served["metadata"] |= {"uid": "u", "resourceVersion": "1", "generation": 1}
    return read_child(served)


def served(**defaults: Any) -> dict[str, Any]:
    document = copy.deepcopy(STATED)
    document["spec"] |= defaults
    return document


def container(document: dict[str, Any]) -> dict[str, Any]:
    return document["spec"]["template"]["spec"]["containers"][0]


def test_what_was_stated_is_as_stated() -> None:
    """A document that comes back with the server's defaults added is as stated."""
    document = served(progressDeadlineSeconds=600, paused=None)
    container(document) | {"terminationMessagePath": "/dev/termination-log"}
    document["spec"]["template"]["spec"]["dnsPolicy"] = "ClusterFirst"
    assert is_as_stated(seen(STATED), STATED)
    assert is_as_stated(seen(document), STATED)


@pytest.mark.parametrize(
    ("there", "same"), [("1", True), (1, True), ("1e3", False), ("1001m", False), ("1k", False), (None, False), ({}, False)]
)
def test_quantities_are_compared_as_numbers(there: object, same: bool) -> None:
    """The server may write a quantity otherwise; another quantity, or what is none, is a difference."""
    document = served()
    container(document)["resources"]["requests"]["cpu"] = there
    assert is_as_stated(seen(document), STATED) is same


UNITS = {
    "": 1,
    "k": 1000,
    "M": 1000**2,
    "G": 1000**3,
    "Ki": 1024,
    "Mi": 1024**2,
    "Gi": 1024**3,
    "P": 1000**5,
    "E": 1000**6,
    "Ei": 1024**6,
}


@given(
    one=st.tuples(st.integers(0, 9999), st.sampled_from(list(UNITS))),
    other=st.tuples(st.integers(0, 9999), st.sampled_from(list(UNITS))),
)
def test_equal_quantities_are_equal_however_written(one: tuple[int, str], other: tuple[int, str]) -> None:
    """Two quantities are the same exactly when they stand for the same number."""
    stated, there = copy.deepcopy(STATED), copy.deepcopy(STATED)
    container(stated)["resources"]["limits"]["memory"] = f"{one[0]}{one[1]}"
    container(there)["resources"]["limits"]["memory"] = f"{other[0]}{other[1]}"
    assert is_as_stated(seen(there), stated) is (one[0] * UNITS[one[1]] == other[0] * UNITS[other[1]])


def test_what_was_added_to_a_list_is_a_difference() -> None:
    """A container, a volume or a variable that somebody added, took out or moved is noticed."""
    for spoil in (
        lambda one: one["spec"]["template"]["spec"]["containers"].append({"name": "evil"}),
        lambda one: one["spec"]["template"]["spec"]["volumes"].append({"name": "evil", "hostPath": {"path": "/"}}),
        lambda one: container(one)["env"].append({"name": "EVIL", "value": "1"}),
        lambda one: container(one)["env"].pop(),
        lambda one: container(one)["env"].reverse(),
        lambda one: container(one).pop("env"),
    ):
        document = served()
        spoil(document)
        assert not is_as_stated(seen(document), STATED)


@pytest.mark.parametrize("where", ["limits", "requests"])
def test_a_resource_that_was_added_is_a_difference(where: str) -> None:
    """Limits, requests and node selectors are the user's whole word: one more is a difference."""
    document = served()
    container(document)["resources"][where]["example.com/gpu"] = "1"
    assert not is_as_stated(seen(document), STATED)
    document = served()
    document["spec"]["template"]["spec"]["nodeSelector"]["c"] = "d"
    assert not is_as_stated(seen(document), STATED)


def test_labels_owners_and_the_seal_count() -> None:
    """A label taken away, an owner too many or too few, or another seal is a difference; a label more is not."""
    document = served()
    document["metadata"]["labels"]["mine"] = "1"
    assert is_as_stated(seen(document), STATED)
    for part, value in (
        ("labels", {}),
        ("ownerReferences", []),
        ("ownerReferences", [*OWNERS, {"uid": "x"}]),
        ("annotations", {APPLIED: "x"}),
    ):
        document = served()
        document["metadata"][part] = value
        assert not is_as_stated(seen(document), STATED)


def test_owners_come_and_go_without_the_seal() -> None:
    """Of a child that is as stated but for its owners just that is said; no other difference is passed over."""
    more = [*OWNERS, {"uid": "x"}]
    stated = next(one for one in pool_objects(TARGET.pool, AROUND, more, 2) if one["kind"] == "Deployment")
    assert not is_as_stated(seen(STATED), stated)
    assert is_as_stated(seen(STATED), stated, any_owners=True)
    assert not is_as_stated(seen(served(replicas=9)), stated, any_owners=True)


def leaves(value: Any, keys: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [path for name, item in value.items() for path in leaves(item, (*keys, name))]
    if isinstance(value, list):
        return [path for place, item in enumerate(value) for path in leaves(item, (*keys, place))]
    return [keys]


@given(
    keys=st.sampled_from([one for one in leaves(STATED["spec"]) if one != ("replicas",)]),
    value=st.sampled_from([None, 7, "x", [], {}, ["x"], {"x": 1}, "true"]),
)
def test_every_value_that_was_stated_is_looked_at(keys: tuple[Any, ...], value: Any) -> None:
    """Whatever stands in the place of any value that was stated is a difference."""
    document = served()
    inner: Any = document["spec"]
    for key in keys[:-1]:
        inner = inner[key]
    before, inner[keys[-1]] = inner[keys[-1]], value
    same = orjson.dumps(before) == orjson.dumps(value)
    assert is_as_stated(seen(document), STATED) is same


def test_a_child_without_a_spec_is_as_stated_by_its_seal() -> None:
    """Of a ConfigMap or ServiceAccount the seal, the labels and the owners are compared."""
    made = next(one for one in pool_objects(TARGET.pool, AROUND, OWNERS, 1) if one["kind"] == "ConfigMap")
    assert is_as_stated(seen(made), made)
    assert not is_as_stated(child_of("x"), made)


BESIDE = [
    next(one for one in pool_objects(TARGET.pool, AROUND, OWNERS, 2) if one["kind"] == "ConfigMap"),
    next(
        one
        for one in gateway_objects(GatewaySpec("shop", "default", "d", "i", "Always", 1, network_policy=False), OWNERS)
        if one["kind"] == "ServiceAccount"
    ),
]


@pytest.mark.parametrize(
    ("document", "edit", "same"),
    [
        (BESIDE[0], {}, True),
        (BESIDE[0], {"data": {"code.py": "evil()"}}, False),
        (BESIDE[0], {"data": {**BESIDE[0]["data"], "more.py": ""}}, False),
        (BESIDE[0], {"binaryData": {"more.py": "AA=="}}, False),
        (BESIDE[0], {"immutable": None}, False),
        (BESIDE[1], {}, True),
        (BESIDE[1], {"automountServiceAccountToken": True}, False),
        (BESIDE[1], {"automountServiceAccountToken": None}, False),
        (BESIDE[1], {"imagePullSecrets": [{"name": "registry"}]}, True),
    ],
)
def test_what_is_stated_beside_a_spec_is_compared_too(document: dict[str, Any], edit: dict[str, Any], same: bool) -> None:
    """Another token, other code: what a spec has no part in. What others add to a ServiceAccount for its pods is theirs."""
    assert is_as_stated(seen({**document, **edit}), document) is same


def test_a_selector_with_one_label_more_is_undone() -> None:
    """A Service that selects by one label more reaches no pod: a difference, and the patch takes that label out, and no default."""
    objects = gateway_objects(GatewaySpec("shop", "default", "d", "i", "Always", 1, network_policy=False), OWNERS)
    document = next(one for one in objects if one["kind"] == "Service")
    there = copy.deepcopy(document)
    there["spec"]["clusterIP"] = "10.0.0.1"
    assert is_as_stated(seen(there), document)
    there["spec"]["selector"]["app"] = "other"
    assert not is_as_stated(seen(there), document)
    patch = undoing(there["spec"], document["spec"])
    assert patch == {**document["spec"], "selector": {**document["spec"]["selector"], "app": None}}
