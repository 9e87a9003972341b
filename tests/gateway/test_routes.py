"""Every route times every method, key and host: nothing is open that isn't declared so."""

from typing import Any

import pytest
from fastapi.routing import APIRoute

from stepwell.gateway.access import Access
from stepwell.gateway.routes import ROUTES, Route
from stepwell.settings import GatewaySettings

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW")
PATHS = sorted({route.path for route in ROUTES})
GUARDED = GatewaySettings(keys=("s3cret", "older"), event_keys=("send-only",))


def filled(path: str, key: str = "nokey") -> str:
    return path.replace("{key}", key).replace("{run_id}", "R").replace("{event_id}", "E").replace("{function_id}", "f")


def body_of(route: Route) -> dict[str, Any]:
    return {"json": {"name": "a", "data": {}, "function_id": "f", "events": ["*"]}} if route.body is not None else {}


async def test_every_route_is_in_the_table(gateway: Any) -> None:
    """The application has exactly the routes of the table, each of which declares its access."""
    app = gateway.http._transport.app
    served = {(method, route.path) for route in app.routes if isinstance(route, APIRoute) for method in route.methods}
    assert served == {(route.method, route.path) for route in ROUTES}
    assert len(app.routes) == len(ROUTES)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", METHODS)
async def test_other_methods_are_refused_with_allow(gateway: Any, path: str, method: str) -> None:
    """A method that a path doesn't have is a 405 that lists all those it has; never a diagnostic page."""
    allowed = sorted(route.method for route in ROUTES if route.path == path)
    if method in allowed:
        return
    answer = await gateway.http.request(method, filled(path))
    assert answer.status_code == 405
    assert answer.headers["allow"] == ", ".join(allowed)
    if method != "HEAD":
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == 405


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
@pytest.mark.parametrize(
    "credential", [None, "", "Bearer", "Bearer ", "Bearer nothing", "Basic s3cret", "s3cret", "Bearer send-only", "Bearer s3cre"]
)
async def test_without_the_key_every_route_is_shut(open_gateway: Any, route: Route, credential: str | None) -> None:
    """Where keys are set, no route but the probes answers to a missing, malformed, wrong or lesser key."""
    async with open_gateway(GUARDED) as gateway:
        headers = {} if credential is None else {"Authorization": credential}
        answer = await gateway.http.request(route.method, filled(route.path), headers=headers, **body_of(route))
    if route.access is Access.ANYONE:
        assert answer.status_code == 200
        return
    if (route.access, credential) == (Access.EVENT_KEY, "Bearer send-only"):
        assert answer.status_code == 200
        return
    assert answer.status_code in ({401, 415} if route.access is Access.SIGNATURE else {401})
    assert route.access is Access.SIGNATURE or answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
@pytest.mark.parametrize("key", ["s3cret", "older"])
async def test_with_the_key_every_route_answers(open_gateway: Any, route: Route, key: str) -> None:
    """Each of several keys opens every route; what comes then is the route's own answer."""
    async with open_gateway(GUARDED) as gateway:
        headers = {"Authorization": f"Bearer {key}"}
        answer = await gateway.http.request(route.method, filled(route.path, key), headers=headers, **body_of(route))
    assert answer.status_code in ({401} if route.access is Access.SIGNATURE else {200, 201, 404})


async def test_an_event_key_sends_and_no_more(open_gateway: Any) -> None:
    """An event key opens `POST /e/{key}` alone."""
    async with open_gateway(GUARDED) as gateway:
        assert (await gateway.send({"name": "a"}, "send-only")).status_code == 200
        answer = await gateway.http.get("/v1/runs", headers={"Authorization": "Bearer send-only"})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "path", ["/", "/e", "/e/", "/e/k/x", "/v1", "/v1/", "/v1/runs/", "/docs", "/redoc", "/v1/runs/R/steps/", "/../etc", "/%2e%2e"]
)
async def test_unknown_paths_are_404_problems(gateway: Any, path: str) -> None:
    """A path that isn't there is a problem document that says where to look."""
    answer = await gateway.http.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert "/openapi.json" in answer.json()["detail"]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8288", "localhost.evil.example", "127.0.0.1.evil.example", "", "10.0.0.1", "[::2]"]
)
async def test_without_a_key_foreign_hosts_are_refused(gateway: Any, host: str) -> None:
    """A page that rebinds its own name to this machine is refused: it sends its own name as Host."""
    answer = await gateway.http.get("/v1/runs", headers={"Host": host})
    assert answer.status_code == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:8288", "127.0.0.1:1", "[::1]:8288", "LOCALHOST"])
async def test_without_a_key_own_names_are_served(gateway: Any, host: str) -> None:
    """Names of this machine are served, on any port."""
    assert (await gateway.http.get("/v1/runs", headers={"Host": host})).status_code == 200


async def test_with_a_key_any_host_is_served(open_gateway: Any) -> None:
    """Where a key is asked for, the name doesn't matter."""
    async with open_gateway(GUARDED) as gateway:
        headers = {"Host": "stepwell.example", "Authorization": "Bearer s3cret"}
        assert (await gateway.http.get("/v1/runs", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/e/k"), ("POST", "/v1/runs/R/rerun"), ("DELETE", "/v1/runs/R"), ("POST", "/invoke/f")]
)
async def test_pages_of_other_origins_change_nothing(gateway: Any, headers: dict[str, str], method: str, path: str) -> None:
    """What a browser sends for a page of another origin is refused before any route is looked at."""
    assert (await gateway.http.request(method, path, headers=headers)).status_code == 403


async def test_own_pages_may(gateway: Any) -> None:
    """A page of the gateway's own origin may send."""
    headers = {"Origin": "http://127.0.0.1:8288", "Sec-Fetch-Site": "same-origin"}
    answer = await gateway.http.post("/e/k", json={"name": "a"}, headers=headers)
    assert answer.status_code == 200


async def test_nothing_is_cached_or_sniffed(gateway: Any) -> None:
    """Answers are neither cached nor guessed at by a browser, problems included."""
    for path in ("/v1/runs", "/v1/runs/R", "/health"):
        answer = await gateway.http.get(path)
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_too_many_at_once_are_told_to_come_back(open_gateway: Any) -> None:
    """Past the limit of requests in flight the answer is a 503 with Retry-After, but probes still answer."""
    async with open_gateway(GatewaySettings(open=True, max_in_flight=0)) as gateway:
        answer = await gateway.http.get("/v1/runs")
        assert answer.status_code == 503
        assert answer.headers["retry-after"] in {"1", "2"}
        for probe in ("/health", "/ready", "/metrics"):
            assert (await gateway.http.get(probe)).status_code == 200, probe
