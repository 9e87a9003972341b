"""What the routes share: the well they serve, and paging."""

from typing import Annotated

from fastapi import Query, Request

from stepwell.engine.well import Well
from stepwell.errors import Unknown
from stepwell.store.records import RunRow

MOST_ROWS = 200

Limit = Annotated[int, Query(ge=1, le=MOST_ROWS, description="Rows on one page.")]
Cursor = Annotated[str | None, Query(max_length=2000, description="metadata.cursor of the page before.")]


async def the_well(request: Request) -> Well:
    """The well that this gateway serves."""
    well: Well = request.app.state.well
    return well


async def must_find(well: Well, run_id: str) -> RunRow:
    """The run; Unknown if there is none."""
    run = await well.store.run(run_id)
    if run is None:
        raise Unknown(f"there is no run {run_id!r}")
    return run
