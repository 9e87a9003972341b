"""Every event that is offered is counted once, by what became of it: the alert on refused events sees each 503."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from gateway.reviewing import jwt
from gateway.signing import signed

from stepwell.errors import StoreUnavailable
from stepwell.metrics import catalogue
from stepwell.settings import GatewaySettings, TokenSettings

ADMIN = {"Authorization": "Bearer s3cret"}
ONE = {"name": "order/created"}


@pytest.fixture
async def guarded(open_gateway: Any) -> AsyncIterator[Any]:
    """A gateway with an API key."""
    async with open_gateway(GatewaySettings(keys=("s3cret",))) as gateway:
        yield gateway


def counted(gateway: Any) -> dict[str, float]:
    """What was counted, by result."""
    results = catalogue.EVENTS_RECEIVED.labels[0].values
    found = {one: gateway.well.metrics.shelf.count(catalogue.EVENTS_RECEIVED, one).value for one in results}
    return {one: value for one, value in found.items() if value}


async def store_goes(gateway: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_args: Any, **_more: Any) -> Any:
        raise StoreUnavailable("away")

    for name in ("commit", "keys", "note"):
        monkeypatch.setattr(gateway.well.store, name, away)


@pytest.mark.parametrize("path", ["/e/swk_some_key", "/hooks/some"])
async def test_keys_that_can_not_be_looked_up_are_counted(guarded: Any, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """While the store is away the events of senders whose keys are in it count as unavailable."""
    await store_goes(guarded, monkeypatch)
    assert (await guarded.http.post(path, json=ONE)).status_code == 503
    assert counted(guarded) == {"unavailable": 1}


@pytest.mark.parametrize("headers", [{}, ADMIN])
async def test_each_event_of_a_batch_is_counted(guarded: Any, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]) -> None:
    """A batch that the store doesn't take is as many events refused as it is taken otherwise, whether it would be audited or not."""
    key = (await guarded.http.post("/v1/keys", json={"name": "shop"}, headers=ADMIN)).json()["data"]["key"]
    path = "/e/-" if headers else f"/e/{key}"
    assert (await guarded.http.post(path, json=[ONE] * 100, headers=headers)).status_code == 200
    await store_goes(guarded, monkeypatch)
    assert (await guarded.http.post(path, json=[ONE] * 100, headers=headers)).status_code == 503
    assert counted(guarded) == {"accepted": 100, "unavailable": 100}


async def test_an_api_server_that_is_away_is_no_wrong_key(open_gateway: Any, tmp_path: Path) -> None:
    """Tokens that nobody can be asked about now count as unavailable, as the 503 says, and not as unauthorized."""
    (tmp_path / "token").write_text("own", encoding="utf-8")
    settings = GatewaySettings(keys=("s3cret",), tokens=TokenSettings("http://127.0.0.1:9", tmp_path, "default"))
    async with open_gateway(settings) as gateway:
        headers = {"Authorization": f"Bearer {jwt('may')}"}
        assert (await gateway.http.post("/e/-", json=ONE, headers=headers)).status_code == 503
        assert counted(gateway) == {"unavailable": 1}


@pytest.mark.parametrize("path", ["/e/s3cret", "/hooks/some"])
async def test_what_finds_no_place_is_counted(open_gateway: Any, path: str) -> None:
    """Events that are refused because there are too many requests count as unavailable; other requests don't count."""
    async with open_gateway(GatewaySettings(keys=("s3cret",), max_in_flight=0)) as gateway:
        assert (await gateway.http.post(path, json=ONE)).status_code == 503
        assert (await gateway.http.get("/v1/runs", headers=ADMIN)).status_code == 503
        assert counted(gateway) == {"unavailable": 1}


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "result"),
    [
        ("/e/wrong", b"{}", {}, 401, "unauthorized"),
        ("/e/s3cret", b"{", {}, 400, "invalid"),
        ("/e/s3cret", b"{}", {"Content-Type": "text/plain"}, 415, "invalid"),
        ("/e/s3cret", b" " * 600_000, {}, 413, "too_large"),
        ("/v1/reruns", b"{", ADMIN, 400, None),
    ],
)
async def test_what_is_refused_is_counted_once(
    guarded: Any, path: str, body: bytes, headers: dict[str, str], status: int, result: str | None
) -> None:
    """A request that is refused before its events are known counts once, by why; on a route that takes no events not at all."""
    answer = await guarded.http.post(path, content=body, headers={"Content-Type": "application/json"} | headers)
    assert answer.status_code == status
    assert counted(guarded) == ({} if result is None else {result: 1})


async def test_what_is_over_a_rate_is_counted(open_gateway: Any) -> None:
    """Each event of a batch that is over its key's rate counts as limited."""
    async with open_gateway(GatewaySettings(keys=("s3cret",), events_per_second=1)) as gateway:
        statuses = [(await gateway.send([ONE] * 3, "s3cret")).status_code for _ in range(2)]
        assert (statuses, counted(gateway)) == ([200, 429], {"accepted": 3, "limited": 3})


@pytest.mark.parametrize(
    ("body", "headers", "status", "result"),
    [
        (b'{"type": "a"}', {"webhook-id": "forged"}, 401, "unauthorized"),
        (b'{"type": "a"}', {"webhook-timestamp": "1"}, 401, "unauthorized"),
        (b"{", {}, 400, "invalid"),
        (b"{}", {}, 400, "invalid"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "invalid"),
        (b" " * 600_000, {}, 413, "too_large"),
        (b'{"type": "a"}', {}, 200, "accepted"),
    ],
)
async def test_a_webhook_is_counted_once(guarded: Any, body: bytes, headers: dict[str, str], status: int, result: str) -> None:
    """A webhook counts once by what became of it, forged or not, and what was looked into has its time measured."""
    made = await guarded.http.post("/v1/keys", json={"name": "billing", "events": ["*"], "webhook": True}, headers=ADMIN)
    hook = made.json()["data"]
    head = signed(hook, body, at=guarded.well.clock.now() // 1_000_000) | headers
    answer = await guarded.http.post(f"/hooks/{hook['key_id']}", content=body, headers=head)
    assert answer.status_code == status
    assert counted(guarded) == {result: 1}
    measured = guarded.well.metrics.shelf.spread(catalogue.EVENT_INGEST_DURATION, result)
    assert sum(measured.counts) == ("webhook-timestamp" not in headers)
