"""Every route of the gateway in one table: method, path, who may use it, and what it answers with."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from stepwell.gateway import acts, documents, ingest, probes, reads
from stepwell.gateway.access import Access

Endpoint = Callable[..., Coroutine[Any, Any, Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """One route. `answers` gives the document of each 2xx status, `body` that of the request, `problems` its own 4xx statuses."""

    method: str
    path: str
    access: Access
    endpoint: Endpoint
    answers: dict[int, Any]
    body: Any = None
    problems: tuple[int, ...] = ()
    kind: str = "application/json"


def _data(model: Any) -> Any:
    return documents.Answer[model]


ROUTES: tuple[Route, ...] = (
    Route(
        "POST",
        "/e/{key}",
        Access.EVENT_KEY,
        ingest.ingest,
        {200: documents.Ingested},
        documents.EventRequest | list[documents.EventRequest],
        (400, 408, 409, 413, 415),
    ),
    Route("GET", "/v1/events", Access.API_KEY, reads.list_events, {200: _data(list[documents.EventDocument])}),
    Route(
        "GET", "/v1/events/{event_id}", Access.API_KEY, reads.get_event, {200: _data(documents.EventWithFunctions)}, None, (404,)
    ),
    Route(
        "GET",
        "/v1/events/{event_id}/runs",
        Access.API_KEY,
        reads.get_event_runs,
        {200: _data(list[documents.RunInList])},
        None,
        (404,),
    ),
    Route("GET", "/v1/runs", Access.API_KEY, reads.list_runs, {200: _data(list[documents.RunInList])}),
    Route("GET", "/v1/runs/{run_id}", Access.API_KEY, reads.get_run, {200: _data(documents.RunDocument)}, None, (404,)),
    Route("DELETE", "/v1/runs/{run_id}", Access.API_KEY, acts.cancel_run, {200: _data(documents.CancelledRun)}, None, (404, 409)),
    Route(
        "GET",
        "/v1/runs/{run_id}/steps",
        Access.API_KEY,
        reads.get_steps,
        {200: _data(list[documents.StepDocument])},
        None,
        (404,),
    ),
    Route("POST", "/v1/runs/{run_id}/rerun", Access.API_KEY, acts.rerun, {201: _data(documents.RunRef)}, None, (404,)),
    Route(
        "POST",
        "/v1/cancellations",
        Access.API_KEY,
        acts.cancel_many,
        {200: _data(documents.Cancellation)},
        documents.CancellationRequest,
        (404, 408, 413, 415),
    ),
    Route(
        "POST",
        "/invoke/{function_id}",
        Access.API_KEY,
        acts.invoke,
        {201: _data(documents.RunRef), 200: _data(documents.RunDocument), 202: _data(documents.RunDocument)},
        documents.InvokeRequest,
        (404, 408, 413, 415),
    ),
    Route("GET", "/v1/functions", Access.API_KEY, reads.list_functions, {200: _data(list[documents.FunctionDocument])}),
    Route(
        "GET",
        "/v1/functions/{function_id}",
        Access.API_KEY,
        reads.get_function,
        {200: _data(documents.FunctionWithLedger)},
        None,
        (404,),
    ),
    Route("GET", "/health", Access.ANYONE, probes.health, {200: _data(documents.Health)}),
    Route("GET", "/ready", Access.ANYONE, probes.ready, {200: _data(documents.Readiness)}),
    Route("GET", "/metrics", Access.API_KEY, probes.metrics, {200: str}, kind="text/plain"),
    Route("GET", "/openapi.json", Access.API_KEY, probes.openapi, {200: dict[str, Any]}),
)
"""Every route there is. One that is not in this table does not exist."""
