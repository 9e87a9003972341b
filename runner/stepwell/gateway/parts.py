"""What the routes share: the well they serve, paging, and why a run is waiting."""

from typing import Annotated, TypeVar

from fastapi import Depends, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from stepwell.engine.well import Well
from stepwell.errors import Unknown
from stepwell.store.records import HELD, PauseRow, RunRow, StepKind
from stepwell.why import ALONE, Around, WaitingFor, waiting_for

M = TypeVar("M", bound=BaseModel)
MOST_ROWS = 200

Limit = Annotated[int, Query(ge=1, le=MOST_ROWS, description="Rows on one page.")]
Cursor = Annotated[str | None, Query(max_length=2000, description="metadata.cursor of the page before.")]


async def the_well(request: Request) -> Well:
    """The well that this gateway serves."""
    well: Well = request.app.state.well
    return well


OneWell = Annotated[Well, Depends(the_well)]


def read_model(kind: type[M], body: object) -> M:
    """The body as a document of this kind; RequestValidationError, without what was sent, if it is none."""
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False, include_input=False, include_context=False)) from None


async def must_find(well: Well, run_id: str) -> RunRow:
    """The run; Unknown if there is none."""
    run = await well.store.run(run_id)
    if run is None:
        raise Unknown(f"there is no run {run_id!r}")
    return run


async def explain(well: Well, run: RunRow) -> WaitingFor | None:
    """Why the run isn't moving, with what has to be looked up for that (nothing, for most runs)."""
    if run.status.is_final:
        return None
    now = well.clock.now()
    around = ALONE
    known = well.registry.known(run.function_id)
    tries = known.spec.retries + 1 if known is not None else ALONE.tries
    paused = await _pause_of(well, run)
    if paused is not None:
        around = Around(tries, paused=paused)
    elif run.blocked_on is not None:
        limit = _limit(well, run.function_id, run.blocked_on)
        around = Around(tries, tuple(await well.store.key_holders(run.blocked_on)), limit)
    elif run.due is not None and run.due <= now and run.runner_id is None:
        around = Around(tries, runners=await _runners(well, run))
    elif any(wait.kind is StepKind.RUN for wait in run.waits) or run.attempt:
        around = Around(tries)
    return waiting_for(run, now, around)


async def _pause_of(well: Well, run: RunRow) -> PauseRow | None:
    """Who paused the run's function; looked for again where the run knows of a pause and this process doesn't."""
    registry = well.registry
    if run.blocked_on is not None and run.blocked_on.startswith(HELD) and run.function_id not in registry.pauses:
        registry = await well.refresh()
    return registry.pauses.get(run.function_id)


async def _runners(well: Well, run: RunRow) -> int:
    """How many live runners would take the run: of its pool, with its function, not on their way out."""
    stats = await well.store.stats()
    return sum(
        run.pool in runner.pools and run.function_id in runner.functions and not runner.draining and runner.expires > stats.now
        for runner in stats.runners
    )


def _limit(well: Well, function_id: str, key: str) -> int:
    """The limit behind a concurrency key: the rule whose key has this shape."""
    known = well.registry.known(function_id)
    if known is None:
        return 0
    place, separator, _value = key.partition(":")
    for rule in known.spec.concurrency:
        own_place = function_id if rule.scope == "function" else ""
        if own_place == place and (rule.key is not None) == bool(separator):
            return rule.limit
    return 0
