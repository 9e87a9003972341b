"""The gateway's application: the table of routes behind the gate."""

from http import HTTPStatus
from typing import cast

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from stepwell.engine.well import Well
from stepwell.errors import StepwellError
from stepwell.gateway.access import Access, NotAdmittedError
from stepwell.gateway.answers import plain_problem, refusal
from stepwell.gateway.doorkeeper import Doorkeeper
from stepwell.gateway.gate import SAFE_METHODS, Gate
from stepwell.gateway.ingest import result_of
from stepwell.gateway.places import Places
from stepwell.gateway.rates import Rates
from stepwell.gateway.readiness import Look
from stepwell.gateway.refusals import Refusals
from stepwell.gateway.routes import ROUTES, Route
from stepwell.settings import GatewaySettings


def make_app(well: Well, settings: GatewaySettings) -> FastAPI:
    """The gateway of one well as an ASGI application; whoever opened the well closes it.

    A missing or wrong key is a 401, after too many from one address a 429; an unknown path is a 404, a method that a path lacks a
    405 with `Allow`. Every error is a problem document; while the store is away it is a 503 with Retry-After.
    """
    app = FastAPI(
        title="Stepwell",
        version="1",
        description="Events in, durable runs to look at.",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.well = well
    app.state.settings = settings
    app.state.doorkeeper = Doorkeeper(well, settings)
    app.state.rates = Rates(settings.events_per_second)
    app.state.places = Places(settings.max_in_flight)
    app.state.look = Look(well)
    app.state.refusals = Refusals()
    app.state.document = None
    for route in ROUTES:
        _add(app, route)
    app.add_exception_handler(StepwellError, _known_error)
    app.add_exception_handler(RequestValidationError, _not_as_described)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(NotAdmittedError, _locked)
    app.add_middleware(Gate, settings=settings, places=app.state.places, metrics=well.metrics)
    return app


def _add(app: FastAPI, route: Route) -> None:
    async def admit(request: Request) -> None:
        doorkeeper: Doorkeeper = request.app.state.doorkeeper
        request.state.access = route.access
        request.state.caller = await doorkeeper.admit(route.access, route.right, request)

    name = route.endpoint.__name__
    app.add_api_route(
        route.path,
        route.endpoint,
        methods=[route.method],
        operation_id=name,
        summary=name.replace("_", " ").capitalize(),
        status_code=min(route.answers),
        response_class=Response,
        response_model=None,
        dependencies=[Depends(admit)],
    )


async def _known_error(request: Request, error: Exception) -> Response:
    _count(request, error)
    return refusal(cast("StepwellError", error))


async def _locked(request: Request, error: Exception) -> Response:
    refused = cast("NotAdmittedError", error)
    _count(request, refused)
    if refused.caller is not None and request.method not in SAFE_METHODS:
        refusals: Refusals = request.app.state.refusals
        await refusals.note(request, refused.caller)
    return refused.response()


def _count(request: Request, error: Exception) -> None:
    """Count what an error keeps out of a route that takes events: each event, as far as that many are known by then."""
    if getattr(request.state, "access", None) in {Access.EVENT_KEY, Access.SIGNATURE}:
        well: Well = request.app.state.well
        well.metrics.event_received(result_of(error), getattr(request.state, "offered", 1))


async def _not_as_described(_request: Request, error: Exception) -> Response:
    """What is wrong where; never the value itself."""
    faults = [
        {"path": ".".join(str(part) for part in fault["loc"]), "message": str(fault["msg"])}
        for fault in cast("RequestValidationError", error).errors()
    ]
    first = f"{faults[0]['path']}: {faults[0]['message']}" if faults else "the request is not as described in /openapi.json"
    return plain_problem(422, first, errors=faults)


async def _http_error(request: Request, error: Exception) -> Response:
    _count(request, error)
    status, detail = cast("HTTPException", error).status_code, cast("HTTPException", error).detail
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = _methods(request)
        detail = f"{request.url.path} knows {allowed} only"
        return plain_problem(status, detail, {"Allow": allowed})
    if status == HTTPStatus.NOT_FOUND:
        detail = f"there is nothing at {request.url.path}; GET /openapi.json lists what there is"
    return plain_problem(status, detail, cast("HTTPException", error).headers)


def _methods(request: Request) -> str:
    """The methods of every route at this path, for `Allow`."""
    found: set[str] = set()
    for route in request.app.routes:
        if isinstance(route, APIRoute) and route.matches(request.scope)[0] is not Match.NONE:
            found |= set(route.methods or ())
    return ", ".join(sorted(found))
