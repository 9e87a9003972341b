"""What the example's functions, schedules and limits are; a few versions of it, for they change while runs live."""

import orjson
from conformance.build import SECOND

from stepwell.store.records import Limit
from stepwell.store.registry import FunctionRow, ScheduleRow

FUNCTIONS = ("f", "g", "h", "k")
POOLS = {"f": "p", "g": "p", "h": "q", "k": "q"}
KEYS: dict[str, tuple[str, ...]] = {"f": (), "g": ("g",), "h": ("h:1", ":all"), "k": (":all",)}
"""The concurrency keys of each function; one is shared by two."""
LIMITS: tuple[dict[str, tuple[int, ...]], ...] = (
    {"f": (), "g": (1,), "h": (1, 2), "k": (2,)},
    {"f": (), "g": (), "h": (1, 2), "k": (2,)},
    {"f": (), "g": (1,), "h": (1,), "k": ()},
    {"f": (), "g": (2,), "h": (2, 2), "k": (2,)},
)
SCHEDULES = (("s0", 0), ("s1", 1), ("s2", 2))
"""Each schedule with its overlap rule."""
EVERY = 60 * SECOND


def functions(variant: int) -> list[FunctionRow]:
    """The functions as they are registered in this version."""
    return [FunctionRow(name, f"r{variant}", POOLS[name], "o", _spec(LIMITS[variant][name])) for name in FUNCTIONS]


def schedules(variant: int, now: int) -> list[ScheduleRow]:
    """The schedules; the last version has one less."""
    kept = SCHEDULES[:2] if variant == 3 else SCHEDULES
    return [ScheduleRow(name, "f", b'{"cron":"* * * * *"}', now, now, 0) for name, _overlap in kept]


def limits(variant: int, names: tuple[str, ...]) -> tuple[Limit, ...]:
    """The limits that a runner with these functions sends along."""
    return tuple(Limit(name, *LIMITS[variant][name]) for name in names if LIMITS[variant][name])


def keys(variant: int, name: str) -> tuple[str, ...]:
    """The keys of a run that starts now."""
    return KEYS[name][: len(LIMITS[variant][name])]


def limit_of(variant: int) -> dict[str, int]:
    """The limit of each key that has one, and the smallest where functions differ."""
    found: dict[str, int] = {}
    for name, numbers in LIMITS[variant].items():
        for key, number in zip(KEYS[name], numbers, strict=False):
            found[key] = min(found.get(key, number), number)
    return found


def _spec(numbers: tuple[int, ...]) -> bytes:
    return orjson.dumps({"concurrency": [{"limit": one} for one in numbers]})
