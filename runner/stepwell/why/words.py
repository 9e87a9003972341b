"""How instants, lengths and other people's text stand in a sentence. Pure."""

from stepwell.clock import to_datetime
from stepwell.why.answer import Paused

SHOWN_TEXT = 200
UNITS = ((86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "m"), (1_000_000, "s"))


def span(length: int) -> str:
    """A length in µs for people: its two largest units (`2 h 13 m`, `3 d`, `40 s`, `250 ms`)."""
    if length < 1_000_000:
        return f"{max(length, 0) // 1000} ms" if length >= 1000 else "0 s"
    for place, (unit, letter) in enumerate(UNITS):
        if length >= unit:
            whole, rest = divmod(length, unit)
            if place + 1 < len(UNITS):
                smaller, smaller_letter = UNITS[place + 1]
                if rest >= smaller:
                    return f"{whole} {letter} {rest // smaller} {smaller_letter}"
            return f"{whole} {letter}"
    raise AssertionError(length)


def clock_time(when: int, now: int) -> str:
    """An instant for people, in UTC: the time alone on the same day, else the date as well."""
    moment = to_datetime(when)
    if moment.date() == to_datetime(now).date():
        return f"{moment:%H:%M:%S} UTC" if moment.second else f"{moment:%H:%M} UTC"
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def brief(text: str) -> str:
    """One line, without control characters, not longer than a sentence bears."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    return line if len(line) <= SHOWN_TEXT else f"{line[: SHOWN_TEXT - 1]}…"


def pause_sentence(paused: Paused, now: int) -> str:
    """Who paused a function, since when and why."""
    why = f": {brief(paused.reason)}" if paused.reason else ""
    return f"paused by {brief(paused.by)} since {clock_time(paused.since, now)}{why}"
