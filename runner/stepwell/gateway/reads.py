"""Routes that answer questions. They read the rows that the engine writes; nothing here lags behind."""

from typing import Annotated, Any

from fastapi import Query
from starlette.responses import Response

from stepwell.engine.run import RunStatus
from stepwell.engine.well import Well
from stepwell.errors import Unknown
from stepwell.gateway.answers import answer, make_cursor, page, read_cursor
from stepwell.gateway.parts import Cursor, Limit, OneWell, explain, must_find
from stepwell.gateway.views import (
    event_view,
    function_view,
    open_view,
    pause_view,
    reactions,
    run_in_list,
    run_view,
    schedule_view,
    step_view,
    tick_view,
)
from stepwell.store.records import FunctionRow, Registry, RunFilter, ScheduleRow, StepKind

LEDGER_ROWS = 20
Status = Annotated[
    str | None,
    Query(description="One of the run's statuses, in either case.", pattern=f"^(?i:{'|'.join(RunStatus)})$"),
]


async def list_runs(
    well: OneWell,
    function: Annotated[str | None, Query(max_length=300, description="Runs of this function alone.")] = None,
    status: Status = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Response:
    """List runs, newest first. An output over 64 KiB is left out here (`output_bytes` tells its size)."""
    wanted = RunStatus(status.lower()) if status is not None else None
    return await _page_of_runs(well, RunFilter(function_id=function, status=wanted, before=read_cursor(cursor), limit=limit + 1))


async def get_run(run_id: str, well: OneWell) -> Response:
    """Show one run; while it lives `waiting_for` says why it isn't moving, since when, and what happens next."""
    run = await must_find(well, run_id)
    return answer(run_view(run, await explain(well, run)), well.clock.now())


async def get_steps(run_id: str, well: OneWell) -> Response:
    """List a run's steps in the order recorded, with every failed try; then those that sleep, wait or are to be tried again."""
    run = await must_find(well, run_id)
    views = [step_view(recorded) for recorded in await well.store.steps(run_id)]
    between = await well.store.attempts_between(run_id)
    if between is not None:
        views.append(step_view(between))
    views += [open_view(wait) for wait in run.waits if wait.kind is not StepKind.CANCEL]
    return answer(views, well.clock.now())


async def list_events(
    well: OneWell,
    name: Annotated[str | None, Query(max_length=300, description="Events of this name alone.")] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Response:
    """List accepted events, newest first."""
    found = await well.store.events(name, read_cursor(cursor), limit + 1)
    more = make_cursor(found[limit - 1].id) if len(found) > limit else None
    return page([event_view(event) for event in found[:limit]], well.clock.now(), more)


async def get_event(event_id: str, well: OneWell) -> Response:
    """Show one event and, in `functions`, what it did: the runs it started, and why another function did not start."""
    event = await well.store.event(event_id)
    if event is None:
        raise Unknown(f"there is no event {event_id!r}")
    runs = await well.store.runs(RunFilter(event_id=event_id, limit=200))
    decisions = await well.store.decisions(event_id)
    return answer({**event_view(event), "functions": reactions(event, runs, decisions, well.registry)}, well.clock.now())


async def get_event_runs(event_id: str, well: OneWell, limit: Limit = 20, cursor: Cursor = None) -> Response:
    """List the runs that an event started."""
    if await well.store.event(event_id) is None:
        raise Unknown(f"there is no event {event_id!r}")
    return await _page_of_runs(well, RunFilter(event_id=event_id, before=read_cursor(cursor), limit=limit + 1))


async def list_functions(well: OneWell, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """List the registered functions by id, with their configuration and schedules."""
    registry = await well.store.registry()
    after = read_cursor(cursor) or ""
    rows = sorted((row for row in registry.functions if row.function_id > after), key=lambda row: row.function_id)
    more = make_cursor(rows[limit - 1].function_id) if len(rows) > limit else None
    views = [
        function_view(row, [schedule_view(one) for one in _schedules(registry, row.function_id)], _paused(registry, row, well))
        for row in rows[:limit]
    ]
    return page(views, well.clock.now(), more)


async def get_function(function_id: str, well: OneWell) -> Response:
    """Show one function, and for each of its schedules the last lines of the cron ledger."""
    registry = await well.store.registry()
    row = next((row for row in registry.functions if row.function_id == function_id), None)
    if row is None:
        raise Unknown(f"there is no function {function_id!r}")
    schedules = [
        {**schedule_view(one), "ledger": [tick_view(tick) for tick in await well.store.ledger(one.schedule_id, LEDGER_ROWS)]}
        for one in _schedules(registry, function_id)
    ]
    return answer(function_view(row, schedules, _paused(registry, row, well)), well.clock.now())


async def _page_of_runs(well: Well, which: RunFilter) -> Response:
    """A page from a filter that asks for one row more than the page has."""
    limit = which.limit - 1
    found = await well.store.runs(which)
    more = make_cursor(found[limit - 1].run_id) if len(found) > limit else None
    return page([run_in_list(run) for run in found[:limit]], well.clock.now(), more)


def _schedules(registry: Registry, function_id: str) -> list[ScheduleRow]:
    return [one for one in registry.schedules if one.function_id == function_id]


def _paused(registry: Registry, row: FunctionRow, well: Well) -> dict[str, Any] | None:
    return pause_view(next((one for one in registry.pauses if one.function_id == row.function_id), None), well.clock.now())
