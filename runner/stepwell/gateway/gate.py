"""What stands before every route: hosts, foreign pages, too many at once, and errors that nobody foresaw."""

import traceback
from contextlib import nullcontext
from typing import cast
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stepwell.gateway.access import is_own_host
from stepwell.gateway.answers import UNEXPECTED, plain_problem, retry_later
from stepwell.gateway.places import TOO_MANY, Places
from stepwell.metrics import Metrics
from stepwell.settings import GatewaySettings

SAFE_METHODS = frozenset({"GET", "HEAD"})
PROBES = frozenset({"/health", "/ready", "/metrics"})
"""They hold no place: when there is none left, somebody has to see it."""

TAKE_EVENTS = ("/e/", "/hooks/")


class Gate:
    """An ASGI application around the gateway's. It refuses before any route is looked at."""

    def __init__(self, app: ASGIApp, settings: GatewaySettings, places: Places, metrics: Metrics) -> None:
        self.app = app
        self.settings = settings
        self.places = places
        self.metrics = metrics
        self._log = structlog.get_logger("stepwell.gateway")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        refused = self._refusal(scope)
        if refused is not None:
            await refused(scope, receive, send)
            return
        with nullcontext() if scope["path"] in PROBES else self.places.one():
            await self._guarded(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if scope["path"] not in PROBES and self.places.are_full:
            if scope["method"] == "POST" and scope["path"].startswith(TAKE_EVENTS):
                self.metrics.event_received("unavailable")
            return plain_problem(503, TOO_MANY, retry_later())
        if not self.settings.is_guarded and not is_own_host(host):
            return plain_problem(
                403, "without a key the gateway answers to localhost and 127.0.0.1 only; set STEPWELL_KEY to open it"
            )
        # No id has a NUL character, and a store may stumble over it.
        if "\0" in scope["path"]:
            return plain_problem(404, "there is nothing by a name with a NUL character")
        if b"%00" in scope["query_string"]:
            return plain_problem(400, "a query has no NUL character")
        if scope["method"] not in SAFE_METHODS and _is_foreign(headers, host):
            return plain_problem(403, "a page of another origin may not change anything here")
        return None

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def note_start(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, note_start)
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001  # the last line of defence; nothing of it may reach the caller
            self._log.error("unexpected error", method=scope["method"], error=type(error).__name__, frames=_frames(error))
            if not begun:
                await plain_problem(500, UNEXPECTED)(scope, receive, send)


def _is_foreign(headers: Headers, host: str) -> bool:
    """Whether a browser says that the request comes from another site's page."""
    origin = headers.get("origin")
    if headers.get("sec-fetch-site") == "cross-site":
        return True
    if origin is None:
        return False
    try:
        return urlsplit(origin).netloc.lower() != host.lower()
    except ValueError:
        return True


def _frames(error: Exception) -> list[str]:
    """Where it happened, without the message and without locals: both may hold a payload."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    return [f"{frame.filename}:{cast('int', frame.lineno)} {frame.name}" for frame in frames]
