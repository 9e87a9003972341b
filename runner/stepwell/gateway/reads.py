"""Routes that answer questions. They read the rows that the engine writes; nothing here lags behind."""

from typing import Annotated, Any

from fastapi import Query
from starlette.responses import Response

from stepwell.engine.run import RunStatus
from stepwell.engine.well import Well
from stepwell.errors import Unknown
from stepwell.gateway.answers import answer, make_cursor, page, read_cursor
from stepwell.gateway.explain import explain_event, explain_functions, explain_run
from stepwell.gateway.parts import Cursor, Limit, OneWell, must_find, progress_of
from stepwell.gateway.views import (
    event_view,
    event_with_functions,
    function_view,
    open_view,
    pause_view,
    run_in_list,
    run_view,
    schedule_view,
    step_view,
    tick_view,
)
from stepwell.store.records import StepKind
from stepwell.store.registry import FunctionRow, Registry, ScheduleRow
from stepwell.store.views import RunFilter
from stepwell.why import event_why

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
    return answer(run_view(run, await explain_run(well, run), await progress_of(well, run)), well.clock.now())


async def get_steps(run_id: str, well: OneWell) -> Response:
    """List a run's steps in the order recorded, with every failed try; then those that sleep, wait or are to be tried again."""
    run = await must_find(well, run_id)
    views = [step_view(recorded) for recorded in await well.store.steps(run_id)]
    between = await well.store.attempts_between(run_id)
    if between is not None:
        views.append(step_view(between))
    now, queued = well.clock.now(), run.status is RunStatus.QUEUED
    open_waits = [wait for wait in run.waits if wait.kind is not StepKind.CANCEL]
    views += [open_view(wait, is_due=queued and wait.due <= now) for wait in open_waits]
    return answer(views, now)


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
    """Show one event and, in `functions`, what it did: the runs it started, and why another function did not start.

    `why` says it in one sentence. What was not recorded when the event came in is worked out with the functions of now, and says
    so where one may have been another then.
    """
    event = await well.store.event(event_id)
    if event is None:
        raise Unknown(f"there is no event {event_id!r}")
    found = await explain_event(well, event)
    return answer(event_with_functions(event, found, event_why(event, found, well.clock.now())), well.clock.now())


async def get_event_runs(event_id: str, well: OneWell, limit: Limit = 20, cursor: Cursor = None) -> Response:
    """List the runs that an event started."""
    if await well.store.event(event_id) is None:
        raise Unknown(f"there is no event {event_id!r}")
    return await _page_of_runs(well, RunFilter(event_id=event_id, before=read_cursor(cursor), limit=limit + 1))


async def list_functions(well: OneWell, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """List the registered functions by id: configuration, schedules, and in `why` what holds one back, or that nothing does."""
    registry = await well.store.registry()
    after = read_cursor(cursor) or ""
    rows = sorted((row for row in registry.functions if row.function_id > after), key=lambda row: row.function_id)
    more = make_cursor(rows[limit - 1].function_id) if len(rows) > limit else None
    shown = rows[:limit]
    why = await explain_functions(well, shown, registry)
    views = [
        function_view(
            row,
            why[row.function_id],
            [schedule_view(one) for one in _schedules(registry, row.function_id)],
            _paused(registry, row, well),
        )
        for row in shown
    ]
    return page(views, well.clock.now(), more)


async def get_function(function_id: str, well: OneWell) -> Response:
    """Show one function, what holds it back, and for each of its schedules the last lines of the cron ledger."""
    registry = await well.store.registry()
    row = next((row for row in registry.functions if row.function_id == function_id), None)
    if row is None:
        raise Unknown(f"there is no function {function_id!r}")
    schedules = [
        {**schedule_view(one), "ledger": [tick_view(tick) for tick in await well.store.ledger(one.schedule_id, LEDGER_ROWS)]}
        for one in _schedules(registry, function_id)
    ]
    why = await explain_functions(well, [row], registry)
    return answer(function_view(row, why[function_id], schedules, _paused(registry, row, well)), well.clock.now())


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
