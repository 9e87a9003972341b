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
