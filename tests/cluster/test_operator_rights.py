"""The operator's rights are those that it uses: each verb of its list is used in a life that has everything in it, and no other is."""

import pytest
from cluster.harness.api import Api
from cluster.harness.audit import Asked
from cluster.harness.control_plane import ControlPlane
from cluster.harness.faults import Seen, watches
from cluster.harness.proxy import FaultProxy
from cluster.operation import CODE, Installed, Kubelet, Place, eventually, function, says

from stepwell_operator import rights
from stepwell_operator.rights import Right

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]
OTHER = "async def main(ctx):\n    return 2\n"
REVIEWS = "selfsubjectaccessreviews"
"""Whoever is known to the API server may ask what it may do."""


def test_every_right_is_used_and_none_is_missing(
    api: Api, control_plane: ControlPlane, installed: Installed, namespace: str, postgres_dsn: str
) -> None:
    """From a function's first day to its last the audit log holds every verb of the list, and no call that was forbidden."""
    place = Place(api, namespace)
    mark = control_plane.audit.mark()
    with FaultProxy(control_plane) as proxy, installed.operator(proxy.server, STEPWELL_NETWORK_POLICY="1"), Kubelet(api):
        live(place, proxy, postgres_dsn)
        control_plane.controller_manager.kill()  # the garbage collector would be as quick, now and then
        try:
            leave(place)
        finally:
            control_plane.recover()
    asked = [one for one in control_plane.audit.since(mark, user=installed.account) if one.resource]
    # A namespace that is going forbids, whatever one's rights are.
    assert [one.uri for one in asked if one.code == 403] == []
    used = {right for one in asked for right in needed(one)} - {right for right in map(right_of, asked) if right[1] == REVIEWS}
    granted = {*rights.IN_NAMESPACES, *rights.KOPF, *rights.IN_OWN_NAMESPACE}
    assert sorted(granted - used) == [], "granted and never used"
    assert sorted(used - granted) == [], "used and not in the list"


def live(place: Place, proxy: FaultProxy, postgres_dsn: str) -> None:
    """All that happens to functions: made in each way, edited, spoilt, scaled, touched by others, unheard of, drained, deleted."""
    api, namespace = place.api, place.namespace
    core = f"/api/v1/namespaces/{namespace}"
    api.create(f"{core}/configmaps", {"metadata": {"name": "code"}, "data": {"main.py": CODE}})
    api.create(f"{core}/secrets", {"metadata": {"name": "mine"}, "stringData": {"dsn": postgres_dsn}})
    place.apply(
        {
            "apiVersion": "stepwell.dev/v1alpha1",
            "kind": "DurableStore",
            "metadata": {"name": "own"},
            "spec": {"secretRef": {"name": "mine"}, "schema": f"{namespace}-own".replace("-", "_")},
        }
    )
    place.apply(function("inline", replicas=2))
    place.apply(function("mapped", source={"configMap": {"name": "code", "key": "main.py", "handler": "main"}}))
    place.apply(function("stored", storeRef={"name": "own"}, deletionPolicy="Drain"))
    for name in ("inline", "mapped", "stored"):
        place.ready(name)

    unheard(place, proxy)

    before = place.read("inline")["status"]["currentRevision"]
    place.apply(function("inline", OTHER, replicas=2))
    place.until("inline", lambda one: one["status"]["currentRevision"] != before and len(one["status"]["revisions"]) == 1)
    for spoilt in ("nope.x", None, "nope.x"):  # the second time the Event is counted up
        place.patch("inline", idempotency=spoilt)
        place.until("inline", says("SpecAccepted", "True" if spoilt is None else "False"))
    place.patch("inline", idempotency=None, replicas=1)
    place.until("inline", lambda one: one["status"].get("replicas") == 1)
    [pool] = [name for name in place.runners() if name.startswith("inline-")]
    deployment = f"/apis/apps/v1/namespaces/{namespace}/deployments/{pool}"
    spec = api.get(deployment)["spec"]["template"]["spec"]
    api.kubectl("-n", namespace, "set", "env", f"deploy/{pool}", "EVIL=1")
    eventually(lambda: api.get(deployment)["spec"]["template"]["spec"] == spec)


def leave(place: Place) -> None:
    """A function is let go after its runs, and with the last of a store its gateway goes."""
    place.delete("stored")
    place.api.wait_gone(place.path("stored"))
    for kind in ("deployments", "services", "serviceaccounts", "networkpolicies"):
        path = f"{'/api/v1' if kind.startswith('serv') else APIS[kind]}/namespaces/{place.namespace}/{kind}"
        place.api.wait_gone(f"{path}/stepwell-gateway-own")


APIS = {"deployments": "/apis/apps/v1", "networkpolicies": "/apis/networking.k8s.io/v1"}
KINDS = ("dfn", "dst", "deploy", "cm", "svc", "sa", "pdb", "netpol")


def unheard(place: Place, proxy: FaultProxy) -> None:
    """Every object is written by somebody else while no watch speaks: a census reads what it was not told."""
    before = len(proxy.seen())
    proxy.freeze(watches)
    for kind in KINDS:
        place.api.kubectl("-n", place.namespace, "label", kind, "--all", "somebody=else")
    eventually(lambda: {read(one) for one in proxy.seen()[before:]} >= READ)
    proxy.thaw()


READ = {
    "durablefunctions",
    "durablestores",
    "deployments",
    "configmaps",
    "services",
    "serviceaccounts",
    "poddisruptionbudgets",
    "networkpolicies",
}


def read(one: Seen) -> str:
    """The kind of which this call reads one object."""
    parts = one.path.partition("/namespaces/")[2].split("/")
    return parts[1] if one.method == "GET" and len(parts) == 3 else ""


def right_of(one: Asked) -> Right:
    """The right that a call is checked for first."""
    return one.rule


def needed(one: Asked) -> set[Right]:
    """The rights that a call needs: a server-side apply that made its object was checked for `create` as well."""
    group, resource, _ = one.rule
    return {one.rule, (group, resource, "create")} if one.verb == "patch" and one.code == 201 else {one.rule}
