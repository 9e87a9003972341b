"""A gateway's objects: a token of its own only where it asks about others'."""

import pytest

from stepwell_operator.resources.gateway import GatewaySpec, gateway_objects


@pytest.mark.parametrize("tokens", [True, False])
def test_a_gateway_has_a_token_only_to_ask_about_tokens(tokens: bool) -> None:
    """The pod gets its ServiceAccount's token, and is told to take tokens, only where the operator lets gateways ask."""
    spec = GatewaySpec("shop", "default", "d", "image", "Always", 1, network_policy=False, tokens=tokens)
    made = {one["kind"]: one for one in gateway_objects(spec, [])}
    pod = made["Deployment"]["spec"]["template"]["spec"]
    told = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
    assert pod["automountServiceAccountToken"] is tokens
    assert told.get("STEPWELL_KUBERNETES_TOKENS") == ("1" if tokens else None)
    assert made["ServiceAccount"]["automountServiceAccountToken"] is False


@pytest.mark.parametrize("replicas", [1, 2])
def test_of_several_gateways_one_is_evicted_at_a_time(replicas: int) -> None:
    """Where there are two pods a budget keeps one of them when a node is drained; a single one stands in no drain's way."""
    spec = GatewaySpec("shop", "default", "d", "image", "Always", replicas, network_policy=False)
    made = {one["kind"]: one for one in gateway_objects(spec, [])}
    assert ("PodDisruptionBudget" in made) is (replicas > 1)
    if replicas > 1:
        rules, pods = made["PodDisruptionBudget"]["spec"], made["Deployment"]["spec"]["template"]["metadata"]["labels"]
        assert rules["maxUnavailable"] == 1
        assert rules["selector"]["matchLabels"].items() <= pods.items()


def test_a_gateway_keeps_history_as_long_as_the_installation_says() -> None:
    """The chart's `gateway.keep` reaches the gateway's pod."""
    spec = GatewaySpec("shop", "default", "d", "image", "Always", 1, network_policy=False, keep="30d")
    [pod] = [one["spec"]["template"]["spec"] for one in gateway_objects(spec, []) if one["kind"] == "Deployment"]
    assert {"name": "STEPWELL_KEEP", "value": "30d"} in pod["containers"][0]["env"]
