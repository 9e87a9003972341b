"""Every route of the gateway in one table: method, path, who may use it, and what it answers with."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from stepwell.gateway import acts, audit, documents, hooks, ingest, keys, pauses, probes, reads, requests
from stepwell.gateway.access import Access, Right

Endpoint = Callable[..., Coroutine[Any, Any, Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """One route. `right` is what it takes of whoever asks with a token.

    `answers` gives the document of each 2xx status, `body` that of the request, `problems` its own 4xx statuses.
    """

    method: str
    path: str
    access: Access
    endpoint: Endpoint
    answers: dict[int, Any]
    body: Any = None
    problems: tuple[int, ...] = ()
    kind: str = "application/json"
    right: Right | None = None


def _data(model: Any) -> Any:
    return documents.Answer[model]


def _read(path: str, endpoint: Endpoint, model: Any, right: Right) -> Route:
    """A question; for one thing by its id the answer may be that there is none."""
    problems = (404,) if "{" in path else ()
    return Route("GET", path, Access.API_KEY, endpoint, {200: _data(model)}, None, problems, right=right)


FUNCTIONS, EVENTS, RUNS = "", "events", "runs"
JSON_BODY = (408, 413, 415)

ROUTES: tuple[Route, ...] = (
    Route(
        "POST",
        "/e/{key}",
        Access.EVENT_KEY,
        ingest.ingest,
        {200: documents.Ingested},
        requests.EventRequest | list[requests.EventRequest],
        (400, 409, *JSON_BODY),
        right=Right("create", EVENTS),
    ),
    Route(
        "POST",
        "/hooks/{key_id}",
        Access.SIGNATURE,
        hooks.receive_hook,
        {200: documents.Ingested},
        Any,
        (400, 409, *JSON_BODY),
    ),
    _read("/v1/events", reads.list_events, list[documents.EventDocument], Right("list", EVENTS)),
    _read("/v1/events/{event_id}", reads.get_event, documents.EventWithFunctions, Right("get", EVENTS)),
    _read("/v1/events/{event_id}/runs", reads.get_event_runs, list[documents.RunInList], Right("list", RUNS)),
    _read("/v1/runs", reads.list_runs, list[documents.RunInList], Right("list", RUNS)),
    _read("/v1/runs/{run_id}", reads.get_run, documents.RunDocument, Right("get", RUNS)),
    Route(
        "DELETE",
        "/v1/runs/{run_id}",
        Access.API_KEY,
        acts.cancel_run,
        {200: _data(documents.CancelledRun)},
        None,
        (404, 409),
        right=Right("delete", RUNS),
    ),
    _read("/v1/runs/{run_id}/steps", reads.get_steps, list[documents.StepDocument], Right("get", RUNS)),
    Route(
        "POST",
        "/v1/runs/{run_id}/rerun",
        Access.API_KEY,
        acts.rerun,
        {201: _data(documents.RunRef)},
        None,
        (404,),
        right=Right("create", RUNS),
    ),
    Route(
        "POST",
        "/v1/cancellations",
        Access.API_KEY,
        acts.cancel_many,
        {200: _data(documents.Cancellation)},
        requests.CancellationRequest,
        (404, *JSON_BODY),
        right=Right("delete", RUNS),
    ),
    Route(
        "POST",
        "/v1/reruns",
        Access.API_KEY,
        acts.rerun_many,
        {200: _data(documents.Reruns)},
        requests.RerunRequest,
        (404, *JSON_BODY),
        right=Right("create", RUNS),
    ),
    Route(
        "POST",
        "/invoke/{function_id}",
        Access.API_KEY,
        acts.invoke,
        {201: _data(documents.RunRef), 200: _data(documents.RunDocument), 202: _data(documents.RunDocument)},
        requests.InvokeRequest,
        (404, *JSON_BODY),
        right=Right("create", RUNS),
    ),
    _read("/v1/functions", reads.list_functions, list[documents.FunctionDocument], Right("list", FUNCTIONS)),
    _read("/v1/functions/{function_id}", reads.get_function, documents.FunctionWithLedger, Right("get", FUNCTIONS)),
    Route(
        "POST",
        "/v1/functions/{function_id}/pause",
        Access.API_KEY,
        pauses.pause_function,
        {200: _data(documents.PauseDocument)},
        requests.PauseRequest,
        (404, *JSON_BODY),
        right=Right("update", RUNS),
    ),
    Route(
        "POST",
        "/v1/functions/{function_id}/resume",
        Access.API_KEY,
        pauses.resume_function,
        {200: _data(documents.Resumed)},
        None,
        (404, 409),
        right=Right("update", RUNS),
    ),
    _read("/v1/keys", keys.list_keys, list[documents.KeyDocument], Right("list", "keys")),
    Route(
        "POST",
        "/v1/keys",
        Access.API_KEY,
        keys.create_key,
        {201: _data(documents.NewKeyDocument)},
        requests.KeyRequest,
        (409, *JSON_BODY),
        right=Right("create", "keys"),
    ),
    Route(
        "DELETE",
        "/v1/keys/{key_id}",
        Access.API_KEY,
        keys.revoke_key,
        {200: _data(documents.RevokedKey)},
        None,
        (404,),
        right=Right("delete", "keys"),
    ),
    _read("/v1/audit", audit.list_audit, list[documents.ActDocument], Right("list", "audit")),
    Route("GET", "/health", Access.ANYONE, probes.health, {200: _data(documents.Health)}),
    Route("GET", "/ready", Access.ANYONE, probes.ready, {200: _data(documents.Readiness)}),
    Route("GET", "/metrics", Access.API_KEY, probes.metrics, {200: str}, kind="text/plain", right=Right("get", "metrics")),
    Route("GET", "/openapi.json", Access.API_KEY, probes.openapi, {200: dict[str, Any]}, right=Right("list", FUNCTIONS)),
)
"""Every route there is. One that is not in this table does not exist."""
