"""Row 8: cron schedules and their ledger."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import stepwell
from stepwell import Context, Event
from stepwell.clock import from_datetime, to_datetime
from stepwell.decorator import Function
from stepwell.engine.run import RunStatus
from stepwell.engine.schedule import parse_cron
from stepwell.store.records import TickOutcome
from stepwell.testing import Durable


def ticking(expression: str, **options: Any) -> Function[Any, Any]:
    @stepwell.function(id="tick", triggers=[stepwell.on_cron(expression, **options), stepwell.on_event("go")])
    async def tick(ctx: Context) -> Any:
        await ctx.step.sleep("nap", ctx.event.data.get("nap", "0s"))
        return ctx.event.data.get("scheduledAt")

    return tick


async def outcomes(durable: Durable, expression: str) -> list[int]:
    return [outcome for _due, outcome, _reason, _run in reversed(await durable.store.ledger(f"tick/{expression}", 200))]


async def test_each_due_instant_has_one_ledger_row_and_one_run(durable: Durable) -> None:
    """A schedule fires at each of its instants once, and the ledger has a row for each; events start the function too."""
    function = ticking("*/10 * * * *")
    await durable.serve(function)
    await durable.advance(timedelta(hours=1))
    await durable.send_event(Event(name="go"))
    assert await outcomes(durable, "*/10 * * * *") == [TickOutcome.FIRED] * 6
    at = [await run.result() for run in await durable.runs(function)]
    assert at.count(None) == 1
    assert sorted(filter(None, at)) == [f"2026-01-05T{9 + minute // 60:02}:{minute % 60:02}:00Z" for minute in range(10, 70, 10)]


async def test_a_zone(durable: Durable) -> None:
    """`TZ=Zone` moves a schedule to that zone."""
    function = ticking("TZ=Europe/Paris 0 12 * * 5")
    await durable.serve(function)
    await durable.advance(timedelta(days=7))
    assert [await run.result() for run in await durable.runs(function)] == ["2026-01-09T11:00:00Z"]


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        ("Skip", {TickOutcome.FIRED: 0, TickOutcome.SKIPPED: 5}),
        ("Latest", {TickOutcome.FIRED: 1, TickOutcome.COALESCED: 2, TickOutcome.WINDOW_SKIPPED: 2}),
        ("All", {TickOutcome.FIRED: 3, TickOutcome.WINDOW_SKIPPED: 2}),
    ],
)
async def test_missed_ticks(durable: Durable, missed: str, expected: dict[TickOutcome, int]) -> None:
    """Instants that nobody was there for are skipped, coalesced into the latest, or all fired, within the window."""
    expression = "*/10 * * * *"
    function = ticking(expression, missed=missed, window="25m")
    await durable.serve(function)
    await durable.stop()
    await durable.clock.advance(timedelta(minutes=55))
    await durable.advance(timedelta(0))
    found = await outcomes(durable, expression)
    assert len(found) == 5
    assert {outcome: found.count(outcome) for outcome in expected} == expected
    assert len(await durable.runs(function)) == expected[TickOutcome.FIRED]


@pytest.mark.parametrize(
    ("overlap", "statuses"),
    [
        ("Allow", [RunStatus.SLEEPING, RunStatus.SLEEPING]),
        ("Skip", [RunStatus.SLEEPING]),
        ("Replace", [RunStatus.CANCELLED, RunStatus.SLEEPING]),
    ],
)
async def test_overlap(durable: Durable, overlap: str, statuses: list[RunStatus]) -> None:
    """While the run before is still going, a tick starts beside it, is skipped, or takes its place."""

    @stepwell.function(id="tick", triggers=[stepwell.on_cron("0 * * * *", overlap=overlap)])
    async def tick(ctx: Context) -> None:
        await ctx.step.sleep("nap", "5h")

    await durable.serve(tick)
    await durable.advance(timedelta(hours=2))
    assert [await run.status() for run in await durable.runs(tick)] == statuses
    assert len(await outcomes(durable, "0 * * * *")) == 2


@pytest.mark.parametrize("zone", ["Europe/Paris", "America/New_York", "Europe/London", "America/Santiago"])
@pytest.mark.parametrize("time", ["30 0", "30 1", "30 2", "0 3", "30 23"])
def test_fixed_times_fire_once_per_local_date(zone: str, time: str) -> None:
    """In a whole year a fixed time fires once on each local date: in the repeated hour once, in the spring gap at its end."""
    start, end = datetime(2026, 1, 2, 12, tzinfo=UTC), datetime(2027, 1, 2, 12, tzinfo=UTC)
    found = parse_cron(f"TZ={zone} {time} * * *").between(from_datetime(start), from_datetime(end), 400)
    local = [to_datetime(instant).astimezone(ZoneInfo(zone)) for instant in found]
    assert len(local) == 365
    assert len({one.date() for one in local}) == 365
    minute, hour = (int(part) for part in time.split())
    moved = [one for one in local if (one.hour, one.minute) != (hour, minute)]
    assert len(moved) <= 1
    assert all(one.minute == 0 for one in moved)


@pytest.mark.parametrize("zone", ["Europe/Paris", "America/New_York", "Europe/London", "America/Santiago"])
def test_every_hour_fires_at_each_real_hour(zone: str) -> None:
    """A schedule with `*` in the hour fires at each real hour, on the days the clocks change too."""
    start, end = datetime(2026, 1, 2, 12, tzinfo=UTC), datetime(2027, 1, 2, 12, tzinfo=UTC)
    found = parse_cron(f"TZ={zone} 0 * * * *").between(from_datetime(start), from_datetime(end), 10_000)
    assert len(found) == 365 * 24
    assert {after - before for before, after in zip(found, found[1:], strict=False)} == {3_600_000_000}


async def test_jitter_is_the_same_for_every_process(durable: Durable) -> None:
    """Jitter delays each start by a draw that only schedule and instant decide."""
    function = ticking("0 * * * *", jitter="5m")
    await durable.serve(function)
    await durable.advance(timedelta(hours=3))
    rows = [await run.row() for run in await durable.runs(function)]
    late = [(row.created - 3_600_000_000 * (row.created // 3_600_000_000)) / 1e6 for row in rows]
    assert len(late) in (2, 3)
    assert all(0 <= one < 300 for one in late)
    assert len(set(late)) > 1


@pytest.mark.parametrize(
    "expression", ["R * * * *", "H * * * *", "0 0 * * * *", "0 0 31 2 *", "TZ=Mars/Base 0 0 * * *", "nonsense"]
)
def test_what_cannot_be_a_schedule_is_refused(expression: str) -> None:
    """`R`, `H`, six fields, 31 February and unknown zones are refused at registration with the reason."""
    with pytest.raises(stepwell.StepwellError) as caught:
        stepwell.function(id="bad", triggers=[stepwell.on_cron(expression)])
    assert len(str(caught.value)) > 30


@pytest.mark.parametrize("macro", ["@hourly", "@daily", "@weekly", "@monthly", "@yearly"])
def test_macros(macro: str) -> None:
    """`@hourly` to `@yearly` are schedules."""
    stepwell.function(id="macro", triggers=[stepwell.on_cron(macro)])
