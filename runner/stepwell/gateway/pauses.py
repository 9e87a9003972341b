"""Routes that pause and resume a function: its runs wait, and say because of whom."""

from fastapi import Request
from starlette.responses import Response

from stepwell.gateway.access import Caller, Kind
from stepwell.gateway.answers import PausedByManifest, answer
from stepwell.gateway.audit import Books
from stepwell.gateway.body import read_json
from stepwell.gateway.parts import OneWell, read_model
from stepwell.gateway.requests import PauseRequest
from stepwell.gateway.views import pause_view
from stepwell.store.registry import PauseRow
from stepwell.values import MAX_EVENT

BY_API, BY_MANIFEST = "api", "manifest"


async def pause_function(function_id: str, request: Request, well: OneWell, audit: Books) -> Response:
    """Have a function's runs wait: new ones and queued ones start when it is resumed; executions go on to their end or next rest.

    Cron ticks, events and time limits go on. 200 also if it was paused before; then that pause, and who made it, stays.
    """
    told = read_model(PauseRequest, await read_json(request, "request", MAX_EVENT))
    now = well.clock.now()
    by = _person(told, audit.caller)
    await audit.note("pause", f"functions/{function_id}", by=by, reason=told.reason)
    pause = await well.pause(PauseRow(function_id, now, by, told.reason, BY_API))
    return answer(pause_view(pause, now), now)


async def resume_function(function_id: str, well: OneWell, audit: Books) -> Response:
    """Let a paused function's runs go on. 409 if an annotation of its manifest pauses it."""
    pause = (await well.refresh()).pauses.get(function_id)
    if pause is not None and pause.source == BY_MANIFEST:
        raise PausedByManifest(
            f"{function_id!r} is paused by its manifest: take the annotation stepwell.dev/paused-by off the DurableFunction"
        )
    await audit.note("resume", f"functions/{function_id}")
    done = await well.resume(function_id)
    return answer({"function_id": function_id, "resumed": done}, well.clock.now())


def _person(told: PauseRequest, caller: Caller) -> str:
    """Who it was: the holder of a token; with a key, which many may hold, whoever they say they are."""
    return told.by if told.by is not None and caller.kind is not Kind.TOKEN else caller.name
