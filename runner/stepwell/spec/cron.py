"""Cron expressions: our grammar, croniter's arithmetic, our rule for the days on which clocks are moved.

Grammar: five fields (minute, hour, day of month, month, day of week), each `*`, `a`, `a-b`, with `/n` behind, or a list of
these; month and day names; 0 and 7 are Sunday; or `@hourly`, `@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly`,
`@annually`. `TZ=Zone ` or `CRON_TZ=Zone ` before it names the time zone; UTC without. If both day fields are restricted
(anything but `*`), a day that fits either is enough, as in every cron.

Clocks: a schedule whose hour field has no `*` fires once per local date and time: the repeated hour of autumn counts
once (its first pass), and what lies in the gap of spring fires at the gap's end. A schedule with `*` in the hour field
fires whenever a clock on the wall shows one of its times: twice in the repeated hour, never in the gap.
"""

import difflib
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice, takewhile
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from croniter import CroniterBadDateError, croniter

from stepwell.errors import SpecError

MAX_LENGTH = 255
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
US = timedelta(microseconds=1)
LONGEST_SHIFT = timedelta(hours=3)
"""No clock has been put back by more since 1900."""

MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    least: int
    most: int
    names: tuple[str, ...] = ()
    first: int = 0


FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, MONTHS, 1),
    _Field("day of week", 0, 7, DAYS),
)


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression that fires. Two are equal if they fire at the same instants by the same rule. Instants are µs, UTC."""

    text: str = field(compare=False)
    zone: str
    fields: str
    """The five fields with every value written out."""
    follows_clock: bool
    """Whether the hour has a `*`: it fires at each real interval instead of once per local time."""

    def next_after(self, instant: int) -> int:
        """The first instant after this one."""
        return next(self.after(instant))

    def between(self, after: int, until: int, limit: int) -> list[int]:
        """The first instants after `after`, up to and with `until`, at most `limit`."""
        return list(islice(takewhile(lambda due: due <= until, self.after(after)), limit))

    def after(self, instant: int) -> Iterator[int]:
        """All instants after this one, ascending."""
        zone = _zone(self.zone)
        found = self._at_each_showing(instant, zone) if self.follows_clock else self._once_per_date(instant, zone)
        last = instant
        for due in found:
            if due > last:
                yield due
                last = due

    def _once_per_date(self, instant: int, zone: ZoneInfo) -> Iterator[int]:
        for wall in _walls(self.fields, _wall(instant, zone)):
            early, late = _instants(wall, zone)
            yield _gap_end(late, early, zone) if late < early else early

    def _at_each_showing(self, instant: int, zone: ZoneInfo) -> Iterator[int]:
        start = _wall(instant, zone)
        put_back = start - _wall(instant + LONGEST_SHIFT // US, zone) + LONGEST_SHIFT
        second_pass: deque[int] = deque()
        for wall in _walls(self.fields, start - max(put_back, timedelta(0))):
            early, late = _instants(wall, zone)
            if late < early:
                continue  # in the gap: no clock shows it
            if early < late:
                second_pass.append(late)
            else:
                yield from second_pass
                second_pass.clear()
            yield early


@lru_cache(maxsize=4096)
def parse_cron(text: str) -> Cron:
    """Read a cron expression, or raise SpecError with the reason and what to write instead."""
    if len(text) > MAX_LENGTH:
        raise SpecError(f"the cron expression has {len(text)} characters; at most {MAX_LENGTH} are allowed")
    zone, expression = _split_zone(text)
    parts = _expanded(expression)
    written = [_read(part, place) for part, place in zip(parts, FIELDS, strict=True)]
    cron = Cron(text, zone, " ".join(written), "*" in parts[1])
    try:
        next(_walls(cron.fields, datetime(2024, 1, 1)))  # noqa: DTZ001 - wall time, on no clock
    except CroniterBadDateError:
        raise SpecError(f"{text!r} never fires: no month that it names has a day {parts[2]}") from None
    return cron


def _split_zone(text: str) -> tuple[str, str]:
    found = re.match(r"\s*(?:CRON_)?TZ=(\S*)\s*(.*)$", text, re.DOTALL)
    if found is None:
        return "UTC", text
    try:
        _zone(found[1])
    except (ZoneInfoNotFoundError, ValueError, OSError):
        near = difflib.get_close_matches(found[1], available_timezones(), n=1)
        hint = f"; did you mean {near[0]}?" if near else ", such as Europe/Paris"
        raise SpecError(f"there is no time zone {found[1]!r}: use a name of the IANA database{hint}") from None
    return found[1], found[2]


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo:
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_+/-]*", name) is None or name.partition("/")[0] in {
        "right",
        "posix",
        "posixrules",
        "localtime",
    }:
        raise ValueError(name)
    return ZoneInfo(name)


def _expanded(expression: str) -> list[str]:
    parts = expression.split()
    if len(parts) == 1 and parts[0].startswith("@"):
        if parts[0].lower() not in MACROS:
            raise SpecError(f"there is no {parts[0]!r}; there are {', '.join(MACROS)}, or write five fields")
        return MACROS[parts[0].lower()].split()
    if len(parts) == len(FIELDS):
        return parts
    more = ""
    if len(parts) in {6, 7}:
        more = "; seconds and years are not supported"
    elif any("TZ=" in part for part in parts):
        more = "; TZ=Zone stands before them"
    raise SpecError(f"a cron expression has five fields (minute, hour, day of month, month, day of week), not {len(parts)}{more}")


REFUSED = (
    (re.compile(r"\?"), "`?` is not supported; write `*`"),
    (re.compile(r"#"), "`#` (the n-th weekday of a month) is not supported"),
    (re.compile(r"(?:^|[,\d])[LW]|L$", re.IGNORECASE), "`L` and `W` (last day, nearest weekday) are not supported"),
    (re.compile(r"(?:^|,)R(?:$|[,/(])", re.IGNORECASE), "`R` (a random time) is not supported; use `jitter`"),
    (re.compile(r"(?:^|,)H(?:$|[,/(])", re.IGNORECASE), "`H` (a hashed time) is not supported; use `jitter`"),
)


def _read(part: str, place: _Field) -> str:
    """The field with its values written out, `*` if any value will do."""
    for pattern, reason in REFUSED:
        if pattern.search(part):
            raise SpecError(f"{place.name} {part!r}: {reason}")
    values: set[int] = set()
    for item in part.split(","):
        values |= _values(item, part, place)
    if part in {"*", "*/1"}:
        return "*"
    if place.most == 7:
        values = {value % 7 for value in values}
    return ",".join(str(value) for value in sorted(values))


def _values(item: str, part: str, place: _Field) -> set[int]:
    found = re.fullmatch(r"(\*|[A-Za-z0-9]+)(?:-([A-Za-z0-9]+))?(?:/([0-9]{1,4}))?", item, re.ASCII)
    if found is None or (found[1] == "*" and found[2] is not None):
        raise SpecError(f"{place.name} {part!r}: {item!r} is not `*`, a value, a range `a-b`, or one of these with `/n`")
    step = int(found[3]) if found[3] is not None else 1
    if step == 0:
        raise SpecError(f"{place.name} {part!r}: a step is at least 1")
    if found[1] == "*":
        most = 6 if place.most == 7 else place.most
        return set(range(place.least, most + 1, step))
    first = _value(found[1], part, place)
    if found[2] is None:
        return {first} if found[3] is None else set(range(first, place.most + 1, step))
    last = _value(found[2], part, place)
    if last < first:
        raise SpecError(
            f"{place.name} {part!r}: {item!r} runs backwards; write it as two ranges, {first}-{place.most},{place.least}-{last}"
        )
    return set(range(first, last + 1, step))


def _value(text: str, part: str, place: _Field) -> int:
    if text.upper() in place.names:
        return place.names.index(text.upper()) + place.first
    if not text.isdecimal() or len(text) > 4 or not place.least <= int(text) <= place.most:
        named = f" or {place.names[0]}-{place.names[-1]}" if place.names else ""
        raise SpecError(f"{place.name} {part!r}: {text!r} is not one of {place.least}-{place.most}{named}")
    return int(text)


def _walls(fields: str, after: datetime) -> Iterator[datetime]:
    """The wall times after this one that fit, in the order of a clock that is never moved."""
    return croniter(fields, after.replace(second=0, microsecond=0), ret_type=datetime).all_next(datetime)


def _wall(instant: int, zone: ZoneInfo) -> datetime:
    """What a clock on the wall shows."""
    return (EPOCH + instant * US).astimezone(zone).replace(tzinfo=None)


def _instants(wall: datetime, zone: ZoneInfo) -> tuple[int, int]:
    """The instants of a wall time by the offset before and the one after a clock change: equal on ordinary days.

    In the repeated hour the first is the earlier. In the gap the first is the *later* of the two.
    """
    aware = wall.replace(tzinfo=zone)
    return (aware - EPOCH) // US, (aware.replace(fold=1) - EPOCH) // US


def _gap_end(before: int, after: int, zone: ZoneInfo) -> int:
    """The instant between these two at which the clock is moved."""
    offset = _offset(before, zone)
    while after - before > 1:
        middle = (before + after) // 2
        if _offset(middle, zone) == offset:
            before = middle
        else:
            after = middle
    return after


def _offset(instant: int, zone: ZoneInfo) -> timedelta | None:
    return (EPOCH + instant * US).astimezone(zone).utcoffset()
