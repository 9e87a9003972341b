"""Ids, all from one place, with injected randomness."""

import hashlib
import random

from stepwell.errors import SpecError

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]
_SHIFTS = tuple(range(120, -1, -10))
_TO_BASE_32 = str.maketrans(_ALPHABET, "0123456789ABCDEFGHIJKLMNOPQRSTUV")
_LAST_MS = 2**48 - 1
MAX_EVENT_ID = 128


class Ids:
    """Make ids. With a seed they are the same every time (tests); without one they come from the system's randomness."""

    def __init__(self, seed: int | None = None) -> None:
        self._random = random.SystemRandom() if seed is None else random.Random(seed)  # noqa: S311 - tests want repeatable ids

    def ulid(self, ms: int) -> str:
        """A ULID: 48 bits of time, 80 bits of chance, 26 characters of Crockford's base 32 (github.com/ulid/spec)."""
        return encode_ulid(ms, self._random.getrandbits(80))

    def secret(self) -> bytes:
        """256 bits that nobody can guess."""
        return self._random.getrandbits(256).to_bytes(32, "big")

    def seed(self) -> int:
        """Randomness for somebody else's generator."""
        return self._random.getrandbits(64)


def run_id(function_id: str, event_id: str, ms: int) -> str:
    """The run of a function for an event: a ULID whose 80 bits are made of both, so that a second one is the same run."""
    digest = hashlib.sha256(f"{len(function_id)}:{function_id}{event_id}".encode()).digest()
    return encode_ulid(ms, int.from_bytes(digest[:10], "big"))


def encode_ulid(ms: int, chance: int) -> str:
    """Write 48 bits of milliseconds and 80 bits of chance. ValueError for what doesn't fit: ids must sort by their time."""
    if not 0 <= ms <= _LAST_MS or not 0 <= chance < 2**80:
        raise ValueError(f"{ms} ms and {chance} don't fit into a ULID")
    number = ms << 80 | chance
    return "".join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])


def ms_of(ulid: str) -> int:
    """The milliseconds since 1970 that a ULID carries. ValueError for what is none."""
    if len(ulid) != 26 or ulid[0] > "7" or not set(ulid) <= set(_ALPHABET):
        raise ValueError(f"{ulid[:40]!r} is no ULID: 26 characters of Crockford's base 32, upper case")
    return int(ulid[:10].translate(_TO_BASE_32), 32)


def is_id(event_id: str) -> bool:
    """Whether this can be an event's id: 1 to 128 printable characters, no spaces."""
    return 1 <= len(event_id) <= MAX_EVENT_ID and event_id.isprintable() and " " not in event_id


def check_event_id(event_id: str, path: str) -> None:
    """Raise SpecError unless this can be an event's id."""
    if is_id(event_id):
        return
    if not 1 <= len(event_id) <= MAX_EVENT_ID:
        raise SpecError(f"{len(event_id)} characters; an event id has 1 to {MAX_EVENT_ID}", path)
    raise SpecError("an event id has printable characters and no spaces", path)
