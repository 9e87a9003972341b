"""What becomes of each due instant."""

from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwell.engine.schedule import ON_TIME, PAGE, PlannedTick, jitter_of, parse_cron, plan_ticks
from stepwell.spec.function import CronTrigger
from stepwell.store.records import TickOutcome

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
NOON = 1_767_268_800 * SECOND
"""2026-01-01T12:00:00Z."""

FIRED, COALESCED, SKIPPED, WINDOW = TickOutcome.FIRED, TickOutcome.COALESCED, TickOutcome.SKIPPED, TickOutcome.WINDOW_SKIPPED


def outcomes(trigger: CronTrigger, last_due: int, now: int) -> list[TickOutcome]:
    return [tick.outcome for tick in plan_ticks("s", trigger, last_due, now).ticks]


def drained(trigger: CronTrigger, last_due: int, now: int) -> list[PlannedTick]:
    """All that repeated planning accounts for until it has to wait."""
    made: list[PlannedTick] = []
    while True:
        plan = plan_ticks("s", trigger, last_due, now)
        made += plan.ticks
        if plan.next_due > now:
            return made
        last_due = plan.ticks[-1].due


def test_nothing_is_due_before_its_time() -> None:
    """Before the first instant there is nothing to account for, and the plan says when there will be."""
    plan = plan_ticks("s", CronTrigger("0 * * * *"), NOON, NOON + HOUR - 1)
    assert (plan.ticks, plan.next_due) == ((), NOON + HOUR)


def test_a_tick_fires_at_its_instant() -> None:
    """At the instant itself it is fired, and the next one follows from it."""
    plan = plan_ticks("s", CronTrigger("0 * * * *"), NOON, NOON + HOUR)
    assert [(tick.due, tick.outcome) for tick in plan.ticks] == [(NOON + HOUR, FIRED)]
    assert plan.next_due == NOON + 2 * HOUR


@pytest.mark.parametrize("missed", ["Skip", "Latest", "All"])
@pytest.mark.parametrize("late", [0, 1, ON_TIME])
def test_a_minute_late_is_on_time(missed: str, late: int) -> None:
    """Up to 60 s late is on time under every policy."""
    assert outcomes(CronTrigger.model_validate({"cron": "0 * * * *", "missed": missed}), NOON, NOON + HOUR + late) == [FIRED]


@pytest.mark.parametrize(
    ("missed", "window", "hours_away", "expected"),
    [
        ("Skip", "10h", 3, [SKIPPED] * 3),
        ("Latest", "10h", 3, [COALESCED, COALESCED, FIRED]),
        ("All", "10h", 3, [FIRED] * 3),
        ("Latest", "1h", 3, [WINDOW, WINDOW, FIRED]),
        ("All", "90m", 3, [WINDOW, COALESCED, FIRED]),
        ("Latest", "20m", 3, [WINDOW] * 3),
        ("All", "0s", 2, [WINDOW] * 2),
    ],
)
def test_missed_ticks_follow_the_policy_within_the_window(
    missed: str, window: str, hours_away: int, expected: list[TickOutcome]
) -> None:
    """Half an hour after the last of some hourly ticks: skipped, the latest fired, or all, and none from before the window."""
    trigger = CronTrigger.model_validate({"cron": "0 * * * *", "missed": missed, "window": window})
    if missed == "All":
        expected = [FIRED if one is COALESCED else one for one in expected]
    assert outcomes(trigger, NOON, NOON + hours_away * HOUR + 30 * MINUTE) == expected


def test_a_tick_on_time_stands_for_the_missed_ones_before_it() -> None:
    """Back at the moment of a tick, `Latest` fires that one alone, `Skip` too, and `All` every one."""
    now = NOON + 3 * HOUR
    assert outcomes(CronTrigger("0 * * * *", window="10h"), NOON, now) == [COALESCED, COALESCED, FIRED]
    assert outcomes(CronTrigger("0 * * * *", missed="Skip"), NOON, now) == [SKIPPED, SKIPPED, FIRED]
    assert outcomes(CronTrigger("0 * * * *", missed="All", window="10h"), NOON, now) == [FIRED] * 3


def test_all_catches_up_a_hundred() -> None:
    """Of 150 missed ticks the latest hundred are fired, and the ones before are coalesced."""
    found = outcomes(CronTrigger("* * * * *", missed="All", window="10h"), NOON, NOON + 151 * MINUTE + 30 * SECOND)
    assert found == [COALESCED] * 50 + [FIRED] * 101, "the hundred-and-first is on time"


@pytest.mark.parametrize(("missed", "caught_up"), [("Skip", 0), ("Latest", 0), ("All", 100)])
def test_a_long_absence_is_accounted_for_page_by_page(missed: str, caught_up: int) -> None:
    """After a week of minutes each one has its row, planned in pages, and the policy holds over all of them."""
    trigger = CronTrigger.model_validate({"cron": "* * * * *", "missed": missed, "window": "366d"})
    now = NOON + 7 * 24 * HOUR
    assert len(plan_ticks("s", trigger, NOON, now).ticks) == PAGE
    made = drained(trigger, NOON, now)
    assert [tick.due for tick in made] == parse_cron("* * * * *").between(NOON, now, 20_000)
    counted = Counter(tick.outcome for tick in made)
    assert sum(counted.values()) == 7 * 24 * 60
    on_time = 2  # the minute that is now, and the one 60 s ago
    assert counted[FIRED] == caught_up + on_time


def test_every_outcome_has_its_reason() -> None:
    """People read why a tick did not fire."""
    plan = plan_ticks("s", CronTrigger("0 * * * *", window="2h"), NOON, NOON + 4 * HOUR + 30 * MINUTE)
    assert [tick.reason for tick in plan.ticks] == [
        "3h30m late; the window is 2h",
        "2h30m late; the window is 2h",
        "1h30m late; the latest tick stands for it",
        "30m late",
    ]


def test_jitter_is_the_same_for_everybody_and_differs_between_instants() -> None:
    """The delay depends on schedule and instant alone, lies in [0, jitter), and spreads."""
    jitter = timedelta(seconds=30)
    found = [jitter_of("s", NOON + place * HOUR, jitter) for place in range(100)]
    assert found == [jitter_of("s", NOON + place * HOUR, jitter) for place in range(100)]
    assert all(0 <= one < 30 * SECOND for one in found)
    assert len(set(found)) > 90
    assert found != [jitter_of("t", NOON + place * HOUR, jitter) for place in range(100)]
    assert jitter_of("s", NOON, None) == 0


def test_a_tick_waits_for_its_jitter_and_is_not_missed_by_it() -> None:
    """A delayed tick is not ready before its delay is over, and lateness counts from then on."""
    trigger = CronTrigger("0 * * * *", jitter="5m", missed="Skip")
    delay = jitter_of("s", NOON + HOUR, timedelta(minutes=5))
    fires = NOON + HOUR + delay
    assert plan_ticks("s", trigger, NOON, NOON + HOUR).next_due == fires
    assert outcomes(trigger, NOON, fires - 1) == []
    assert outcomes(trigger, NOON, fires + ON_TIME) == [FIRED]
    assert outcomes(trigger, NOON, fires + ON_TIME + 1) == [SKIPPED]


CRON = st.sampled_from(
    ["* * * * *", "*/7 * * * *", "0 * * * *", "TZ=Europe/Paris 30 2 * * *", "TZ=Australia/Lord_Howe */20 * * * *"]
)


@settings(max_examples=60)
@given(
    cron=CRON,
    missed=st.sampled_from(["Skip", "Latest", "All"]),
    window=st.sampled_from(["0s", "30s", "10m", "5h", "3d"]),
    jitter=st.sampled_from([None, "1s", "5m"]),
    start=st.integers(0, 300 * 24 * 60),
    gaps=st.lists(st.integers(0, 2000) | st.integers(0, 3), min_size=1, max_size=12),
)
def test_each_due_instant_is_accounted_for_exactly_once(
    cron: str, missed: str, window: str, jitter: str | None, start: int, gaps: list[int]
) -> None:
    """Whenever and however often one plans, the ledger is the list of due instants, without gap or repetition."""
    trigger = CronTrigger.model_validate(
        {"cron": cron, "missed": missed, "window": window, **({"jitter": jitter} if jitter else {})}
    )
    now = last = created = NOON + start * MINUTE + 17 * SECOND
    ledger: list[int] = []
    for gap in gaps:
        now += gap * MINUTE // 2
        made = drained(trigger, last, now)
        ledger += [tick.due for tick in made]
        last = ledger[-1] if ledger else created
    plan = plan_ticks("s", trigger, last, now)
    assert plan.ticks == ()
    assert plan.next_due > now
    assert ledger == parse_cron(cron).between(created, last, 100_000)
    unaccounted = parse_cron(cron).between(last, now, 10)
    assert all(due + 5 * MINUTE > now for due in unaccounted), "only jitter holds one back"
    assert jitter is not None or not unaccounted
