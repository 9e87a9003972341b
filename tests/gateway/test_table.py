"""Every route, every method, seven kinds of credential: what each hears, in one table. A route that isn't in it fails."""

import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from gateway.reviewing import jwt, reviewing

from stepwell.gateway.routes import ROUTES
from stepwell.settings import GatewaySettings, TokenSettings

CREDENTIALS = ("none", "wrong", "event key", "other event key", "API key", "token that may", "token that may not")
CANARY = "s3cr3t-canary"

# What each credential hears on each route, in the order of CREDENTIALS. 404 stands for "let in, and there is no such thing".
TABLE: dict[str, tuple[int, ...]] = {
    "POST /e/{key}": (401, 401, 200, 403, 200, 200, 403),
    "POST /hooks/{key_id}": (401, 401, 401, 401, 401, 401, 401),
    "GET /v1/events": (401, 401, 401, 401, 200, 200, 403),
    "GET /v1/events/{event_id}": (401, 401, 401, 401, 404, 404, 403),
    "GET /v1/events/{event_id}/runs": (401, 401, 401, 401, 404, 404, 403),
    "GET /v1/runs": (401, 401, 401, 401, 200, 200, 403),
    "GET /v1/runs/{run_id}": (401, 401, 401, 401, 404, 404, 403),
    "GET /v1/runs/{run_id}/steps": (401, 401, 401, 401, 404, 404, 403),
    "DELETE /v1/runs/{run_id}": (401, 401, 401, 401, 404, 404, 403),
    "POST /v1/runs/{run_id}/rerun": (401, 401, 401, 401, 404, 404, 403),
    "POST /v1/cancellations": (401, 401, 401, 401, 404, 404, 403),
    "POST /v1/reruns": (401, 401, 401, 401, 404, 404, 403),
    "POST /invoke/{function_id}": (401, 401, 401, 401, 404, 404, 403),
    "GET /v1/functions": (401, 401, 401, 401, 200, 200, 403),
    "GET /v1/functions/{function_id}": (401, 401, 401, 401, 404, 404, 403),
    "POST /v1/functions/{function_id}/pause": (401, 401, 401, 401, 404, 404, 403),
    "POST /v1/functions/{function_id}/resume": (401, 401, 401, 401, 200, 200, 403),
    "GET /v1/keys": (401, 401, 401, 401, 200, 200, 403),
    "POST /v1/keys": (401, 401, 401, 401, 201, 201, 403),
    "DELETE /v1/keys/{key_id}": (401, 401, 401, 401, 404, 404, 403),
    "GET /v1/audit": (401, 401, 401, 401, 200, 200, 403),
    "GET /health": (200, 200, 200, 200, 200, 200, 200),
    "GET /ready": (200, 200, 200, 200, 200, 200, 200),
    "GET /metrics": (401, 401, 401, 401, 200, 200, 403),
    "GET /openapi.json": (401, 401, 401, 401, 200, 200, 403),
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
BODIES: dict[str, Any] = {
    "POST /e/{key}": {"name": "order/created", "data": {"secret": CANARY}},
    "POST /hooks/{key_id}": {"type": "order/created", "secret": CANARY},
    "POST /v1/cancellations": {"function_id": "f", "if": f"event.data.x == '{CANARY}'"},
    "POST /v1/reruns": {"function_id": "f", "if": f"event.data.x == '{CANARY}'"},
    "POST /invoke/{function_id}": {"data": {"secret": CANARY}},
    "POST /v1/keys": {"name": "made"},
    "POST /v1/functions/{function_id}/pause": {"reason": CANARY},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def reviewer() -> AsyncIterator[str]:
    """The address of what stands in for an API server."""
    async with reviewing() as one:
        yield one.url


@pytest_asyncio.fixture(loop_scope="module")
async def gateway(open_gateway: Any, reviewer: str, tmp_path: Path) -> AsyncIterator[Any]:
    """A gateway that knows keys and tokens."""
    (tmp_path / "token").write_text("own", encoding="utf-8")
    settings = GatewaySettings(keys=("s3cret",), tokens=TokenSettings(reviewer, tmp_path, "default"))
    async with open_gateway(settings) as one:
        yield one


async def headers_of(gateway: Any, credential: str) -> dict[str, str]:
    """The credential, as a header."""
    match credential:
        case "none":
            return {}
        case "event key" | "other event key":
            admin = {"Authorization": "Bearer s3cret"}
            events = ["order/*"] if credential == "event key" else ["other/*"]
            made = await gateway.http.post("/v1/keys", json={"name": "sender", "events": events}, headers=admin)
            given = made.json()["data"]["key"]
        case "API key":
            given = "s3cret"
        case _:
            given = {"wrong": "nonsense", "token that may": jwt("may"), "token that may not": jwt("maynot")}[credential]
    return {"Authorization": f"Bearer {given}"}


def filled(path: str) -> str:
    for name in ("run_id", "event_id", "function_id", "key_id"):
        path = path.replace(f"{{{name}}}", f"no-{name}")
    return path.replace("{key}", "-")


def test_every_route_is_in_the_table() -> None:
    """The table has each route of the gateway, with an answer for each credential, and no other."""
    assert set(TABLE) == {f"{route.method} {route.path}" for route in ROUTES}
    assert all(len(row) == len(CREDENTIALS) for row in TABLE.values())


def test_every_route_says_what_it_takes() -> None:
    """A route that isn't for anyone or signed names the right that a token's holder needs."""
    for route in ROUTES:
        assert (route.right is not None) == (route.access.name in {"API_KEY", "EVENT_KEY"}), route.path


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("route", "credential"), list(itertools.product(TABLE, CREDENTIALS)))
async def test_what_each_credential_hears(gateway: Any, route: str, credential: str) -> None:
    """Each route answers each kind of credential as the table says, and its errors tell nothing of what was sent."""
    method, path = route.split(" ")
    headers = await headers_of(gateway, credential)
    body = {"json": BODIES[route]} if route in BODIES else {}
    answer = await gateway.http.request(method, filled(path), headers=headers, **body)
    assert answer.status_code == TABLE[route][CREDENTIALS.index(credential)], answer.text
    if answer.is_error:
        assert answer.headers["content-type"] == "application/problem+json"
        assert set(answer.json()) <= {"type", "title", "status", "detail", "ids", "results"}
        assert CANARY not in answer.text
        assert "Traceback" not in answer.text


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("credential", CREDENTIALS)
async def test_other_methods_are_refused_to_all(gateway: Any, credential: str) -> None:
    """A method that isn't a route's is a 405 with `Allow`, whoever asks."""
    headers = await headers_of(gateway, credential)
    for path in {route.path for route in ROUTES}:
        allowed = sorted(route.method for route in ROUTES if route.path == path)
        for method in set(METHODS) - set(allowed):
            answer = await gateway.http.request(method, filled(path), headers=headers)
            assert (answer.status_code, answer.headers["allow"]) == (405, ", ".join(allowed)), (method, path)


@pytest.mark.asyncio(loop_scope="module")
async def test_no_error_tells_of_the_inside(gateway: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody foresaw tells the caller neither environment, stack nor payload, whatever its message holds."""
    monkeypatch.setenv("STEPWELL_CANARY", CANARY)

    async def broken(*_: Any) -> None:
        raise RuntimeError(f"payload {CANARY}")

    monkeypatch.setattr(gateway.well.store, "runs", broken)
    answer = await gateway.http.get("/v1/runs", headers={"Authorization": "Bearer s3cret"})
    assert answer.status_code == 500
    assert CANARY not in answer.text
    assert set(json.loads(answer.text)) == {"type", "title", "status", "detail"}
