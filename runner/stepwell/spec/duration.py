"""Lengths of time as people write them: `250ms`, `30s`, `5m`, `2h`, `3d`, `1w`, joined as `1h30m`."""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

from stepwell.errors import SpecError

DurationLike = str | timedelta | float
"""What is taken as a length of time: text such as `1h30m`, a timedelta, or a number of seconds."""

UNITS = {"w": 604_800_000_000, "d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1_000}
"""µs of each unit, the largest first."""

PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d|w))+$"
LONGEST = 400 * UNITS["d"]
"""Nothing in Stepwell lasts longer; a longer one is a slip (each place has a limit of its own on top)."""
MOST_SECONDS = LONGEST // UNITS["s"]

_PART = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)(ms|s|m|h|d|w)", re.ASCII)
_TEXT_MAX = 64


def parse_duration(value: DurationLike) -> timedelta:
    """Read a length of time, at least 0 and exact to the µs; a bare number is seconds. Raise SpecError otherwise."""
    if isinstance(value, timedelta):
        length = value
    elif isinstance(value, str):
        length = timedelta(microseconds=_read(value))
    elif isinstance(value, bool) or not isinstance(value, (int, float)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SpecError(
            f"a duration is text such as '30s' or '1h30m', a timedelta, or a number of seconds, not {str(value)[:60]!r}"
        )
    elif not -MOST_SECONDS <= value <= MOST_SECONDS:  # not a number, endless, or beyond anything
        raise SpecError("so many seconds are no length of time that can be waited for (the longest is 400d)")
    else:
        length = timedelta(seconds=value)
    if length < timedelta(0):
        raise SpecError(f"{value!r} is negative; a duration is 0 or more")
    if microseconds(length) > LONGEST:
        raise SpecError(f"{format_duration(length)} is longer than anything can last here (400d)")
    return length


def format_duration(length: timedelta) -> str:
    """Write a length of time so that `parse_duration` gives it back: `1h30m`, `250ms`, `0s`."""
    rest = microseconds(length)
    if rest < 0:
        raise SpecError(f"{length!r} is negative; a duration is 0 or more")
    parts: list[str] = []
    for unit, size in UNITS.items():
        count, rest = divmod(rest, size)
        if unit == "ms" and rest:
            parts.append(f"{count}.{rest:03}".rstrip("0") + unit)
        elif count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def microseconds(length: timedelta) -> int:
    """The length in whole µs, exactly."""
    return length // timedelta(microseconds=1)


def _read(text: str) -> int:
    compact = text.strip()
    if not compact or len(compact) > _TEXT_MAX:
        raise _unreadable(text)
    total, place = 0.0, 0
    exact = 0
    while place < len(compact):
        part = _PART.match(compact, place)
        if part is None:
            raise _unreadable(text)
        number, unit = part.groups()
        if "." in number:
            total += float(number) * UNITS[unit]
        else:
            exact += int(number) * UNITS[unit]
        place = part.end()
    if exact + total > LONGEST:
        raise SpecError(f"{text!r} is longer than anything can last here (400d)")
    return exact + round(total)


def _unreadable(text: str) -> SpecError:
    shown = text if len(text) <= _TEXT_MAX else text[:_TEXT_MAX] + "…"
    bare = text.strip()
    hint = f"; with a unit: '{bare}s'" if bare.isdecimal() and len(bare) <= _TEXT_MAX else ""
    return SpecError(f"{shown!r} is not a duration: write 250ms, 30s, 5m, 2h, 3d or 1w, joined as 1h30m{hint}")


def _validated(value: object) -> timedelta:
    try:
        return parse_duration(value)  # type: ignore[arg-type]
    except SpecError as error:
        raise PydanticCustomError("duration", "{text}", {"text": error.message}) from None


Duration = Annotated[
    timedelta,
    BeforeValidator(_validated),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "maxLength": _TEXT_MAX, "pattern": PATTERN}),
]
"""A timedelta in a pydantic model, read by `parse_duration` and written by `format_duration`."""
