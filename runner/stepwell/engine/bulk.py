"""Many runs at once, by a filter: how many there are, cancel them, rerun them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from stepwell import values
from stepwell.engine.expression import Activation, Expression, compile_expression
from stepwell.engine.run import RunStatus
from stepwell.engine.well import Well
from stepwell.store.views import RunFilter, RunRow

PAGE = 200

LIVE = tuple(status for status in RunStatus if not status.is_final)
FINAL = tuple(status for status in RunStatus if status.is_final)


@dataclass(frozen=True, slots=True)
class Selection:
    """Runs of one function, created in a span of time, of some statuses, and for which `if_` (CEL) holds of their first event."""

    which: RunFilter
    statuses: tuple[RunStatus, ...]
    if_: str | None = None


async def count(well: Well, chosen: Selection) -> int:
    """How many runs are meant, as things stand now."""
    return len({row.run_id async for page in _pages(well, chosen) for row in page})


async def cancel(well: Well, chosen: Selection, by: str) -> int:
    """Cancel them; how many were. What is started meanwhile goes on."""
    chosen = replace(chosen, which=replace(chosen.which, created_before=chosen.which.created_before or well.clock.now() + 1))
    done: set[str] = set()
    # A run that changes its status meanwhile may slip past one look, so that the last of them has to find none.
    while found := await _cancel_seen(well, chosen, done, by):
        done |= found
    return len(done)


async def _cancel_seen(well: Well, chosen: Selection, done: set[str], by: str) -> set[str]:
    found: set[str] = set()
    async for page in _pages(well, chosen):
        rows = [row for row in page if row.run_id not in done | found]
        statuses = await asyncio.gather(*(well.cancel(row.run_id, by) for row in rows))
        found |= {row.run_id for row, status in zip(rows, statuses, strict=True) if status is RunStatus.CANCELLED}
    return found


async def rerun(well: Well, chosen: Selection) -> list[str]:
    """Start a new run for each; their ids."""
    made: list[str] = []
    seen: set[str] = set()
    async for page in _pages(well, chosen):
        rows = [row for row in page if row.run_id not in seen]
        seen |= {row.run_id for row in rows}
        made += await asyncio.gather(*(well.rerun(row.run_id) for row in rows))
    return made


async def _pages(well: Well, chosen: Selection) -> AsyncIterator[Sequence[RunRow]]:
    expression = compile_expression(chosen.if_, ("event",)) if chosen.if_ is not None else None
    for status in chosen.statuses:
        before: str | None = None
        while True:
            rows = await well.store.runs(replace(chosen.which, status=status, before=before, limit=PAGE))
            yield [row for row in rows if expression is None or _holds(expression, row)]
            if len(rows) < PAGE:
                break
            before = rows[-1].run_id


def _holds(expression: Expression, row: RunRow) -> bool:
    return expression.test(Activation(values.decode(row.input)[0])).matched
