"""Alive, ready, figures, and what this API is: for machines."""

from fastapi import Request
from starlette.responses import Response

from stepwell.engine.well import Well
from stepwell.gateway.answers import NO_STORE, answer, json_response
from stepwell.gateway.openapi import describe
from stepwell.gateway.parts import OneWell
from stepwell.gateway.readiness import Look


async def health(well: OneWell) -> Response:
    """Say that the process lives. It never asks the store: a pod isn't restarted because a database is away."""
    return answer({"alive": True}, well.clock.now())


async def ready(well: OneWell, request: Request) -> Response:
    """Say whether requests can be served: 200 while the store answers and the registry is known, else 503.

    The store is asked once a second at most. `registry_version` is the store's; `functions` counts those that this process knows.
    """
    return await readiness(well, request.app.state.look)


async def readiness(well: Well, look: Look) -> Response:
    """The same, by this look at the store."""
    data = {"ready": True, "registry_version": await look.version(), "functions": len(well.registry.all)}
    return answer(data, well.clock.now())


async def metrics(well: OneWell, request: Request) -> Response:
    """Give the figures of this process and the live ones of the store, in Prometheus' text format."""
    await well.metrics.look(well.store, well.clock)
    return await exposition(well, request)


async def exposition(well: Well, request: Request) -> Response:
    """The figures as they are known now, without asking the store."""
    well.metrics.store_connections(*well.store.connections)
    body, headers = await well.metrics.exposition(request.headers.get("Accept-Encoding", ""))
    return Response(body, headers={**NO_STORE, **headers})


async def openapi(request: Request) -> Response:
    """Describe this API."""
    if request.app.state.document is None:
        request.app.state.document = describe(request.app)
    return json_response(request.app.state.document, 200)
