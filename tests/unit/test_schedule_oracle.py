"""Cron instants against an independent implementation, cronsim, in four zones, days of clock changes included.

Where the two differ by design, and so are not compared:
- day of month and day of week: cronsim takes a field that begins with `*` as unrestricted (Debian's rule), ours `*` alone;
- a range of one value with a step (`5-5/2`): cronsim reads it as `5/2`, ours as the range that it is;
- `*` in the hour at Lord Howe, where clocks are moved by half an hour: cronsim goes by whole hours and leaps over some
  (looking at the clock minute by minute, in a test of its own below, stands in for it);
- which schedules follow the clock: cronsim's have a `*` at the beginning of minute or hour, ours one in the hour.
"""

from datetime import UTC, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from stepwell.engine.schedule import parse_cron

ZONES = ("Europe/Paris", "America/New_York", "Australia/Lord_Howe", "America/Santiago")
CHANGES = tuple(
    datetime(year, month, day, hour, tzinfo=UTC)
    for year in (2024, 2026)
    for month, day, hour in (
        (3, 29, 1),
        (3, 31, 1),
        (10, 25, 1),
        (10, 27, 1),
        (3, 8, 7),
        (3, 10, 7),
        (11, 1, 6),
        (11, 3, 6),
        (4, 4, 15),
        (4, 6, 15),
        (10, 3, 15),
        (10, 5, 15),
        (4, 5, 3),
        (4, 7, 3),
        (9, 6, 4),
        (9, 8, 4),
    )
)


def one_of(least: int, most: int) -> st.SearchStrategy[str]:
    number = st.integers(least, most)
    span = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    wide = st.tuples(st.integers(least, most - 1), st.integers(1, most)).map(
        lambda pair: f"{pair[0]}-{min(pair[0] + pair[1], most)}"
    )
    stepped = st.tuples(wide, st.integers(1, 5)).map(lambda pair: f"{pair[0]}/{pair[1]}")
    tail = st.tuples(number, st.integers(2, 7)).map(lambda pair: f"{pair[0]}/{pair[1]}")
    return number.map(str) | span | stepped | tail | st.lists(number.map(str), min_size=1, max_size=3).map(",".join)


def starred(least: int, most: int) -> st.SearchStrategy[str]:
    return st.just("*") | st.integers(2, max(most // 2, 2)).map(lambda step: f"*/{step}") | one_of(least, most)


CRONS = st.tuples(
    starred(0, 59),
    st.just("*") | starred(0, 23) | one_of(0, 4),
    st.just("*") | one_of(1, 28),
    st.just("*") | one_of(1, 12),
    st.just("*") | one_of(0, 6),
).map(" ".join)


def compared(cron: str, zone: str, start: datetime, hours: int) -> tuple[list[datetime], list[datetime]]:
    end = start + timedelta(hours=hours)
    ours = parse_cron(f"TZ={zone} {cron}").between(int(start.timestamp()) * 1_000_000, int(end.timestamp()) * 1_000_000, 20_000)
    # begun a day early, for cronsim does not tell the two passes of a repeated hour apart where it begins
    theirs = (tick.astimezone(UTC) for tick in CronSim(cron, (start - timedelta(days=1)).astimezone(ZoneInfo(zone))))
    expected = [tick for tick in takewhile(lambda tick: tick <= end, theirs) if tick > start]
    return [datetime.fromtimestamp(due // 1_000_000, UTC) for due in ours], expected


def is_comparable(cron: str, zone: str) -> bool:
    minute, hour, *_days = cron.split()
    same_rule = not minute.startswith("*") or "*" in hour
    return same_rule and not (zone == "Australia/Lord_Howe" and "*" in hour)


def differences(ours: list[datetime], theirs: list[datetime]) -> list[datetime]:
    """The first instants that only one of them has; a few, for thousands can't be read."""
    assert ours == sorted(set(ours))
    return sorted(set(ours) ^ set(theirs))[:5]


@pytest.mark.parametrize("zone", ZONES)
@settings(max_examples=150)
@given(cron=CRONS, change=st.sampled_from(CHANGES), before=st.integers(0, 40 * 60))
def test_instants_around_clock_changes_are_the_oracles(zone: str, cron: str, change: datetime, before: int) -> None:
    """In the two days around a change of clocks both give the same instants."""
    assume(is_comparable(cron, zone))
    ours, theirs = compared(cron, zone, change - timedelta(minutes=before), 48)
    assert differences(ours, theirs) == []


@pytest.mark.parametrize("zone", ZONES)
@settings(max_examples=60)
@given(cron=CRONS, day=st.integers(0, 3000))
def test_instants_on_any_day_are_the_oracles(zone: str, cron: str, day: int) -> None:
    """Through five days anywhere in eight years both give the same instants."""
    assume(is_comparable(cron, zone))
    ours, theirs = compared(cron, zone, datetime(2023, 1, 1, tzinfo=UTC) + timedelta(days=day), 120)
    assert differences(ours, theirs) == []


@settings(max_examples=100)
@given(cron=CRONS, zone=st.sampled_from(ZONES), change=st.sampled_from(CHANGES), before=st.integers(0, 600))
def test_a_schedule_that_follows_the_clock_fires_whenever_the_clock_shows_its_time(
    cron: str, zone: str, change: datetime, before: int
) -> None:
    """Looking at a clock on the wall minute by minute, through a change, gives the same instants."""
    minute, hour, *days = cron.split()
    followed = " ".join([minute, hour if "*" in hour else f"*/{len(hour)}", *days])
    start = change - timedelta(minutes=before)
    shown = CronSim(followed, datetime(2024, 1, 1, tzinfo=UTC))  # for what it has read alone
    walls = [start.replace(second=0) + timedelta(minutes=place) for place in range(1, 24 * 60 + 1)]
    expected = [wall for wall in walls if fits(shown, wall.astimezone(ZoneInfo(zone)))]
    until = int(walls[-1].timestamp()) * 1_000_000
    ours = parse_cron(f"TZ={zone} {followed}").between(int(start.timestamp()) * 1_000_000, until, 10_000)
    assert differences([datetime.fromtimestamp(due // 1_000_000, UTC) for due in ours], expected) == []


def fits(shown: CronSim, wall: datetime) -> bool:
    if wall.minute not in shown.minutes or wall.hour not in shown.hours or wall.month not in shown.months:
        return False
    weekdays = {7 if day == 0 else day for day in shown.weekdays}
    by_day, by_weekday = wall.day in shown.days, wall.isoweekday() in weekdays
    return by_day and by_weekday if shown.day_and else by_day or by_weekday


@settings(max_examples=60)
@given(cron=CRONS, zone=st.sampled_from(ZONES), change=st.sampled_from(CHANGES), before=st.integers(0, 3000))
def test_stepping_and_listing_agree(cron: str, zone: str, change: datetime, before: int) -> None:
    """Asking for the next instant again and again gives what listing gives: nothing depends on where one begins."""
    parsed = parse_cron(f"TZ={zone} {cron}")
    start = int((change - timedelta(minutes=before)).timestamp()) * 1_000_000
    listed = parsed.between(start, start + 86_400_000_000 * 400, 40)
    stepped: list[int] = []
    for _tick in listed:
        start = parsed.next_after(start)
        stepped.append(start)
    assert stepped == listed
    assert listed == sorted(set(listed))
