"""Cron ticks: one ledger row per due instant, and overlaps decided against the schedule's last run."""

import asyncio
from typing import Any

import orjson
import pytest
from conformance.build import SECOND, T0, Well, done, event, run_id, start, tick, turn

from stepwell.engine.run import RunStatus
from stepwell.store.records import EventFate, Tick, TickOutcome, TriggerKind
from stepwell.store.registry import FunctionRow, ScheduleRow
from stepwell.store.results import News

SKIP, REPLACE = 1, 2


async def scheduled(well: Well) -> None:
    """The schedule `s` of the function `f`."""
    await well.store.register(
        "tests",
        [FunctionRow("f", "r1", "p", "tests", b"{}")],
        [ScheduleRow("s", "f", b'{"cron":"* * * * *"}', created=T0, last_due=T0, next_due=T0 + 60 * SECOND)],
    )


def firing(number: int, due: int, overlap: int = 0) -> dict[str, Any]:
    """A tick, its event and the run that it starts."""
    return {
        "ticks": (tick(due, run_id=run_id(number), overlap=overlap),),
        "events": (event("stepwell/scheduled.timer", id=f"tick-{due}", tick=0),),
        "starts": (start(number, event=0, trigger=TriggerKind.CRON, event_ids=(f"tick-{due}",)),),
    }


async def schedule(well: Well) -> ScheduleRow:
    """The schedule as it stands."""
    (row,) = (await well.store.registry()).schedules
    return row


async def test_a_tick_fires_once(well: Well) -> None:
    """A due instant is written to the ledger once with its run; again it is accounted for and starts nothing."""
    await scheduled(well)
    pile = firing(1, T0 + 60 * SECOND)
    first = await well.commit(**pile)
    assert (first.ticks, first.events, first.starts[0].landed) == ((TickOutcome.FIRED,), (EventFate.ACCEPTED,), True)
    again = await well.commit(**pile)
    assert (again.ticks, again.events, again.starts[0].landed) == ((None,), (EventFate.REFUSED,), False)
    other = await well.commit(**firing(2, T0 + 60 * SECOND))
    assert (other.ticks, other.starts[0].landed) == ((None,), False)
    assert await well.store.ledger("s", 10) == [(T0 + 60 * SECOND, TickOutcome.FIRED, "on time", run_id(1))]
    assert await well.status(2) is None


async def test_ticks_race(well: Well) -> None:
    """Of many processes that fire one due instant at once exactly one does."""
    await scheduled(well)
    results = await asyncio.gather(*(well.commit(**firing(number, T0 + 60 * SECOND)) for number in range(1, 9)))
    assert sorted((one.ticks[0] is TickOutcome.FIRED for one in results), reverse=True) == [True] + [False] * 7
    assert len(await well.claimed()) == 1


async def test_a_schedule_only_moves_on(well: Well) -> None:
    """A tick moves its schedule to the next due instant, and an older one does not move it back."""
    await scheduled(well)
    await well.commit(ticks=(tick(T0 + 120 * SECOND),))
    moved = await schedule(well)
    assert (moved.last_due, moved.next_due) == (T0 + 120 * SECOND, T0 + 180 * SECOND)
    result = await well.commit(ticks=(tick(T0 + 60 * SECOND, TickOutcome.SKIPPED),))
    assert result.ticks == (TickOutcome.SKIPPED,)
    assert await schedule(well) == moved


@pytest.mark.parametrize("outcome", [TickOutcome.COALESCED, TickOutcome.SKIPPED, TickOutcome.WINDOW_SKIPPED])
async def test_a_tick_that_does_not_fire(well: Well, outcome: TickOutcome) -> None:
    """A missed instant is written with its reason, and what it guards does not happen."""
    await scheduled(well)
    missed = Tick("s", T0 + 60 * SECOND, outcome, "because", T0 + 120 * SECOND)
    result = await well.commit(ticks=(missed,), events=(event("tick", tick=0),))
    assert (result.ticks, result.events) == ((outcome,), (EventFate.REFUSED,))
    assert await well.store.ledger("s", 10) == [(T0 + 60 * SECOND, outcome, "because", None)]


async def test_the_ledger_comes_newest_first(well: Well) -> None:
    """A schedule's ledger comes newest first, as many rows as asked for."""
    await scheduled(well)
    await well.commit(ticks=tuple(tick(T0 + number * 60 * SECOND, TickOutcome.SKIPPED) for number in (1, 2, 3)))
    assert [row[0] for row in await well.store.ledger("s", 2)] == [T0 + 180 * SECOND, T0 + 120 * SECOND]
    assert await well.store.ledger("t", 2) == []


async def test_overlap_allowed(well: Well) -> None:
    """With overlap allowed a tick fires though the run before is still going."""
    await scheduled(well)
    await well.commit(**firing(1, T0 + 60 * SECOND))
    assert (await well.commit(**firing(2, T0 + 120 * SECOND))).ticks == (TickOutcome.FIRED,)
    assert await well.status(1) is RunStatus.QUEUED


async def test_overlap_skipped(well: Well) -> None:
    """With overlap skipped a tick starts nothing while the run before lives, and fires again once it has ended."""
    await scheduled(well)
    await well.commit(**firing(1, T0 + 60 * SECOND, SKIP))
    skipped = await well.commit(**firing(2, T0 + 120 * SECOND, SKIP))
    assert (skipped.ticks, skipped.events, skipped.starts[0].landed) == (
        (TickOutcome.OVERLAP_SKIPPED,),
        (EventFate.REFUSED,),
        False,
    )
    (row, _first) = await well.store.ledger("s", 10)
    assert (row[1], row[3]) == (TickOutcome.OVERLAP_SKIPPED, None)
    assert (await schedule(well)).next_due == T0 + 180 * SECOND
    claimed = await well.resumed(1)
    await well.commit(turns=(turn(claimed, then=done()),))
    assert (await well.commit(**firing(3, T0 + 180 * SECOND, SKIP))).ticks == (TickOutcome.FIRED,)


async def test_overlap_replaced(well: Well) -> None:
    """With overlap replaced a tick cancels the run before, whose holder is told, and fires."""
    await scheduled(well)
    await well.commit(**firing(1, T0 + 60 * SECOND, REPLACE))
    claimed = await well.resumed(1)
    result = await well.commit(**firing(2, T0 + 120 * SECOND, REPLACE))
    assert (result.ticks, result.starts[0].landed, result.touched) == ((TickOutcome.FIRED,), True, (run_id(1),))
    row = await well.store.run(run_id(1))
    assert row is not None
    assert row.status is RunStatus.CANCELLED
    assert row.value is not None
    assert orjson.loads(row.value) == {"name": "Replaced", "message": "a newer tick replaced this run"}
    assert await well.news((claimed, 0)) == [News(run_id(1), -1)]
    again = await well.commit(**firing(3, T0 + 120 * SECOND, REPLACE))
    assert (again.ticks, await well.status(2)) == ((None,), RunStatus.QUEUED)


async def test_overlap_within_a_pile(well: Well) -> None:
    """Ticks of one pile follow one another: with overlap replaced, the last run that lives is the last one fired."""
    await scheduled(well)
    await well.commit(**firing(1, T0 + 60 * SECOND, REPLACE))
    result = await well.commit(
        ticks=(
            tick(T0 + 120 * SECOND, run_id=run_id(2), overlap=REPLACE),
            tick(T0 + 180 * SECOND, TickOutcome.COALESCED),
        ),
        events=(event("tick", id="t2", tick=0),),
        starts=(start(2, event=0, trigger=TriggerKind.CRON),),
    )
    assert result.ticks == (TickOutcome.FIRED, TickOutcome.COALESCED)
    assert (await well.status(1), await well.status(2)) == (RunStatus.CANCELLED, RunStatus.QUEUED)


async def test_a_replaced_run_takes_no_turn(well: Well) -> None:
    """A turn in the pile whose tick replaces its run is fenced."""
    await scheduled(well)
    await well.commit(**firing(1, T0 + 60 * SECOND))
    claimed = await well.resumed(1)
    result = await well.commit(**firing(2, T0 + 120 * SECOND, REPLACE), turns=(turn(claimed, then=done()),))
    assert (result.turns[0].landed, result.fenced) == (False, 1)
    assert await well.status(1) is RunStatus.CANCELLED
