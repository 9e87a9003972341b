"""What the routes share: the well they serve, paging, and bodies that are what they should be."""

from typing import Annotated, TypeVar

from fastapi import Depends, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from stepwell.engine.well import Well
from stepwell.errors import Unknown
from stepwell.store.views import ProgressRow, RunRow

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


async def progress_of(well: Well, run: RunRow) -> list[ProgressRow]:
    """What a run's steps tell: at first hand where this process executes it, else as its runner's last beat had it."""
    if run.runner_id is None:
        return []
    if run.runner_id == well.hooks.runner_id:
        return [one.row for one in well.progress.of_run(run.run_id)]
    return await well.store.progress(run.run_id)
