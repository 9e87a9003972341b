"""Serve an ASGI application on a port, inside a process that has other things to do and handles signals itself."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from http import HTTPStatus

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from stepwell.engine.well import Well
from stepwell.errors import StepwellError, StoreError, StoreUnavailable
from stepwell.gateway import probes
from stepwell.gateway.answers import json_response, refusal
from stepwell.gateway.connections import Limits, limits_here, protocol
from stepwell.gateway.readiness import Look
from stepwell.settings import SettingsError

BACKLOG = 2048
GOODBYE_SECONDS = 5
ANSWER = "an answer of the store"
START = "the rest of its own start"


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, before anything else is begun; SettingsError if the port is taken. Port 0 takes a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SettingsError(f"can't listen on {host}:{port} ({reason}); choose another with --port") from None


def address(listener: socket.socket) -> str:
    """The listener's address, as one would type it into a browser."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@asynccontextmanager
async def serving(app: ASGIApp, listener: socket.socket, limits: Limits | None = None) -> AsyncGenerator[None]:
    """Serve for as long as the block lasts; at its end answer what has been asked, for at most five seconds."""
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        timeout_keep_alive=10,
        timeout_graceful_shutdown=GOODBYE_SECONDS,
        http=protocol(limits or limits_here()),
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not task.done():  # noqa: ASYNC110
        await asyncio.sleep(0.005)  # uvicorn has no event to wait for
    try:
        yield
    finally:
        server.should_exit = True
        with suppress(asyncio.CancelledError):
            await task


class Doorstep:
    """Answers while the well isn't open yet: alive, but not ready. So a process outlasts a store that is away at its start."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.open = False
        self._waits_for = ANSWER

    def wait(self, error: StoreError | None) -> None:
        """Say from now on in `/ready` that this keeps the process from beginning; not what a driver says, for anyone may ask.

        None: the store lets it begin.
        """
        self._waits_for = START if error is None else ANSWER if isinstance(error, StoreUnavailable) else str(error)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer for a well that isn't open."""
        if self.open or scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["path"] == "/health":
            await json_response({"data": {"alive": True}, "metadata": {}}, 200)(scope, receive, send)
            return
        more = {"waiting_for": self._waits_for} if scope["path"] == "/ready" else {}
        await refusal(StoreUnavailable("this process has not begun yet"), HTTPStatus.SERVICE_UNAVAILABLE, **more)(
            scope, receive, send
        )


def health_app(well: Well) -> Starlette:
    """`/health`, `/ready` and `/metrics` alone: what a runner shows."""
    look = Look(well)

    async def health(_request: Request) -> Response:
        return await probes.health(well)

    async def ready(_request: Request) -> Response:
        try:
            return await probes.readiness(well, look)
        except StepwellError as error:
            return refusal(error)

    async def metrics(request: Request) -> Response:
        return await probes.exposition(well, request)

    return Starlette(routes=[Route("/health", health), Route("/ready", ready), Route("/metrics", metrics)])


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to the process."""
        yield
