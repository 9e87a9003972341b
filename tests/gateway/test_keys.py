"""Keys for senders and signed webhooks: send-only, scoped, rotated, revoked; and the audit of it all."""

import base64
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from gateway.reviewing import jwt, reviewing
from gateway.signing import signed
from structlog.testing import capture_logs

from stepwell.settings import GatewaySettings, TokenSettings

ADMIN = {"Authorization": "Bearer s3cret"}
GUARDED = GatewaySettings(keys=("s3cret",))


@pytest.fixture
async def guarded(open_gateway: Any) -> AsyncIterator[Any]:
    """A gateway with an API key."""
    async with open_gateway(GUARDED) as gateway:
        yield gateway


async def make(gateway: Any, name: str = "shop", status: int = 201, **more: Any) -> dict[str, Any]:
    answer = await gateway.http.post("/v1/keys", json={"name": name, **more}, headers=ADMIN)
    assert answer.status_code == status, answer.text
    return answer.json().get("data", {})


async def send(gateway: Any, key: str, name: str = "order/created") -> int:
    return (await gateway.send({"name": name}, key)).status_code


async def test_a_key_sends_and_no_more(guarded: Any) -> None:
    """A key that was made opens `POST /e/{key}` in the path and as a header, and no other route."""
    key = (await make(guarded))["key"]
    assert await send(guarded, key) == 200
    headers = {"Authorization": f"Bearer {key}"}
    assert (await guarded.http.post("/e/-", json={"name": "a"}, headers=headers)).status_code == 200
    for method, path in (("GET", "/v1/runs"), ("GET", "/v1/keys"), ("POST", "/v1/keys"), ("GET", "/metrics")):
        assert (await guarded.http.request(method, path, headers=headers)).status_code == 401


async def test_a_secret_is_shown_once_and_stored_hashed(guarded: Any) -> None:
    """256 bits are shown when the key is made; afterwards neither the API nor the store has them."""
    made = await make(guarded)
    secret = made["key"].split("_", 2)[2]
    assert len(base64.urlsafe_b64decode(secret + "=")) == 32
    listed = await guarded.http.get("/v1/keys", headers=ADMIN)
    assert secret not in listed.text
    (row,) = await guarded.well.store.keys()
    assert row.proof == hashlib.sha256(made["key"].encode()).digest()
    assert secret not in repr(row)


@pytest.mark.parametrize(
    "change", [lambda key: key[:-1], lambda key: key + "x", lambda key: key.upper(), lambda _: "swk_nope_nope"]
)
async def test_a_wrong_key_is_refused(guarded: Any, change: Any) -> None:
    """Anything but the whole key is a 401."""
    key = (await make(guarded))["key"]
    assert await send(guarded, change(key)) == 401


async def test_a_key_is_for_its_events(guarded: Any) -> None:
    """A key sends the names and wildcards that it was made for; another name is a 403, and in a batch alone stays out."""
    key = (await make(guarded, events=["order/created", "shop/*"]))["key"]
    assert [await send(guarded, key, name) for name in ("order/created", "shop/a.b", "order/paid", "shop/")] == [
        200,
        200,
        403,
        403,
    ]
    answer = await guarded.send([{"name": "order/created", "id": "good"}, {"name": "order/paid", "id": "bad"}], key)
    assert (answer.status_code, answer.json()["ids"]) == (403, ["good"])
    assert [one["status"] for one in answer.json()["results"]] == ["accepted", "forbidden"]


async def test_two_live_keys_for_rotation(guarded: Any) -> None:
    """Two keys of a name are let in, a third can't be made; a revoked one is shut out and leaves room."""
    first, second = await make(guarded), await make(guarded)
    assert [await send(guarded, one["key"]) for one in (first, second)] == [200, 200]
    await make(guarded, status=409)
    assert (await guarded.http.delete(f"/v1/keys/{first['key_id']}", headers=ADMIN)).status_code == 200
    assert [await send(guarded, one["key"]) for one in (first, second)] == [401, 200]
    assert (await guarded.http.delete(f"/v1/keys/{first['key_id']}", headers=ADMIN)).status_code == 404
    await make(guarded)


async def test_a_key_revoked_elsewhere_is_shut_out_soon(guarded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another gateway revoked is remembered for five seconds at most; what it made is let in within one."""
    key = await make(guarded)
    assert await send(guarded, key["key"]) == 200
    stored = guarded.http._transport.app.state.doorkeeper.stored
    now = stored._now()
    monkeypatch.setattr(stored, "_now", lambda: now)
    assert await send(guarded, key["key"]) == 200
    await guarded.well.store.revoke_key(key["key_id"], "elsewhere", now)
    assert await send(guarded, key["key"]) == 200
    now += 5_000_000
    assert await send(guarded, key["key"]) == 401


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"name": "Shop"}, "small letters"),
        ({"name": "shop", "events": ["a*"]}, "events[0]"),
        ({"name": "shop", "events": []}, "events"),
        ({"events": ["a"]}, "name"),
    ],
)
async def test_what_a_key_can_be(guarded: Any, body: dict[str, Any], told: str) -> None:
    """A name or an event that can't be is refused with where it is."""
    answer = await guarded.http.post("/v1/keys", json=body, headers=ADMIN)
    assert answer.status_code in {400, 422}
    assert told in answer.text


# --- webhooks ---


async def post(gateway: Any, hook: dict[str, Any], body: bytes, headers: dict[str, str]) -> Any:
    return await gateway.http.post(f"/hooks/{hook['key_id']}", content=body, headers=headers)


async def test_a_signed_webhook_is_an_event(guarded: Any) -> None:
    """A webhook with one right signature among several becomes an event of its key's name; sent again it is a duplicate."""
    hook = await make(guarded, webhook=True, events=["billing/paid"])
    now = guarded.well.clock.now() // 1_000_000
    body = b'{"type": "invoice.paid", "data": {"id": 7}}'
    for fate in ("accepted", "duplicate"):
        answer = await post(guarded, hook, body, signed(hook, body, at=now))
        assert (answer.status_code, answer.json()["results"][0]["status"]) == (200, fate), answer.text
    event = (await guarded.http.get(f"/v1/events/{answer.json()['ids'][0]}", headers=ADMIN)).json()["data"]
    assert (event["name"], event["data"]) == ("billing/paid", json.loads(body))


async def test_a_webhook_for_several_events_names_one(guarded: Any) -> None:
    """Where the key is for several events the payload's `type` is the name; one that the key isn't for is a 403."""
    hook = await make(guarded, webhook=True, events=["invoice.*"])
    now = guarded.well.clock.now() // 1_000_000
    for place, (body, status) in enumerate(((b'{"type":"invoice.paid"}', 200), (b'{"type":"other"}', 403), (b"{}", 400))):
        answer = await post(guarded, hook, body, signed(hook, body, f"m{place}", now))
        assert answer.status_code == status, answer.text


@pytest.mark.parametrize("wrong", ["body", "id", "old", "future", "secret", "hook", "key", "none", "revoked"])
async def test_a_forged_or_replayed_webhook_is_refused(guarded: Any, wrong: str) -> None:
    """Another body, id or secret, a timestamp five minutes off, an unknown or revoked hook, a send key's id: always the same 401."""
    hook = await make(guarded, webhook=True)
    now = guarded.well.clock.now() // 1_000_000
    body = b'{"type": "a"}'
    at = {"old": now - 302, "future": now + 302}.get(wrong, now)
    headers = signed(hook, body, at=at, secret="whsec_bm90aGluZw==" if wrong == "secret" else "")
    if wrong == "id":
        headers["webhook-id"] = "msg_2"
    if wrong == "none":
        headers.pop("webhook-signature")
    if wrong == "revoked":
        await guarded.http.delete(f"/v1/keys/{hook['key_id']}", headers=ADMIN)
    if wrong == "hook":
        hook = {"key_id": "unknown"}
    if wrong == "key":
        hook = await make(guarded, "other")
    answer = await post(guarded, hook, b'{"type": "b"}' if wrong == "body" else body, headers)
    assert answer.status_code == 401
    assert "not right" in answer.json()["detail"]


# --- the audit ---


async def test_privileged_acts_are_audited(guarded: Any) -> None:
    """Sending with an API key, making and revoking keys leave a row and one log line each; sending with an event key doesn't."""
    with capture_logs() as lines:
        key = await make(guarded)
        await send(guarded, "s3cret")
        await send(guarded, key["key"])
        await guarded.http.delete(f"/v1/keys/{key['key_id']}", headers={**ADMIN, "X-Request-Id": "req-7"})
    rows = (await guarded.http.get("/v1/audit", headers=ADMIN)).json()["data"]
    told = [(row["verb"], row["object"], row["decision"]) for row in rows]
    thing = f"keys/{key['key_id']}"
    assert told == [("revoke key", thing, "allowed"), ("send", "events", "allowed"), ("create key", thing, "allowed")]
    assert rows[0]["request_id"] == "req-7"
    assert {row["actor"] for row in rows} == {f"key:{hashlib.sha256(b's3cret').hexdigest()[:8]}"}
    assert rows[1]["detail"] == {"count": 1, "names": ["order/created"]}
    audited = [line for line in lines if line["event"] == "audit"]
    assert [(line["verb"], line["object"]) for line in reversed(audited)] == [(verb, thing) for verb, thing, _ in told]
    assert key["key"] not in json.dumps(lines)


async def test_the_audit_has_pages(guarded: Any) -> None:
    """The audit is read page by page and by what one looks for; a cursor of another list is refused."""
    for _ in range(3):
        await send(guarded, "s3cret")
    first = (await guarded.http.get("/v1/audit", params={"limit": 2}, headers=ADMIN)).json()
    cursor = first["metadata"]["cursor"]
    second = (await guarded.http.get("/v1/audit", params={"limit": 2, "cursor": cursor}, headers=ADMIN)).json()
    assert [len(first["data"]), len(second["data"]), second["metadata"]["cursor"]] == [2, 1, None]
    assert (await guarded.http.get("/v1/audit", params={"verb": "cancel"}, headers=ADMIN)).json()["data"] == []
    answer = await guarded.http.get("/v1/audit", params={"cursor": "MTphYmM"}, headers=ADMIN)
    assert answer.status_code == 400


@pytest.fixture
async def reviewed(open_gateway: Any, tmp_path: Path) -> AsyncIterator[Any]:
    """A gateway that asks an API server about tokens."""
    (tmp_path / "token").write_text("own", encoding="utf-8")
    async with (
        reviewing() as reviewer,
        open_gateway(GatewaySettings(keys=("s3cret",), tokens=TokenSettings(reviewer.url, tmp_path, "default"))) as gateway,
    ):
        yield gateway


async def denied(gateway: Any) -> list[Any]:
    rows = (await gateway.http.get("/v1/audit", params={"limit": 200}, headers=ADMIN)).json()["data"]
    return [(row["verb"], row["object"], row["detail"]) for row in rows if row["decision"] == "denied"]


async def test_a_refusal_is_audited_without_the_key(reviewed: Any) -> None:
    """Who may not send is written down; the key in the path, which may be another gateway's, is in neither row nor log."""
    key = "swk_other_wellskey"
    headers = {"Authorization": f"Bearer {jwt('maynot')}"}
    with capture_logs() as lines:
        assert (await reviewed.http.post(f"/e/{key}", json={"name": "a"}, headers=headers)).status_code == 403
        assert (await reviewed.http.delete("/v1/runs/R", headers=headers)).status_code == 403
    assert await denied(reviewed) == [("delete", "/v1/runs/R", {}), ("post", "/e/{key}", {})]
    assert [line["object"] for line in lines if line["event"] == "audit"] == ["/e/{key}", "/v1/runs/R"]
    assert key not in json.dumps(lines)


async def test_refusals_fill_no_audit(reviewed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one caller's refusals twenty are written at once, then one a minute, which says how many were not; others' are written."""
    now = reviewed.well.clock.now()
    monkeypatch.setattr(reviewed.well.clock, "now", lambda: now)
    headers = {"Authorization": f"Bearer {jwt('maynot')}"}
    for _ in range(25):
        assert (await reviewed.http.delete("/v1/runs/R", headers=headers)).status_code == 403
    assert len(await denied(reviewed)) == 20
    now += 59_000_000
    await reviewed.http.delete("/v1/runs/R", headers=headers)
    now += 1_000_000
    await reviewed.http.delete("/v1/runs/R", headers=headers)
    await reviewed.http.delete("/v1/runs/R", headers=headers)
    rows = await denied(reviewed)
    assert (len(rows), rows[0]) == (21, ("delete", "/v1/runs/R", {"unwritten": 6}))
    await reviewed.http.delete("/v1/runs/R", headers={"Authorization": f"Bearer {jwt('maynottoo')}"})
    assert len(await denied(reviewed)) == 22
