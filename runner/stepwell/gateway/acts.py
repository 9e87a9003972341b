"""Routes that change something: invoke, cancel, rerun."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated
from urllib.parse import quote

from fastapi import Query, Request
from starlette.responses import Response

from stepwell.clock import from_datetime
from stepwell.engine import bulk
from stepwell.engine.run import RunStatus
from stepwell.engine.well import Well
from stepwell.errors import SpecError, Unknown
from stepwell.gateway.answers import AlreadyEnded, answer
from stepwell.gateway.audit import Audit, Books
from stepwell.gateway.body import read_json
from stepwell.gateway.explain import explain_run
from stepwell.gateway.parts import OneWell, must_find, progress_of, read_model
from stepwell.gateway.places import Places
from stepwell.gateway.requests import BulkRequest, CancellationRequest, InvokeRequest, RerunRequest
from stepwell.gateway.views import run_view
from stepwell.store.views import RunFilter, RunRow
from stepwell.values import MAX_EVENT

LONGEST_WAIT = 300
FIRST_LOOK = 0.01
LAST_LOOK = 0.5
Seconds = Annotated[
    float | None, Query(ge=0, le=LONGEST_WAIT, description="Answer when the run has ended, or after so many seconds.")
]


async def invoke(function_id: str, request: Request, well: OneWell, audit: Books, wait: Seconds = None) -> Response:
    """Start a run of one function, whatever its triggers say; the body is `{"data": {…}}`.

    201: the run is stored. With `?wait=seconds` the answer comes when the run has ended: 200 with the whole run (its `status` may
    be FAILED), or 202 with the run as it is when the time is up. Too many who wait at once hear 503, and nothing was started.
    """
    told = read_model(InvokeRequest, await read_json(request, "request", MAX_EVENT))
    await _must_know(well, function_id)
    if wait is None:
        return _made(await _invoked(well, audit, function_id, told), function_id, well)
    places: Places = request.app.state.places
    with places.wait():
        run = await _ended(well, await _invoked(well, audit, function_id, told), wait)
    view = run_view(run, await explain_run(well, run), await progress_of(well, run))
    return answer(view, well.clock.now(), status=200 if run.status.is_final else 202)


async def cancel_run(run_id: str, well: OneWell, audit: Books) -> Response:
    """Cancel a live run. 200: nothing more is recorded for it (also if it was cancelled before). 409: it has ended otherwise."""
    await audit.note("cancel", f"runs/{run_id}")
    status = await well.cancel(run_id, audit.caller.name)
    if status is not RunStatus.CANCELLED:
        raise AlreadyEnded(f"run {run_id!r} has ended already: {status.upper()}")
    return answer({"run_id": run_id, "status": status.upper()}, well.clock.now())


async def rerun(run_id: str, well: OneWell, audit: Books) -> Response:
    """Start a new run of the same function with the same events; the old one stays as it is."""
    before = await must_find(well, run_id)
    await audit.note("rerun", f"runs/{run_id}", function=before.function_id)
    return _made(await well.rerun(run_id), before.function_id, well)


async def cancel_many(request: Request, well: OneWell, audit: Books) -> Response:
    """Cancel the live runs of a function that were created in a span of time and for which `if` holds; `dry_run` counts them.

    Runs that start later are not touched: `started_before` is now unless given, and never in the future.
    """
    told = read_model(CancellationRequest, await read_json(request, "request", MAX_EVENT))
    chosen = await _selection(well, told, [RunStatus(status.lower()) for status in told.status] or bulk.LIVE)
    matched = await bulk.count(well, chosen)
    cancelled = 0
    if not told.dry_run:
        await audit.note("cancel runs", f"functions/{told.function_id}", matched=matched, status=told.status)
        cancelled = await bulk.cancel(well, chosen, audit.caller.name)
    return answer({"matched": matched, "cancelled": cancelled}, well.clock.now())


async def rerun_many(request: Request, well: OneWell, audit: Books) -> Response:
    """Start ended runs of a function anew, each with its own events; those that failed unless `status` says others.

    `dry_run` counts them. The old runs stay as they are; asked again, they are started again.
    """
    told = read_model(RerunRequest, await read_json(request, "request", MAX_EVENT))
    chosen = await _selection(well, told, [RunStatus(status.lower()) for status in told.status])
    matched = await bulk.count(well, chosen)
    made: list[str] = []
    if not told.dry_run:
        await audit.note("rerun runs", f"functions/{told.function_id}", matched=matched, status=told.status)
        made = await bulk.rerun(well, chosen)
    return answer({"matched": matched, "run_ids": made}, well.clock.now())


async def _selection(well: Well, told: BulkRequest, statuses: Sequence[RunStatus]) -> bulk.Selection:
    """The runs that are meant; SpecError if their time lies ahead, Unknown if there is no such function."""
    now = well.clock.now()
    before = _instant(told.started_before)
    if before is not None and before > now:
        raise SpecError("must not be in the future; leave it out for now", "started_before")
    await _must_know(well, told.function_id)
    which = RunFilter(
        function_id=told.function_id,
        created_after=_instant(told.started_after),
        created_before=before if before is not None else now,
    )
    return bulk.Selection(which, tuple(dict.fromkeys(statuses)), told.if_)


async def _must_know(well: Well, function_id: str) -> None:
    """Unknown if there is no such function, looking once more where this process hasn't heard of it, or that it is resumed."""
    if function_id not in well.registry.functions and (await well.refresh()).known(function_id) is None:
        raise Unknown(f"there is no function {function_id!r}; GET /v1/functions lists those that are registered")


async def _invoked(well: Well, audit: Audit, function_id: str, told: InvokeRequest) -> str:
    await audit.note("invoke", f"functions/{function_id}")
    return await well.invoke(function_id, told.data)


def _made(run_id: str, function_id: str, well: Well) -> Response:
    data = {"run_id": run_id, "function_id": function_id, "status": RunStatus.QUEUED.upper()}
    return answer(data, well.clock.now(), status=201, headers={"Location": f"/v1/runs/{quote(run_id, safe='')}"})


async def _ended(well: Well, run_id: str, seconds: float) -> RunRow:
    """The run once it has ended, or as it is when the time is up."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    pause = FIRST_LOOK
    while True:
        run = await must_find(well, run_id)
        left = until - loop.time()
        if run.status.is_final or left <= 0:
            return run
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 1.5, LAST_LOOK)


def _instant(moment: datetime | None) -> int | None:
    return None if moment is None else from_datetime(moment)
