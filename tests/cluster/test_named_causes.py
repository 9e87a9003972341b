"""Failures that only a cluster has: from `kubectl get dfn` to the named cause and what to do in two commands.

The others are in tests/scenarios/test_twenty_failures.py.
"""

import re
from collections.abc import Callable
from typing import Any

import pytest
from cluster.harness.api import Object
from cluster.operation import Kubelet, Place, eventually, function, says, waiting

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]
UNSCHEDULABLE = {
    "phase": "Pending",
    "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes: no GPU"}],
}


def find(place: Place) -> tuple[str, str]:
    """What somebody with `kubectl` alone reads: the function that isn't well in the list, then its description on one line."""
    listed = place.api.kubectl("-n", place.namespace, "get", "dfn")
    (name,) = [line.split()[0] for line in listed.splitlines()[1:] if "Available" not in line]
    described = place.api.kubectl("-n", place.namespace, "describe", "dfn", name)
    return listed, re.sub(r"\s+", " ", described)


def sick(place: Place, kubelet: Kubelet, status: Object) -> None:
    """A function whose pods have this status."""
    kubelet.idle = True
    try:
        place.apply(function("pack"))
        [pool] = eventually(place.runners)
        kubelet.broken[place.namespace, pool] = status
    finally:
        kubelet.idle = False


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        (
            waiting("ImagePullBackOff", 'Back-off pulling image "nope:1"'),
            "ImagePullFailed",
            'no runner: 0/1 pods ready (ImagePullBackOff: Back-off pulling image "nope:1"); runs wait; correct the image\'s name',
        ),
        (UNSCHEDULABLE, "Unschedulable", "no runner: 0/1 pods ready (Unschedulable: 0/3 nodes: no GPU); runs wait; make room"),
        (
            waiting("CrashLoopBackOff", "x", ended={"exitCode": 137, "reason": "OOMKilled"}),
            "CrashLooping",
            "(OOMKilled: the runner ended with exit code 137 (OOMKilled)); runs wait; raise spec.runner.resources.limits.memory",
        ),
        (
            waiting("CrashLoopBackOff", "x", ended={"exitCode": 1, "reason": "Error", "message": "HandlerImportFailed: pack: code.py:3: no module named 'shop'"}),
            "HandlerImportFailed",
            "pack: code.py:3: no module named 'shop'); runs wait; mend the code at that line",
        ),
        (
            waiting("CreateContainerConfigError", 'secret "s" not found'),
            "ConfigError",
            '(CreateContainerConfigError: secret "s" not found); runs wait; make what the pod names',
        ),
    ],
)  # fmt: skip
def test_a_pods_reason_is_named(place: Place, kubelet: Kubelet, status: Any, reason: str, words: str) -> None:
    """What keeps the pods of a function stands in its description: the count, the kubelet's own word, and what to do."""
    sick(place, kubelet, status)
    place.until("pack", says("RunnersAvailable", "False", reason))
    listed, described = find(place)
    assert "NoRunners" in listed
    assert words in described


@pytest.mark.parametrize(
    ("spec", "ready", "words"),
    [
        ({"suspend": True}, says("Suspended", "True"), "spec.suspend stops new runs; runs in flight go on"),
        ({"storeRef": {"name": "mine"}}, says("StoreReady", "False", "StoreNotFound"), "there is no DurableStore 'mine' in this namespace"),
        (
            {"triggers": [{"event": "go", "if": "evnt.data.total > 1"}]},
            says("SpecAccepted", "False", "InvalidExpression"),
            "there is no 'evnt'; the names that exist here: `event`",
        ),
        (
            {"source": {"configMap": {"name": "nowhere", "key": "code.py", "handler": "main"}}},
            says("SpecAccepted", "False", "SourceNotFound"),
            "nowhere",
        ),
    ],
)  # fmt: skip
def test_what_was_asked_for_is_named(place: Place, spec: dict[str, Any], ready: Callable[[Object], bool], words: str) -> None:
    """What in a function's own spec keeps it from starting runs stands in its description, with path and column."""
    document = function("pack")
    document["spec"] |= spec
    place.apply(document)
    place.until("pack", ready)
    _listed, described = find(place)
    assert words in described
