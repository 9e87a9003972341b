"""What an answer to "why isn't it moving?" consists of, and what it is made from. Pure."""

from dataclasses import dataclass
from enum import StrEnum


class Why(StrEnum):
    """The closed set of reasons; on the wire as they stand here."""

    RUNNING = "running"
    DUE = "due"
    NO_RUNNER = "no_runner"
    SCHEDULED = "scheduled"
    RETRY = "retry"
    LIMIT = "limit"
    SLEEP = "sleep"
    EVENT = "event"
    SIGNAL = "signal"
    RUN = "run"
    SEVERAL = "several"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class WaitingFor:
    """The answer. `since` and `until` are µs since 1970; `until` is None where nothing ends it by itself."""

    kind: Why
    sentence: str
    since: int
    until: int | None
    next: str


@dataclass(frozen=True, slots=True)
class Runners:
    """The live runners of one pool: all, those that have the function, and those of these that are not on their way out.

    `slots` and `busy` are the pool's, over all of its runners; `broken` is why one of them can't load the function's code.
    """

    alive: int = 0
    knowing: int = 0
    taking: int = 0
    slots: int = 0
    busy: int = 0
    broken: str = ""


@dataclass(frozen=True, slots=True)
class Paused:
    """Who paused a function, when (µs since 1970) and why; `source` is `api`, or `manifest` for an annotation."""

    by: str
    since: int
    reason: str = ""
    source: str = "api"
