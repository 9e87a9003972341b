"""When a failed try is made again. Pure."""

import math
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import cast

from stepwell.errors import NonRetriableError, RetryAfterError, SpecError
from stepwell.spec.duration import microseconds, parse_duration
from stepwell.spec.function import Backoff

SOONEST = timedelta(seconds=1)
LATEST = timedelta(hours=24)
"""What `RetryAfterError` asks for is moved into 1 s to 24 h."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def next_try(error: BaseException, backoff: Backoff, attempt: int, retries: int, draw: float, now: int) -> int | None:
    """The instant of the next try in µs, or None if the try `attempt` (from 0) was the last one of `retries` + 1.

    `draw` is a random number in [0, 1) for the jitter. An error that says when (`RetryAfterError`) is obeyed within 1 s to
    24 h; if what it says can't be read, the back-off stands in, for a wrong hint must not cost the run its retries.
    """
    if attempt >= retries or consists_of(error, NonRetriableError):
        return None
    if isinstance(error, RetryAfterError):
        try:
            return now + microseconds(retry_after(error.after, now))
        except SpecError:
            pass
    return now + microseconds(delay(backoff, attempt + 1, draw))


def consists_of(error: BaseException, *kinds: type[BaseException]) -> bool:
    """Whether an error is of these kinds, or a group (of a TaskGroup, say) of nothing but such errors."""
    if isinstance(error, BaseExceptionGroup):
        return all(consists_of(one, *kinds) for one in cast("BaseExceptionGroup[BaseException]", error).exceptions)
    return isinstance(error, kinds)


def delay(backoff: Backoff, failed_attempts: int, draw: float) -> timedelta:
    """How long to wait after this many failed tries (1 or more): the strategy's length, at most `max`, plus draw x jitter."""
    return min(_plain(backoff, max(failed_attempts, 1)), backoff.ceiling) + backoff.spread * draw


def retry_after(after: float | timedelta | datetime | str, now: int) -> timedelta:
    """How long from `now` (µs) what a `Retry-After` says, moved into 1 s to 24 h.

    Seconds (also as text), a timedelta, an aware datetime, text such as "30s", an RFC 3339 time or an HTTP date.
    Raise SpecError if it is none of these.
    """
    if isinstance(after, timedelta):
        length = after
    elif isinstance(after, datetime):
        length = _until(after, now)
    elif isinstance(after, str):
        length = _from_text(after.strip(), now)
    else:
        length = _seconds(after)
    return min(max(length, SOONEST), LATEST)


def _plain(backoff: Backoff, failed: int) -> timedelta:
    match backoff.strategy:
        case "table":
            return backoff.table[min(failed, len(backoff.table)) - 1]
        case "fixed":
            return backoff.first
        case "linear":
            return min(backoff.first.total_seconds() * failed, backoff.ceiling.total_seconds()) * timedelta(seconds=1)
        case "exponential":
            return _power(backoff, failed - 1)


def _power(backoff: Backoff, exponent: int) -> timedelta:
    base, factor, ceiling = backoff.first.total_seconds(), backoff.growth, backoff.ceiling.total_seconds()
    if base == 0:
        return timedelta(0)
    # compared as logarithms, so that a large factor can't overflow
    if math.log(base) + exponent * math.log(factor) >= math.log(max(ceiling, 1e-6)):
        return backoff.ceiling
    return timedelta(seconds=base * factor**exponent)


def _seconds(value: float) -> timedelta:
    if isinstance(value, bool) or value != value:  # noqa: PLR0124 - not a number, for integers of any size
        raise SpecError(f"{value!r} is no time to retry after")
    return timedelta(seconds=min(max(value, 0), LATEST.total_seconds()))


def _from_text(text: str, now: int) -> timedelta:
    if text.isascii() and text.isdigit():
        return _seconds(float(text))
    try:
        return parse_duration(text)
    except SpecError:
        return _until(_date(text), now)


def _date(text: str) -> datetime:
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            return read(text)
        except (ValueError, TypeError, IndexError):
            continue
    raise SpecError(f"{text!r} is no time to retry after: use seconds, '30s', a timedelta, an aware datetime or an HTTP date")


def _until(moment: datetime, now: int) -> timedelta:
    if moment.tzinfo is None:
        raise SpecError(f"{moment!r} has no time zone, so it names no instant; use an aware datetime")
    return timedelta(microseconds=microseconds(moment - _EPOCH) - now)
