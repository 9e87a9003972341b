"""What the chart's roles allow, to the verb."""

from collections.abc import Iterator

import pytest
from chart.rendering import MONITORING, SETS, Chart, Object

from stepwell.gateway.routes import ROUTES
from stepwell_operator.rights import BINDING, BOUND, IN_NAMESPACES, IN_OWN_NAMESPACE, KOPF

OPERATOR = "stepwell-stepwell-system-operator"
REVIEWERS = "stepwell-stepwell-system-gateway"
RBAC = "rbac.authorization.k8s.io"
ASK = ("authorization.k8s.io", "selfsubjectaccessreviews", "create")


def allowed(role: Object) -> set[tuple[str, str, str]]:
    """Group, resource and verb of everything that a role allows."""
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def roles(chart: Chart) -> Iterator[tuple[str, Object]]:
    """Every role of every set of values."""
    for name, sets in SETS.items():
        for one in chart.objects(sets, *MONITORING):
            if one["kind"] in {"Role", "ClusterRole"}:
                yield f"{name}: {one['kind']} {one['metadata']['name']}", one


def test_the_operator_gets_what_it_asks_for(chart: Chart) -> None:
    """Watching the cluster, the operator may do what its own list of rights names, learn of namespaces and kinds, and no more."""
    role = chart.one("ClusterRole", OPERATOR)
    assert allowed(role) == {*IN_NAMESPACES, *KOPF, *BINDING, *BOUND, ASK}
    named = {group: rule["resourceNames"] for rule in role["rules"] for group in rule["apiGroups"] if "resourceNames" in rule}
    assert named == {RBAC: [REVIEWERS]}
    assert all("resourceNames" in rule for rule in role["rules"] if RBAC in rule["apiGroups"])
    assert allowed(chart.one("Role", "stepwell-operator")) == set(IN_OWN_NAMESPACE)


def test_watching_some_namespaces_takes_no_right_in_the_cluster(chart: Chart) -> None:
    """With watchNamespaces there is a Role in each of them, with the same rights, and nothing that holds in the whole cluster."""
    objects = chart.objects(SETS["namespaced"])
    assert not [one for one in objects if one["kind"].startswith("Cluster")]
    found = {
        one["metadata"]["namespace"]: one for one in objects if one["kind"] == "Role" and one["metadata"]["name"] == OPERATOR
    }
    assert set(found) == {"shop", "bank"}
    for role in found.values():
        assert allowed(role) == set(IN_NAMESPACES)


def test_no_role_goes_too_far(chart: Chart) -> None:
    """No wildcard, no list or watch of Secrets, no way into pods, no way to more rights, in any role of any set of values.

    But for one: the subjects of the one binding of the one role that reviews tokens, both by name.
    """
    for where, role in roles(chart):
        for rule in role["rules"]:
            if RBAC in rule["apiGroups"]:
                assert (rule["resources"], rule["verbs"], rule["resourceNames"]) in (
                    (["clusterrolebindings"], ["get", "update"], [REVIEWERS]),
                    (["clusterroles"], ["bind"], [REVIEWERS]),
                ), where
        for group, resource, verb in allowed(role):
            assert "*" not in {group, resource, verb}, where
            assert verb not in {"escalate", "impersonate"}, where
            assert resource not in {"pods/exec", "pods/attach", "pods/portforward", "nodes/proxy", "serviceaccounts/token"}, where
            if resource == "secrets":
                assert verb in {"get", "create", "patch"}, where


def test_every_rule_stands_once(chart: Chart) -> None:
    """No role grants a verb twice: a removed line takes the right away."""
    for where, role in roles(chart):
        named = [
            (group, resource, verb, name)
            for rule in role["rules"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
            for name in rule.get("resourceNames", [""])
        ]
        assert len(named) == len(set(named)), where


@pytest.mark.parametrize("name", SETS)
def test_every_binding_names_what_is_there(chart: Chart, name: str) -> None:
    """Each binding binds a role of the release to a ServiceAccount of the release."""
    objects = chart.objects(SETS[name], *MONITORING)
    there = {(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in objects}
    bindings = [one for one in objects if one["kind"].endswith("Binding")]
    assert bindings
    for one in bindings:
        reference, subjects = one["roleRef"], one.get("subjects", [])
        if one["metadata"]["name"] == REVIEWERS:
            assert not subjects  # the operator adds the gateways
            assert allowed(chart.one("ClusterRole", REVIEWERS)) == {
                ("authentication.k8s.io", "tokenreviews", "create"),
                ("authorization.k8s.io", "subjectaccessreviews", "create"),
            }
            continue
        (subject,) = subjects
        assert (reference["kind"], one["metadata"].get("namespace"), reference["name"]) in there
        assert ("ServiceAccount", subject["namespace"], subject["name"]) in there


def test_people_get_functions_with_the_roles_they_have(chart: Chart) -> None:
    """Who may view a namespace sees its functions and stores, who may edit it edits them, and nobody may write a status."""
    view, edit = (
        chart.one("ClusterRole", "stepwell-stepwell-system-view"),
        chart.one("ClusterRole", "stepwell-stepwell-system-edit"),
    )
    prefix = "rbac.authorization.k8s.io/aggregate-to"
    assert {label for label in view["metadata"]["labels"] if label.startswith(prefix)} == {
        f"{prefix}-view",
        f"{prefix}-edit",
        f"{prefix}-admin",
    }
    assert {label for label in edit["metadata"]["labels"] if label.startswith(prefix)} == {f"{prefix}-edit", f"{prefix}-admin"}
    assert {verb for _, _, verb in allowed(view)} == {"get", "list", "watch"}
    assert not [resource for _, resource, _ in allowed(edit) if resource.endswith("/status")]
    assert ("stepwell.dev", "durablefunctions/scale", "patch") in allowed(edit)


def test_people_get_the_gateway_with_the_roles_they_have(chart: Chart) -> None:
    """Each part of the gateway that a token can ask for is in one of the three roles: to look, to act, to administer."""
    roles = {name: allowed(chart.one("ClusterRole", f"stepwell-stepwell-system-{name}")) for name in ("view", "edit", "admin")}
    wanted = {
        ("stepwell.dev", f"durablefunctions/{route.right.part}".rstrip("/"), route.right.verb)
        for route in ROUTES
        if route.right is not None
    }
    assert wanted <= set.union(*roles.values())
    secret = {one for one in wanted if one[1].endswith(("/keys", "/audit"))}
    assert secret <= roles["admin"]
    assert not secret & (roles["view"] | roles["edit"])
    assert not {one for one in wanted & roles["view"] if one[2] not in {"get", "list"}}
