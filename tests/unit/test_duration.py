"""Lengths of time as text."""

import contextlib
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.errors import SpecError
from stepwell.spec.duration import format_duration, microseconds, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("30s", 30),
        ("5m", 300),
        ("2h", 7200),
        ("3d", 259_200),
        ("1w", 604_800),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("0s", 0),
    ],
)
def test_text_is_read_in_every_unit_and_joined(text: str, seconds: float) -> None:
    """Each unit is read, alone and joined."""
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(("value", "seconds"), [(90, 90), (0.5, 0.5), (timedelta(minutes=2), 120), (0, 0)])
def test_numbers_are_seconds_and_timedeltas_are_themselves(value: float | timedelta, seconds: float) -> None:
    """A number is seconds; a timedelta is taken as it is."""
    assert parse_duration(value) == timedelta(seconds=seconds)


NO_LENGTHS: list[object] = [
    *("", " ", "5", "5 m", "m", "5x", "-5s", "1h-5m", "5M", "1e3s", "٣s", "9" * 100 + "s", "500d", "1.s", "5m,"),
    *(True, None, [], -1, -0.1, float("nan"), float("inf"), 1e300, 10**400, timedelta(seconds=-1), timedelta(days=500)),
]


@pytest.mark.parametrize("value", NO_LENGTHS)
def test_everything_else_is_refused(value: object) -> None:
    """What is no length of time, negative or endless is a SpecError and nothing else."""
    with pytest.raises(SpecError):
        parse_duration(value)  # type: ignore[arg-type]


def test_a_bare_number_as_text_is_told_its_unit() -> None:
    """Text without a unit is answered with the text that was probably meant."""
    with pytest.raises(SpecError, match="'30s'"):
        parse_duration("30")


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=400)))
def test_what_is_written_reads_back_exactly(length: timedelta) -> None:
    """Formatting and parsing are inverse, to the microsecond."""
    assert parse_duration(format_duration(length)) == length


@given(st.text(max_size=30))
def test_no_text_breaks_the_reader(text: str) -> None:
    """Any text is a length of time or a SpecError."""
    with contextlib.suppress(SpecError):
        assert microseconds(parse_duration(text)) >= 0


@pytest.mark.parametrize(
    ("seconds", "text"), [(5400, "1h30m"), (0.25, "250ms"), (0, "0s"), (604_800, "1w"), (0.000_001, "0.001ms")]
)
def test_lengths_are_written_short(seconds: float, text: str) -> None:
    """The text uses the largest units and leaves out what is zero."""
    assert format_duration(timedelta(seconds=seconds)) == text
