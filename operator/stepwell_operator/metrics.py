"""The operator's own metrics, from the table that all parts share (`stepwell.metrics.catalogue`)."""

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from stepwell.metrics import catalogue as names
from stepwell.metrics.cells import Count, Shelf
from stepwell.metrics.collector import Family, answered, registry_of, written

Key = tuple[str, str]
MOST_SERIES = 20_000


class OperatorMetrics:
    """All metrics of an operator process."""

    def __init__(self) -> None:
        self.shelf = Shelf(MOST_SERIES)
        self.registry = registry_of("", self._families)
        self._live: Live | None = None
        self._seen: tuple[Family, ...] = ()
        self._results = {one: self.shelf.count(names.RECONCILES_DONE, one) for one in names.RECONCILES_DONE.labels[0].values}
        self._conditions: dict[Key, tuple[tuple[str, str], ...]] = {}
        self._shapes: dict[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]] = {}
        """Each tuple of conditions once, for thousands of functions have the same."""
        self.leader: Count = self.shelf.count(names.OPERATOR_LEADER)
        self.shelf.count(names.BUILD_INFO, version("stepwell"), "operator", platform.python_version(), "").set(1)

    def reconciled(self, seconds: float, *, changed: bool, failure: str | None = None) -> None:
        """One reconcile was done: it changed something or nothing, or it failed with an error of this class."""
        self._results["error" if failure is not None else "changed" if changed else "unchanged"].inc()
        self.shelf.spread(names.RECONCILE_SECONDS).observe(seconds)
        if failure is not None:
            self.shelf.count(names.RECONCILE_ERRORS, failure).inc()

    def conditions(self, key: Key, conditions: Iterable[Mapping[str, Any]]) -> None:
        """A function's conditions, as they are now."""
        shape = tuple((str(one["type"]), str(one["status"])) for one in conditions)
        self._conditions[key] = self._shapes.setdefault(shape, shape)

    def forget(self, key: Key) -> None:
        """A function is gone."""
        self._conditions.pop(key, None)

    def watch(self, live: "Live") -> None:
        """Show these figures too, read at every scrape."""
        self._live = live

    async def exposition(self, accepted: str = "") -> tuple[bytes, dict[str, str]]:
        """What a scrape with this `Accept-Encoding` is answered with, and its headers; written beside the event loop."""
        self._seen = tuple(self._look())
        return await answered(self.registry, accepted)

    def render(self) -> bytes:
        """The exposition text."""
        self._seen = tuple(self._look())
        return written(self.registry)

    def _families(self) -> Iterator[Family]:
        yield from self.shelf.families()
        yield from self._seen

    def _look(self) -> Iterator[Family]:
        """What changes on the event loop without being counted, so that it is read there."""
        live = self._live
        if live is not None:
            now = live.clock()
            yield names.RECONCILE_QUEUE_DEPTH, [((), live.queue())]
            yield names.WATCH_LAST_EVENT, [((kind,), now - age) for kind, age in live.ages().items()]
            asked = sorted(live.requests().items())
            yield names.API_REQUESTS, [((verb, kind, str(code)), count) for (verb, kind, code), count in asked]
        yield names.FUNCTIONS, sorted(self._functions().items())

    def _functions(self) -> dict[tuple[str, ...], float]:
        counts: dict[tuple[str, ...], float] = {}
        for conditions in self._conditions.values():
            for one in conditions:
                counts[one] = counts.get(one, 0) + 1
        return counts


@dataclass(frozen=True, slots=True)
class Live:
    """What is read at a scrape: callables, so that nothing has to be pushed."""

    queue: Callable[[], int]
    ages: Callable[[], Mapping[str, float]]
    """For each kind: seconds since its watch was last known to have told everything."""
    requests: Callable[[], Mapping[tuple[str, str, int], int]]
    """How often the API server was asked, by verb, kind and status of the answer (0: none came)."""
    clock: Callable[[], float] = time.time
