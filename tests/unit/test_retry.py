"""When a failed try is made again."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.engine.retry import delay, next_try, retry_after
from stepwell.errors import NonRetriableError, RetryAfterError, SpecError, StepMisuse
from stepwell.spec.function import Backoff

NOW = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z."""


def seconds(length: timedelta) -> float:
    return length.total_seconds()


def test_the_default_is_the_table() -> None:
    """Without configuration the waits are 15 s, 30 s, 1, 2, 5, 10, 20, 40 min, 1 h, 2 h, and 2 h from then on."""
    waits = [seconds(delay(Backoff(), failed, 0.0)) for failed in range(1, 13)]
    assert waits == [15, 30, 60, 120, 300, 600, 1200, 2400, 3600, 7200, 7200, 7200]


def test_jitter_adds_up_to_thirty_seconds_to_the_table() -> None:
    """The draw moves the wait evenly between the table's length and 30 s more."""
    assert seconds(delay(Backoff(), 1, 0.5)) == 30
    assert seconds(delay(Backoff(jitter=0), 1, 0.5)) == 15


@pytest.mark.parametrize(
    ("backoff", "waits"),
    [
        (Backoff("fixed", base="5s"), [5, 5, 5, 5]),
        (Backoff("linear", base="10s", max="25s"), [10, 20, 25, 25]),
        (Backoff("exponential", base="1s", factor=3, max="10s"), [1, 3, 9, 10]),
        (Backoff("exponential"), [15, 30, 60, 120]),
        (Backoff(table=["1s", "4s"]), [1, 4, 4, 4]),
        (Backoff(table=["1s", "4s"], max="2s"), [1, 2, 2, 2]),
        (Backoff("exponential", base=0), [0, 0, 0, 0]),
    ],
)
def test_each_strategy_gives_its_waits(backoff: Backoff, waits: list[float]) -> None:
    """Fixed, linear, exponential and table lengths, cut off at `max`."""
    assert [seconds(delay(backoff, failed, 0.0)) for failed in range(1, 5)] == waits


@given(
    st.sampled_from(["fixed", "linear", "exponential"]),
    st.integers(1, 10**6),
    st.floats(1, 100),
    st.floats(0, 1, exclude_max=True),
)
def test_no_wait_is_longer_than_max_and_jitter(strategy: str, failed: int, factor: float, draw: float) -> None:
    """However many tries failed, the wait stays within `max` + `jitter`."""
    multiplied = {"factor": factor} if strategy == "exponential" else {}
    backoff = Backoff.model_validate({"strategy": strategy, "base": "7s", "max": "1h", "jitter": "10s", **multiplied})
    assert timedelta(0) <= delay(backoff, failed, draw) <= timedelta(hours=1, seconds=10)


@given(st.floats(1, 100), st.integers(1, 40))
def test_an_exponential_wait_never_shrinks(factor: float, failed: int) -> None:
    """Each failed try waits at least as long as the one before."""
    backoff = Backoff("exponential", base="1s", factor=factor, max="1d")
    assert delay(backoff, failed, 0) <= delay(backoff, failed + 1, 0)


def test_the_last_try_has_no_next() -> None:
    """`retries: 4` makes five tries: after the fifth there is none."""
    assert [next_try(ValueError(), Backoff(), attempt, 4, 0, NOW) is None for attempt in range(6)] == [False] * 4 + [True] * 2


@pytest.mark.parametrize("error", [NonRetriableError("no"), StepMisuse("no")])
def test_a_non_retriable_error_is_not_retried(error: Exception) -> None:
    """NonRetriableError ends the tries at once."""
    assert next_try(error, Backoff(), 0, 4, 0, NOW) is None


@pytest.mark.parametrize(
    ("after", "waits"),
    [
        (10, 10),
        (2.5, 2.5),
        (timedelta(minutes=1), 60),
        ("30s", 30),
        ("1h30m", 5400),
        ("120", 120),
        (datetime(2026, 1, 1, 0, 5, tzinfo=UTC), 300),
        ("Thu, 01 Jan 2026 00:10:00 GMT", 600),
        ("2026-01-01T01:15:00+01:00", 900),
        (0, 1),
        (-5, 1),
        ("0", 1),
        (datetime(1999, 1, 1, tzinfo=UTC), 1),
        (10**9, 86_400),
        (float("inf"), 86_400),
        (timedelta(days=400), 86_400),
        (datetime(2100, 1, 1, tzinfo=UTC), 86_400),
    ],
)
def test_retry_after_is_read_in_every_form_and_kept_in_bounds(after: float | timedelta | datetime | str, waits: float) -> None:
    """Seconds, timedelta, datetime, duration text, RFC 3339 and HTTP dates are understood and moved into 1 s to 24 h."""
    assert seconds(retry_after(after, NOW)) == waits
    assert next_try(RetryAfterError("later", after), Backoff(), 0, 4, 0.9, NOW) == NOW + waits * 1_000_000


@pytest.mark.parametrize("after", ["soon", "", "-5s", datetime(2026, 1, 1), float("nan"), "2026-01-01T00:00:00"])
def test_what_names_no_time_falls_back_to_the_back_off(after: float | datetime | str) -> None:
    """A wrong hint is a SpecError where it is read, and costs the run no retry."""
    with pytest.raises(SpecError):
        retry_after(after, NOW)
    assert next_try(RetryAfterError("later", after), Backoff("fixed", base="7s"), 0, 4, 0, NOW) == NOW + 7_000_000


def test_retry_after_counts_as_a_try() -> None:
    """An error that asks for a later try gets none beyond the retries."""
    assert next_try(RetryAfterError("later", 10), Backoff(), 4, 4, 0, NOW) is None
