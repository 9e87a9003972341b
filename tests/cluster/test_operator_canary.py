"""No payload and no secret is in any log line of the operator, at DEBUG: neither code nor addresses, keys or passwords."""

import base64
from pathlib import Path

import pytest
from cluster.harness.api import Api
from cluster.operation import Installed, Kubelet, Place, eventually, function, says, waiting

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]
CODE = "SECRET = 'CANARY-code-5e11'\nasync def main(ctx):\n    return SECRET\n"


def test_no_canary_is_logged_by_the_operator(api: Api, namespace: str, postgres_dsn: str, tmp_path: Path) -> None:
    """Functions come, change, are refused, have sick pods and go; a store's address is wrong: no log line has a marked value."""
    installed = Installed(api, tmp_path, postgres_dsn)
    try:
        with installed.operator(STEPWELL_LOG_LEVEL="DEBUG") as operator, Kubelet(api) as kubelet:
            place = Place(api, namespace)
            env = [{"name": "TOKEN", "value": "CANARY-env-77aa"}]
            place.apply(function("one", CODE, runner={"env": env}))
            place.ready("one")
            keys = api.get(f"/api/v1/namespaces/{namespace}/secrets/stepwell-gateway")["data"]
            dsn = place.dsn()
            place.apply(function("two", CODE + "#", triggers=[{"event": "go", "if": "event.data.x == 'CANARY-if-31c0' &&"}]))
            place.until("two", says("SpecAccepted", "False"))
            wrong = base64.b64encode(b"postgresql://u:CANARY-dsn-0b2f@127.0.0.1:9/none").decode()
            api.create(f"/api/v1/namespaces/{namespace}/secrets", {"metadata": {"name": "mine"}, "data": {"dsn": wrong}})
            place.apply(
                {
                    "apiVersion": "stepwell.dev/v1alpha1",
                    "kind": "DurableStore",
                    "metadata": {"name": "mine"},
                    "spec": {"secretRef": {"name": "mine", "key": "dsn"}},
                }
            )
            place.apply(function("three", CODE, storeRef={"name": "mine"}))
            place.until("three", says("StoreReady", "False", "Unreachable"))
            kubelet.idle = True
            before = set(place.runners())
            place.apply(function("four", CODE + "##"))
            [pool] = eventually(lambda: set(place.runners()) - before)
            kubelet.broken[namespace, pool] = waiting("CrashLoopBackOff", "x", ended={"exitCode": 1, "reason": "Error"})
            kubelet.idle = False
            place.until("four", says("RunnersAvailable", "False", "CrashLooping"))
            for name in ("one", "two", "three", "four"):
                place.delete(name)
            eventually(lambda: not place.runners())
        log = operator.log.read_text(errors="replace")
    finally:
        installed.remove()
    assert '"level":"debug"' in log or '"level":"info"' in log
    secrets = [base64.b64decode(value).decode() for value in keys.values()]
    secrets += [dsn.partition("://")[2].partition("@")[0].partition(":")[2] or "CANARY", "CANARY", *keys.values()]
    assert [line for line in log.splitlines() if any(secret in line for secret in secrets)] == []
