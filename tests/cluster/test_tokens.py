"""Kubernetes tokens at the gateway, asked of a real API server: RBAC is the policy."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.harness.api import Api
from cluster.harness.control_plane import ControlPlane
from gateway.conftest import Gateway, a_gateway
from kubernetes.aio import client, config

from stepwell.settings import GatewaySettings, TokenSettings
from stepwell_operator.cluster import Cluster
from stepwell_operator.reviewers import Reviewers
from stepwell_operator.rights import BINDING, BOUND

pytestmark = pytest.mark.cluster
REVIEW = [
    {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
    {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]},
]
RBAC = "/apis/rbac.authorization.k8s.io/v1"


def account(api: Api, namespace: str, name: str) -> None:
    api.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})


def token(api: Api, namespace: str, name: str, audience: str | None = "stepwell") -> str:
    spec = {"expirationSeconds": 600} | ({"audiences": [audience]} if audience else {})
    return api.create(f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token", {"spec": spec})["status"]["token"]


def let(api: Api, namespace: str, name: str, *rules: dict[str, Any]) -> None:
    """Give a ServiceAccount rights in its namespace."""
    api.apply(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": name, "namespace": namespace},
            "rules": list(rules),
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": name, "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        },
    )


def rule(part: str, *verbs: str) -> dict[str, Any]:
    return {"apiGroups": ["stepwell.dev"], "resources": [f"durablefunctions/{part}"], "verbs": list(verbs)}


@pytest.fixture
def reviewing(api: Api, namespace: str, tmp_path: Path) -> Any:
    """The gateway's ServiceAccount as a pod has it: its token, the authority, and the right to ask for reviews alone."""
    account(api, namespace, "gateway")
    role = f"reviews-{namespace}"
    api.apply(
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": role}, "rules": REVIEW},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": role},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": "gateway", "namespace": namespace}],
        },
    )
    raw = yaml.safe_load(api.kubectl("config", "view", "--raw", "--flatten"))
    (tmp_path / "ca.crt").write_bytes(base64.b64decode(raw["clusters"][0]["cluster"]["certificate-authority-data"]))
    (tmp_path / "token").write_text(token(api, namespace, "gateway", None), encoding="utf-8")
    yield TokenSettings(api.server, tmp_path, namespace)
    api.delete(f"{RBAC}/clusterrolebindings/{role}")
    api.delete(f"{RBAC}/clusterroles/{role}")


@asynccontextmanager
async def serving(tokens: TokenSettings) -> AsyncIterator[Gateway]:
    async with a_gateway(GatewaySettings(keys=("s3cret",), tokens=tokens)) as gateway:
        yield gateway


async def ask(gateway: Gateway, given: str, method: str = "GET", path: str = "/v1/runs") -> int:
    body = {"json": {"name": "order/created"}} if path.startswith("/e/") else {}
    return (await gateway.http.request(method, path, headers={"Authorization": f"Bearer {given}"}, **body)).status_code


async def test_rbac_is_the_policy(api: Api, namespace: str, reviewing: TokenSettings) -> None:
    """A token may do what RBAC gives its holder, by verb and part, in the gateway's namespace alone; everything else is a 403."""
    for name in ("sender", "reader", "nobody"):
        account(api, namespace, name)
    let(api, namespace, "sender", rule("events", "create"))
    let(api, namespace, "reader", rule("runs", "get", "list"))
    other = api.make_namespace()
    account(api, other, "reader")
    let(api, other, "reader", rule("runs", "get", "list"))
    sender, reader, nobody = (token(api, namespace, name) for name in ("sender", "reader", "nobody"))
    stranger = token(api, other, "reader")
    async with serving(reviewing) as gateway:
        assert [await ask(gateway, one, "POST", "/e/-") for one in (sender, reader, nobody, stranger)] == [200, 403, 403, 403]
        assert [await ask(gateway, one) for one in (sender, reader, nobody, stranger)] == [403, 200, 403, 403]
        assert [await ask(gateway, reader, "DELETE", "/v1/runs/R"), await ask(gateway, reader, "GET", "/v1/keys")] == [403, 403]
        acts = (await gateway.http.get("/v1/audit", headers={"Authorization": "Bearer s3cret"})).json()["data"]
        told = [(one["actor"], one["verb"], one["decision"]) for one in acts if one["actor"].endswith((":reader", ":sender"))]
        assert (f"system:serviceaccount:{namespace}:reader", "delete", "denied") in told
        assert (f"system:serviceaccount:{namespace}:sender", "send", "allowed") in told
    api.delete(f"/api/v1/namespaces/{other}")


async def test_a_token_is_for_the_gateway(api: Api, namespace: str, reviewing: TokenSettings) -> None:
    """A token for another audience, a forged one and one of a ServiceAccount that is gone are a 401."""
    account(api, namespace, "reader")
    let(api, namespace, "reader", rule("runs", "get", "list"))
    good = token(api, namespace, "reader")
    head, body, signature = good.split(".")
    forged = ".".join([head, body, signature[:-4] + ("AAAA" if not signature.endswith("AAAA") else "BBBB")])
    gone = token(api, namespace, "reader")
    async with serving(reviewing) as gateway:
        elsewhere = [token(api, namespace, "reader", audience) for audience in (None, "vault")]
        assert [await ask(gateway, one) for one in (*elsewhere, forged, good)] == [401, 401, 401, 200]
    api.delete(f"/api/v1/namespaces/{namespace}/serviceaccounts/reader")
    async with serving(reviewing) as gateway:
        assert await ask(gateway, gone) == 401


async def test_answers_are_remembered_for_a_minute(
    api: Api, namespace: str, reviewing: TokenSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A right that is taken away holds on for a minute at most."""
    account(api, namespace, "reader")
    let(api, namespace, "reader", rule("runs", "get", "list"))
    given = token(api, namespace, "reader")
    async with serving(reviewing) as gateway:
        reviews = gateway.http._transport.app.state.doorkeeper._reviews
        now = gateway.well.clock.now()
        for memory in (reviews._users, reviews._rights):
            monkeypatch.setattr(memory, "_now", lambda: now)
        assert await ask(gateway, given) == 200
        api.delete(f"{RBAC}/namespaces/{namespace}/rolebindings/reader")
        assert await ask(gateway, given) == 200
        now += 60_000_000
        for _ in range(100):  # the API server's authoriser hears of it a moment later
            if await ask(gateway, given) == 403:
                break
            now += 60_000_000
            await asyncio.sleep(0.1)
        else:
            raise AssertionError("the right is still there")


async def test_without_the_api_server_tokens_wait_and_keys_go_on(
    api: Api, namespace: str, reviewing: TokenSettings, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the API server away what is remembered holds out; then tokens are a 503 that says so, and keys go on."""
    account(api, namespace, "reader")
    let(api, namespace, "reader", rule("runs", "get", "list"))
    known, unknown = token(api, namespace, "reader"), token(api, namespace, "reader")
    async with serving(reviewing) as gateway:
        reviews = gateway.http._transport.app.state.doorkeeper._reviews
        now = gateway.well.clock.now()
        for memory in (reviews._users, reviews._rights):
            monkeypatch.setattr(memory, "_now", lambda: now)
        assert await ask(gateway, known) == 200
        control_plane.apiserver.kill()
        try:
            assert await ask(gateway, known) == 200
            answer = await gateway.http.get("/v1/runs", headers={"Authorization": f"Bearer {unknown}"})
            assert (answer.status_code, "API server" in answer.json()["detail"]) == (503, True)
            assert answer.headers["retry-after"] in {"1", "2"}
            assert await ask(gateway, "s3cret") == 200
            now += 60_000_000
            assert await ask(gateway, known) == 503
        finally:
            control_plane.recover()
        assert await ask(gateway, known) == 200


async def test_a_gateway_that_may_not_ask_says_503(api: Api, namespace: str, reviewing: TokenSettings) -> None:
    """Where the gateway's own right to ask is missing, tokens are a 503 and nobody is let in by mistake."""
    account(api, namespace, "reader")
    let(api, namespace, "reader", rule("runs", "get", "list"))
    (reviewing.account / "token").write_text(token(api, namespace, "reader", None), encoding="utf-8")
    async with serving(reviewing) as gateway:
        assert await ask(gateway, token(api, namespace, "reader")) == 503
        assert json.loads((await gateway.http.get("/v1/runs")).text)["status"] == 401


async def test_the_operator_lets_gateways_ask_and_no_more(api: Api, namespace: str, tmp_path: Path) -> None:
    """The operator adds and removes gateways as subjects of the one binding that it knows, and may touch no other."""
    mine, other = f"mine-{namespace}", f"other-{namespace}"
    account(api, namespace, "operator")
    bindings: list[dict[str, Any]] = [
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": mine}, "rules": REVIEW}
    ]
    for name, role in ((mine, mine), (other, "cluster-admin")):
        bindings.append(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": name},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            }
        )
    own = f"operator-{namespace}"
    rules = [
        {"apiGroups": [group], "resources": [resource], "verbs": [verb], "resourceNames": [mine]}
        for group, resource, verb in (*BINDING, *BOUND)
    ]
    subjects = [{"kind": "ServiceAccount", "name": "operator", "namespace": namespace}]
    bindings += [
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": own}, "rules": rules},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": own},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": own},
            "subjects": subjects,
        },
    ]
    api.apply(*bindings)
    configuration = client.Configuration()
    kubeconfig = api.with_token(token(api, namespace, "operator", None), tmp_path / "kubeconfig")
    await config.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
    cluster = Cluster(client.ApiClient(configuration))
    try:
        reviewers = Reviewers(cluster, mine)
        await asyncio.gather(*(reviewers.add(f"n{number}", "stepwell-gateway") for number in range(5)))
        await reviewers.remove("n3", "stepwell-gateway")
        found = api.get(f"{RBAC}/clusterrolebindings/{mine}")["subjects"]
        assert [one["namespace"] for one in found] == ["n0", "n1", "n2", "n4"]
        assert {(one["kind"], one["name"]) for one in found} == {("ServiceAccount", "stepwell-gateway")}
        await Reviewers(cluster, other).add("n1", "stepwell-gateway")
        assert "subjects" not in api.get(f"{RBAC}/clusterrolebindings/{other}")
        await Reviewers(cluster, "nowhere").add("n1", "stepwell-gateway")
    finally:
        await cluster.close()
        for kind, names in (("clusterrolebindings", (mine, other, own)), ("clusterroles", (mine, own))):
            for name in names:
                api.delete(f"{RBAC}/{kind}/{name}")
