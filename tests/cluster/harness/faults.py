"""What can go wrong between a client and the API server, and when: rules that a test gives to the proxy."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum, auto
from math import inf

FOR_EVER = inf
PATIENCE = 60.0


class Side(Enum):
    """Of the call to the API server: it has not been made yet, or it has and the client doesn't know."""

    BEFORE = auto()
    AFTER = auto()


@dataclass(frozen=True, slots=True)
class Seen:
    """One request that reached the proxy; `code` is what the client was told, 0 as long as it waits or when it was cut."""

    number: int
    method: str
    path: str
    query: str
    agent: str
    code: int = 0


When = Callable[[Seen], bool]


def everything(_: Seen) -> bool:
    """Every request."""
    return True


def writes(seen: Seen) -> bool:
    """Requests that are meant to change something; a review of access rights is a question in the shape of a POST."""
    return seen.method in {"POST", "PUT", "PATCH", "DELETE"} and not seen.path.endswith("reviews")


def watches(seen: Seen) -> bool:
    """Requests whose answer goes on and on."""
    return "watch=true" in seen.query.lower() or "watch=1" in seen.query


@dataclass(frozen=True, slots=True)
class Which:
    """The `at`-th request (from 1) of those that `when` picks, counted from when the rule was made, and those after it: `times` in all."""

    when: When = everything
    at: int = 1
    times: float = 1


class Stop:
    """A request that will be held, or is."""

    def __init__(self) -> None:
        self._reached: Future[Seen] = Future()
        self._verdict: Future[bool] = Future()

    @property
    def reached(self) -> bool:
        """Whether the request has come."""
        return self._reached.done()

    def wait(self, seconds: float = PATIENCE) -> Seen:
        """Wait until the request is held."""
        return self._reached.result(seconds)

    async def arrival(self, seconds: float = PATIENCE) -> Seen:
        """Wait until the request is held, and let the loop go on meanwhile."""
        async with asyncio.timeout(seconds):
            return await asyncio.shield(asyncio.wrap_future(self._reached))

    def release(self) -> None:
        """Let it go on."""
        self._settle(on=True)

    def cut(self) -> None:
        """End its connection; on side BEFORE the API server never hears of it."""
        self._settle(on=False)

    def _settle(self, *, on: bool) -> None:
        if not self._verdict.done():
            self._verdict.set_result(on)

    async def hold(self, seen: Seen) -> None:
        """Hold this request until the test has decided.

        Raises:
            Cut: its connection is to end.

        """
        self._reached.set_result(seen)
        if not await asyncio.shield(asyncio.wrap_future(self._verdict)):
            raise Cut


class Cut(Exception):
    """The client's connection is to end now."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error to answer with, in the API server's place."""

    code: int
    retry_after: int | None = None


Act = Callable[[Seen], Awaitable[Refusal | None]]


@dataclass(slots=True)
class Rule:
    """What is done to some requests, and how many of its kind it has seen."""

    which: Which
    side: Side
    act: Act
    matched: int = 0

    def takes(self, seen: Seen) -> bool:
        """Count the request, and say whether it is this rule's turn."""
        if not self.which.when(seen):
            return False
        self.matched += 1
        return self.which.at <= self.matched < self.which.at + self.which.times
