"""Ids, all from one place, with injected randomness."""

import hashlib
import random

from stepwell.errors import SpecError

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
MAX_EVENT_ID = 128


class Ids:
    """Make ids. With a seed they are the same every time (tests); without one they come from the system's randomness."""

    def __init__(self, seed: int | None = None) -> None:
        self._random = random.SystemRandom() if seed is None else random.Random(seed)  # noqa: S311 - tests want repeatable ids

    def ulid(self, ms: int) -> str:
        """A ULID: 48 bits of time, 80 bits of chance, 26 characters of Crockford's base 32 (github.com/ulid/spec)."""
        return encode_ulid(ms, self._random.getrandbits(80))

    def seed(self) -> int:
        """Randomness for somebody else's generator."""
        return self._random.getrandbits(64)


def run_id(function_id: str, event_id: str, ms: int) -> str:
    """The run of a function for an event: a ULID whose 80 bits are made of both, so that a second one is the same run."""
    digest = hashlib.sha256(f"{len(function_id)}:{function_id}{event_id}".encode()).digest()
    return encode_ulid(ms, int.from_bytes(digest[:10], "big"))


def encode_ulid(ms: int, chance: int) -> str:
    """Write 48 bits of milliseconds and 80 bits of chance."""
    number = (ms & (1 << 48) - 1) << 80 | chance
    return "".join([_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5)])


def ms_of(ulid: str) -> int:
    """The milliseconds since 1970 that a ULID carries."""
    number = 0
    for char in ulid[:10]:
        number = number << 5 | _ALPHABET.index(char)
    return number


def check_event_id(event_id: str, path: str) -> None:
    """Raise SpecError unless an event id has 1 to 128 printable characters and no spaces."""
    if not 1 <= len(event_id) <= MAX_EVENT_ID:
        raise SpecError(f"{len(event_id)} characters; an event id has 1 to {MAX_EVENT_ID}", path)
    if not event_id.isprintable() or " " in event_id:
        raise SpecError("an event id has printable characters and no spaces", path)
