"""All metrics of one process: its functions', its own, and what one gateway shows of the store.

Counters of a registered function begin at zero, so that `rate()` and "never ran" work; its series go when it goes. Labels are
`namespace`, `function` and closed sets; never an id, a key or an error's text.
"""

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version

from stepwell.clock import Clock
from stepwell.metrics import catalogue as names
from stepwell.metrics import inngest
from stepwell.metrics.catalogue import By
from stepwell.metrics.cells import Labels, Shelf, Spread
from stepwell.metrics.collector import CONTENT_TYPE, Family, answered, registry_of, written
from stepwell.metrics.figures import StoreFigures
from stepwell.metrics.function import FunctionMetrics
from stepwell.settings import MetricSettings
from stepwell.spec.function import FunctionSpec
from stepwell.store.protocol import Store

MOST_SERIES = 500_000
PARTS = {
    "gateway": frozenset({By.DOOR, By.DISPATCH, By.CRON}),
    "runner": frozenset({By.DISPATCH, By.EXECUTION}),
}
EVERYTHING = frozenset({By.DOOR, By.DISPATCH, By.CRON, By.EXECUTION})


class Metrics:
    """All metrics of one process. `of(function)` gives a function's own, with the labels bound."""

    def __init__(
        self, component: str = "dev", namespace: str = "default", store: str = "", settings: MetricSettings | None = None
    ) -> None:
        self.namespace = namespace
        self.component = component
        self.parts = PARTS.get(component, EVERYTHING)
        self.settings = settings or MetricSettings()
        self.shelf = Shelf(MOST_SERIES)
        self.registry = registry_of(namespace, self._families)
        self._functions: dict[str, FunctionMetrics] = {}
        self._specs: dict[str, FunctionSpec] = {}
        self._executed: frozenset[str] | None = frozenset() if component == "runner" else None
        self._expressions: dict[str, Spread] = {}
        self.figures = StoreFigures(self._functions)
        self.ratios: Callable[[], Mapping[str, float]] = dict
        """Asked at each scrape: the least ratio that attempts under way have told, by function."""
        self.shelf.count(names.BUILD_INFO, version("stepwell"), component, platform.python_version(), store).set(1)
        if By.DOOR in self.parts:
            for result in names.EVENTS_RECEIVED.labels[0].values:
                self.shelf.count(names.EVENTS_RECEIVED, result)
        if By.DISPATCH in self.parts:
            for cause in names.TAKEN_OVER:
                self.shelf.spread(names.RECOVERY_SECONDS, cause)
        if By.CRON in self.parts:
            for invariant in names.INVARIANT_VIOLATIONS.labels[0].values:
                self.shelf.count(names.INVARIANT_VIOLATIONS, invariant)

    def of(self, function_id: str) -> FunctionMetrics:
        """The metrics of one function; made at its first mention."""
        found = self._functions.get(function_id)
        if found is None:
            by_step = function_id in self.settings.steps
            found = self._functions[function_id] = FunctionMetrics(self.shelf, function_id, by_step=by_step)
        return found

    def keep(self, specs: Iterable[FunctionSpec]) -> None:
        """Have the metrics of these functions, which are all that are registered, and let go of those of any other."""
        known = {spec.id: spec for spec in specs}
        for function_id in [one for one in self._functions if one not in known]:
            self._functions.pop(function_id).forget()
        for function_id, spec in known.items():
            if self._specs.get(function_id) is not spec or function_id not in self._functions:
                self.of(function_id).reach(spec, self._parts_of(function_id))
        self._specs = known

    def executes(self, function_ids: Iterable[str]) -> None:
        """These are the functions that this process executes; those that it only starts have no figures of execution."""
        self._executed = frozenset(function_ids)
        for function_id in self._executed & self._specs.keys():
            self.of(function_id).reach(self._specs[function_id], self._parts_of(function_id))

    # --- the process's own ---

    def event_received(self, result: str, count: int = 1) -> None:
        """Count offered events by what became of them."""
        self.shelf.count(names.EVENTS_RECEIVED, result).value += count

    def ingested(self, result: str, seconds: float) -> None:
        """Time of one request that offered events."""
        self.shelf.spread(names.EVENT_INGEST_DURATION, result).observe(seconds)

    def expression_tried(self, kind: str, seconds: float) -> None:
        """Time of one expression on one event."""
        found = self._expressions.get(kind)
        if found is None:
            found = self._expressions[kind] = self.shelf.spread(names.EXPRESSION_SECONDS, kind)
        found.observe(seconds)

    def timer_fired(self, late: float) -> None:
        """A timer fired `late` seconds after it was due."""
        self.shelf.spread(names.TIMER_LATENESS).observe(max(late, 0.0))

    def recovered_after(self, cause: str, seconds: float) -> None:
        """An execution was taken over so long after its runner's last beat."""
        self.shelf.spread(names.RECOVERY_SECONDS, cause).observe(max(seconds, 0.0))

    def store_done(self, op: str, seconds: float) -> None:
        """Time of one store verb."""
        self.shelf.spread(names.STORE_OPERATION, op).observe(seconds)

    def store_failed(self, op: str, kind: str) -> None:
        """A store verb failed: conflict, timeout, unavailable, full or other."""
        self.shelf.count(names.STORE_ERRORS, op, kind).value += 1

    def store_connections(self, used: int, idle: int, waiting: int) -> None:
        """Connections that this process holds or waits for."""
        for state, number in (("used", used), ("idle", idle), ("waiting", waiting)):
            self.shelf.count(names.STORE_POOL_CONNECTIONS, state).set(number)

    def violated(self, invariant: str, offenders: int) -> None:
        """The doctor found an invariant (`I9`) broken by so many rows."""
        self.shelf.count(names.INVARIANT_VIOLATIONS, invariant.partition("_")[0]).value += offenders

    def spans_lost(self, reason: str, spans: int) -> None:
        """So many spans never reached the collector: dropped (told on the event loop) or failed (told by the sender's thread)."""
        self.shelf.count(names.SPANS_LOST, reason).value += spans

    # --- a scrape ---

    async def look(self, store: Store, clock: Clock) -> None:
        """Read what only the store knows, at most every five seconds and waiting for a second.

        A store that is away leaves the last figures for a minute.
        """
        await self.figures.look(store, clock)

    async def exposition(self, accepted: str = "") -> tuple[bytes, dict[str, str]]:
        """What a scrape with this `Accept-Encoding` is answered with, and its headers; written beside the event loop."""
        return await answered(self.registry, accepted)

    def render(self) -> tuple[bytes, str]:
        """The exposition text and its content type."""
        return written(self.registry), CONTENT_TYPE

    def _families(self) -> Iterator[Family]:
        yield from self.shelf.families()
        yield from self.figures.families()
        yield from self._progress()
        if self.settings.inngest:
            yield from inngest.families(self.shelf, self._functions, self.figures)

    def _progress(self) -> Iterator[Family]:
        """How far the steps under way are, of the functions for which it was asked."""
        asked = {one.id for one in list(self._functions.values()) if one.by_step}
        cells: list[tuple[Labels, float | Spread]] = [((name,), ratio) for name, ratio in self.ratios().items() if name in asked]
        if cells:
            yield names.RUN_PROGRESS, cells

    def _parts_of(self, function_id: str) -> frozenset[By]:
        executed = self._executed is None or function_id in self._executed
        return self.parts if executed else self.parts - {By.EXECUTION}
