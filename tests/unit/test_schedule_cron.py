"""The cron grammar, and the rule for the days on which clocks are moved."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.engine.schedule import parse_cron, rfc3339
from stepwell.errors import SpecError


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).astimezone(UTC).timestamp()) * 1_000_000


def ticks(cron: str, after: str, until: str) -> list[str]:
    return [rfc3339(due) for due in parse_cron(cron).between(at(after), at(until), 1000)]


@pytest.mark.parametrize(
    ("cron", "first"),
    [
        ("* * * * *", "2026-01-01T00:01:00Z"),
        ("*/15 * * * *", "2026-01-01T00:15:00Z"),
        ("5/20 * * * *", "2026-01-01T00:05:00Z"),
        ("0 12 * * 5", "2026-01-02T12:00:00Z"),
        ("0 12 * * FRI", "2026-01-02T12:00:00Z"),
        ("0 12 * * fri-sat", "2026-01-02T12:00:00Z"),
        ("0 0 * * 7", "2026-01-04T00:00:00Z"),
        ("0 0 * * 0", "2026-01-04T00:00:00Z"),
        ("0 0 * * 5-7", "2026-01-02T00:00:00Z"),
        ("0 0 1 FEB,mar *", "2026-02-01T00:00:00Z"),
        ("30 4 1,15 * *", "2026-01-01T04:30:00Z"),
        ("0 0 29 2 *", "2028-02-29T00:00:00Z"),
        ("@hourly", "2026-01-01T01:00:00Z"),
        ("@daily", "2026-01-02T00:00:00Z"),
        ("@midnight", "2026-01-02T00:00:00Z"),
        ("@weekly", "2026-01-04T00:00:00Z"),
        ("@monthly", "2026-02-01T00:00:00Z"),
        ("@yearly", "2027-01-01T00:00:00Z"),
        ("@annually", "2027-01-01T00:00:00Z"),
        ("TZ=Europe/Paris 0 12 * * 5", "2026-01-02T11:00:00Z"),
        ("CRON_TZ=America/New_York @daily", "2026-01-01T05:00:00Z"),
        ("TZ=UTC  0  6 * * *", "2026-01-01T06:00:00Z"),
    ],
)
def test_the_grammar_is_five_fields_or_a_macro_with_a_zone(cron: str, first: str) -> None:
    """Each form is read and fires first where it should."""
    assert rfc3339(parse_cron(cron).next_after(at("2026-01-01T00:00:00Z"))) == first


@pytest.mark.parametrize(
    ("cron", "reason"),
    [
        ("", "five fields"),
        ("* * * *", "five fields"),
        ("0 0 * * * *", "seconds and years are not supported"),
        ("0 0 * * * * 2026", "seconds and years are not supported"),
        ("R * * * *", "`R`"),
        ("R(0-9) * * * *", "`R`"),
        ("* R * * *", "`R`"),
        ("H H * * *", "`H`"),
        ("H/15 * * * *", "`H`"),
        ("0 0 L * *", "`L`"),
        ("0 0 * * 5L", "`L`"),
        ("0 0 * * L5", "`L`"),
        ("0 0 15W * *", "`L` and `W`"),
        ("0 0 LW * *", "`L`"),
        ("0 0 * * 1#2", "`#`"),
        ("0 0 ? * *", "`\\?`"),
        ("@reboot", "no '@reboot'"),
        ("@every 5m", "five fields"),
        ("60 * * * *", "0-59"),
        ("* 24 * * *", "0-23"),
        ("* * 0 * *", "1-31"),
        ("* * * 13 *", "1-12 or JAN-DEC"),
        ("* * * * 8", "0-7 or SUN-SAT"),
        ("* * * FOO *", "1-12 or JAN-DEC"),
        ("* * * * JAN", "0-7 or SUN-SAT"),
        ("*/0 * * * *", "at least 1"),
        ("0 22-2 * * *", "two ranges, 22-23,0-2"),
        ("1,,2 * * * *", "is not"),
        ("*-5 * * * *", "is not"),
        ("1-2-3 * * * *", "is not"),
        ("-1 * * * *", "is not"),
        ("1.5 * * * *", "is not"),
        ("٣ * * * *", "is not"),
        ("0 0 31 2 *", "never fires"),
        ("0 0 30 2 *", "never fires"),
        ("0 0 31 4,6,9,11 *", "never fires"),
        ("TZ=Europe/Pariss * * * * *", "did you mean Europe/Paris"),
        ("TZ=Mars/Base * * * * *", "no time zone 'Mars/Base'"),
        ("TZ= * * * * *", "no time zone"),
        ("TZ=../../etc/passwd * * * * *", "no time zone"),
        ("TZ=/etc/localtime * * * * *", "no time zone"),
        ("TZ=localtime * * * * *", "no time zone"),
        ("TZ=Europe * * * * *", "no time zone"),
        ("TZ=right/Europe/Paris * * * * *", "no time zone"),
        ("* * * * * TZ=UTC", "seconds and years|TZ=Zone"),
        ("* * * TZ=UTC", "TZ=Zone stands before"),
        ("0 " * 200, "at most 255"),
    ],
)
def test_everything_else_is_refused_with_the_reason(cron: str, reason: str) -> None:
    """What other crons take, or what never fires, is refused, and the message says why."""
    with pytest.raises(SpecError, match=reason):
        parse_cron(cron)


def test_both_day_fields_are_or_ed() -> None:
    """With a day of month and a day of week, either is enough; `*/n` restricts as a list does."""
    assert ticks("0 0 13 * 5", "2026-02-01T00:00:00Z", "2026-02-21T00:00:00Z") == [
        "2026-02-06T00:00:00Z",
        "2026-02-13T00:00:00Z",
        "2026-02-20T00:00:00Z",
    ]
    assert ticks("0 0 */10 * 1", "2026-02-01T00:00:00Z", "2026-02-12T00:00:00Z") == [
        "2026-02-02T00:00:00Z",
        "2026-02-09T00:00:00Z",
        "2026-02-11T00:00:00Z",
    ]


def test_equal_schedules_are_equal_however_they_are_written() -> None:
    """Two texts that fire at the same instants by the same rule are the same schedule."""
    assert parse_cron("@hourly") == parse_cron("0  * * * *") == parse_cron("TZ=UTC 0 */1 * * *")
    assert parse_cron("0 0 * * 7") == parse_cron("0 0 * * SUN")
    assert parse_cron("0 0-23 * * *") != parse_cron("0 * * * *"), "one follows the clock, the other counts local times"
    assert parse_cron("@daily") != parse_cron("TZ=Europe/Paris @daily")


@pytest.mark.parametrize(
    ("zone", "cron", "after", "until", "expected"),
    [
        # Europe/Paris: 2026-03-29 02:00 -> 03:00 (01:00Z), 2026-10-25 03:00 -> 02:00 (01:00Z)
        (
            "Europe/Paris",
            "30 2 * * *",
            "2026-03-28T12:00:00Z",
            "2026-03-30T12:00:00Z",
            ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
        ),
        ("Europe/Paris", "0,15,45 2 * * *", "2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z", ["2026-03-29T01:00:00Z"]),
        ("Europe/Paris", "0 2,3 * * *", "2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z", ["2026-03-29T01:00:00Z"]),
        ("Europe/Paris", "30 2 * * *", "2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z", ["2026-10-25T00:30:00Z"]),
        (
            "Europe/Paris",
            "*/30 2 * * *",
            "2026-10-24T12:00:00Z",
            "2026-10-25T12:00:00Z",
            ["2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z"],
        ),
        (
            "Europe/Paris",
            "0 */2 * * *",
            "2026-03-28T22:00:00Z",
            "2026-03-29T04:00:00Z",
            ["2026-03-28T23:00:00Z", "2026-03-29T02:00:00Z", "2026-03-29T04:00:00Z"],
        ),
        (
            "Europe/Paris",
            "0 */2 * * *",
            "2026-10-24T22:00:00Z",
            "2026-10-25T03:00:00Z",
            ["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T03:00:00Z"],
        ),
        (
            "Europe/Paris",
            "30 * * * *",
            "2026-10-24T23:45:00Z",
            "2026-10-25T02:00:00Z",
            ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"],
        ),
        (
            "Europe/Paris",
            "30 * * * *",
            "2026-03-29T00:00:00Z",
            "2026-03-29T02:00:00Z",
            ["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"],
        ),
        # America/New_York: 2026-03-08 02:00 -> 03:00 (07:00Z), 2026-11-01 02:00 -> 01:00 (06:00Z)
        ("America/New_York", "15 2 * * *", "2026-03-08T00:00:00Z", "2026-03-08T12:00:00Z", ["2026-03-08T07:00:00Z"]),
        ("America/New_York", "15 1 * * *", "2026-11-01T00:00:00Z", "2026-11-01T12:00:00Z", ["2026-11-01T05:15:00Z"]),
        # Australia/Lord_Howe moves by half an hour: 2026-10-04 02:00 -> 02:30 (15:30Z), 2026-04-05 02:00 -> 01:30 (15:00Z)
        ("Australia/Lord_Howe", "10 2 * * *", "2026-10-03T12:00:00Z", "2026-10-03T20:00:00Z", ["2026-10-03T15:30:00Z"]),
        ("Australia/Lord_Howe", "45 1 * * *", "2026-04-04T12:00:00Z", "2026-04-04T20:00:00Z", ["2026-04-04T14:45:00Z"]),
        (
            "Australia/Lord_Howe",
            "45 * * * *",
            "2026-04-04T14:00:00Z",
            "2026-04-04T16:00:00Z",
            ["2026-04-04T14:45:00Z", "2026-04-04T15:15:00Z"],
        ),
        # America/Santiago skips midnight: 2026-09-06 00:00 -> 01:00 (04:00Z)
        (
            "America/Santiago",
            "0 0 * * *",
            "2026-09-05T12:00:00Z",
            "2026-09-07T12:00:00Z",
            ["2026-09-06T04:00:00Z", "2026-09-07T03:00:00Z"],
        ),
        ("America/Santiago", "@daily", "2026-04-04T12:00:00Z", "2026-04-05T12:00:00Z", ["2026-04-05T04:00:00Z"]),
    ],
)
def test_the_rule_on_days_when_clocks_move(zone: str, cron: str, after: str, until: str, expected: list[str]) -> None:
    """A fixed time fires once per date, in the gap at its end; `*` in the hour fires at each real interval, never in the gap."""
    assert ticks(f"TZ={zone} {cron}", after, until) == expected


@pytest.mark.parametrize(
    "start", ["2026-10-25T00:30:00Z", "2026-10-25T00:45:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:15:00Z"]
)
def test_asking_within_the_repeated_hour_loses_nothing(start: str) -> None:
    """From any instant of the repeated hour the rest of it is found."""
    every = ticks("TZ=Europe/Paris */15 * * * *", "2026-10-24T23:00:00Z", "2026-10-25T02:00:00Z")
    assert len(every) == 12
    assert ticks("TZ=Europe/Paris */15 * * * *", start, "2026-10-25T02:00:00Z") == [tick for tick in every if tick > start]


def test_an_instant_with_seconds_is_followed_by_the_next_minute() -> None:
    """The next tick after 00:00:30 is 00:01:00, and after a tick's own instant the following one."""
    cron = parse_cron("* * * * *")
    assert cron.next_after(30_000_001) == 60_000_000
    assert cron.next_after(60_000_000) == 120_000_000
    assert cron.next_after(59_999_999) == 60_000_000


@given(st.text(alphabet="0123456789*/,-@LWRH#?JANSU =TZ", max_size=30))
def test_no_text_breaks_the_reader(text: str) -> None:
    """Any text is a schedule that fires or a SpecError."""
    try:
        cron = parse_cron(text)
    except SpecError:
        return
    assert cron.next_after(0) > 0
