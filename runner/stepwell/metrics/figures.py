"""What only the store knows, shown by one gateway of each well.

It is read in one look, at most every five seconds, and neither holds up nor fails a scrape. So that sums are right, one gateway
shows it: each gateway that is scraped keeps a lease in the well, and the oldest of them is elected. One that nobody scrapes, or
that died, is out of it a minute later.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence

import structlog

from stepwell.clock import Clock
from stepwell.errors import StoreError
from stepwell.ids import Ids
from stepwell.metrics import catalogue as names
from stepwell.metrics.catalogue import Metric
from stepwell.metrics.cells import Spread
from stepwell.metrics.collector import Family
from stepwell.metrics.function import FunctionMetrics
from stepwell.metrics.pin import Pin, pin_after
from stepwell.spec.function import Concurrency
from stepwell.store.protocol import Store
from stepwell.store.views import FunctionStats, LimitStats, OverdueTimers, RunnerRow, Stats

CACHE = 5_000_000
STALE = 60_000_000
LEASE = 60_000_000
PATIENCE = 1.0
GATEWAYS = "stepwell-gateways"
"""The pool under which gateways keep their leases; no run is in it."""

Sample = tuple[Metric, tuple[str, ...], float]


class StoreFigures:
    """Gauges made of the last look at the store. Functions that have nothing to do are there too, with zeros."""

    def __init__(self, functions: Mapping[str, FunctionMetrics]) -> None:
        self._functions = functions
        self._stats: Stats | None = None
        self._pin: Pin | None = None
        self._looked: int | None = None
        self._looking: asyncio.Task[None] | None = None
        self._candidate: str | None = None

    async def look(self, store: Store, clock: Clock) -> None:
        """Look again, unless the last look is fresh; go on without an answer after a second."""
        fresh = self._looked is not None and clock.now() - self._looked < CACHE and clock.pinned() is None
        if fresh and self._stats is not None:
            return
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look(store, clock))
        await asyncio.wait({self._looking}, timeout=PATIENCE)
        if self._looked is not None and clock.now() - self._looked > STALE:
            self._stats = None

    async def resign(self, store: Store) -> None:
        """Leave the showing to another gateway."""
        if self._candidate is not None:
            await store.leave(self._candidate)

    async def _look(self, store: Store, clock: Clock) -> None:
        try:
            await self._stand(store, clock)
            self.show(await store.stats(clock.pinned()))
        except StoreError:
            return
        except Exception:  # noqa: BLE001 - a scrape never fails
            structlog.get_logger("stepwell.metrics").exception("the store's figures can't be read")
            return
        self._looked = clock.now()

    async def _stand(self, store: Store, clock: Clock) -> None:
        """Keep the lease that makes this process one of those that may be elected; under a manual clock nobody else is there."""
        if clock.pinned() is None:
            if self._candidate is None:
                self._candidate = f"gateway-{Ids().ulid(clock.now() // 1000)}"
            await store.enrol(RunnerRow(self._candidate, (GATEWAYS,), (), 0, LEASE, draining=False))

    def show(self, stats: Stats) -> None:
        """Show these figures from now on."""
        self._stats, self._pin = stats, pin_after(self._pin, stats)

    @property
    def elected(self) -> bool:
        """Whether this process is the one that shows them, by the last look."""
        if self._stats is None or self._candidate is None:
            return True
        standing = [one.runner_id for one in self._stats.runners if GATEWAYS in one.pools and one.expires > self._stats.now]
        return not standing or min(standing) == self._candidate

    @property
    def shows(self) -> bool:
        """Whether figures are known and this process shows them."""
        return self._stats is not None and self.elected

    def queue_depth(self) -> int | None:
        """How many queue items are due, all functions together; None where this process doesn't show it."""
        if self._stats is None or not self.elected:
            return None
        return sum(due for one in self._stats.functions for _revision, due, _later in one.revision_due)

    def families(self) -> Iterator[Family]:
        """The gauges, or nothing where another gateway shows them, or before the first look."""
        stats = self._stats
        if stats is None or not self.elected:
            return
        found: dict[Metric, list[tuple[tuple[str, ...], float | Spread]]] = {}
        for metric, labels, value in self._samples(stats):
            found.setdefault(metric, []).append((labels, value))
        yield from found.items()

    def _samples(self, stats: Stats) -> Iterator[Sample]:
        busy = {one.function_id: one for one in stats.functions}
        idle = {name: FunctionStats(name) for name in sorted(set(self._functions) - set(busy))}
        for one in (*busy.values(), *idle.values()):
            yield from _of_function(one)
            yield from self._concurrency(one)
        for function_id, (used, free) in slots_of([one for one in stats.runners if one.expires > stats.now], busy).items():
            yield names.RUNNER_SLOTS, (function_id, "used"), used
            yield names.RUNNER_SLOTS, (function_id, "free"), free
        yield names.TIMERS_OVERDUE, (), sum(one.runs for one in stats.overdue if not self._held_back(one))
        for function_id, due in stats.next_ticks:
            yield names.CRON_NEXT, (function_id,), due / 1e6
        yield names.STORE_OLDEST_XMIN_AGE, (), max(0, stats.now - self._pin.since) / 1e6 if self._pin else 0
        for table, count in stats.dead_tuples:
            yield names.STORE_DEAD_TUPLES, (table,), count

    def _rules(self, function_id: str) -> Sequence[Concurrency]:
        known = self._functions.get(function_id)
        return known.spec.concurrency if known is not None and known.spec is not None else ()

    def _held_back(self, timers: OverdueTimers) -> bool:
        """Whether a limit of theirs is full that no claim has seen yet: a runner whose slots are full makes none."""
        rules = self._rules(timers.function_id)
        return any(in_use >= rule.limit for in_use, rule in zip(timers.in_use, rules, strict=False))

    def _concurrency(self, one: FunctionStats) -> Iterator[Sample]:
        for scope, (limit, found) in by_scope(self._rules(one.function_id), one.limits).items():
            own = (one.function_id, scope)
            yield names.CONCURRENCY_LIMIT, own, limit
            yield names.CONCURRENCY_IN_USE, own, found.in_use
            yield names.CONCURRENCY_BLOCKED_RUNS, own, found.blocked
            yield names.CONCURRENCY_OLDEST_BLOCKED_AGE, own, found.oldest_blocked_age / 1e6


def _of_function(one: FunctionStats) -> Iterator[Sample]:
    figures = {"queued": one.queued, "running": one.running, "sleeping": one.sleeping, "waiting": one.waiting}
    for status, figure in figures.items():
        yield names.RUNS, (one.function_id, status), figure
    for revision, due, later in one.revision_due or (("", 0, 0),):  # an empty queue is a figure too
        yield names.QUEUE_DEPTH, (one.function_id, revision, "due"), due
        yield names.QUEUE_DEPTH, (one.function_id, revision, "later"), later
    yield names.QUEUE_OLDEST_AGE, (one.function_id,), one.oldest_due_age / 1e6
    if one.paused:
        yield names.PAUSED_RUNS, (one.function_id,), one.paused


def by_scope(rules: Iterable[Concurrency], found: Iterable[LimitStats]) -> dict[str, tuple[int, LimitStats]]:
    """The limit of each scope and what counts under it; of two rules of one scope, the fuller one's limit and use."""
    told = {one.place: one for one in found}
    scopes: dict[str, tuple[int, LimitStats]] = {}
    for place, rule in enumerate(rules, 1):
        scope = "namespace" if rule.scope == "namespace" else "function" if rule.key is None else "key"
        one = told.get(place, LimitStats(place, 0, 0, 0))
        before = scopes.get(scope)
        if before is None:
            scopes[scope] = (rule.limit, one)
            continue
        limit, other = before
        fuller = (rule.limit, one.in_use) if one.in_use / rule.limit > other.in_use / limit else (limit, other.in_use)
        oldest = max(one.oldest_blocked_age, other.oldest_blocked_age)
        scopes[scope] = (fuller[0], LimitStats(place, fuller[1], one.blocked + other.blocked, oldest))
    return scopes


def slots_of(runners: Iterable[RunnerRow], functions: Mapping[str, FunctionStats]) -> dict[str, tuple[int, int]]:
    """Used and free slots by function. Runners of one set of functions share their slots; draining ones have none free."""
    pools: dict[tuple[str, ...], tuple[int, int]] = {}
    for one in runners:
        total, draining = pools.get(one.functions, (0, 0))
        pools[one.functions] = (total + one.slots, draining + (one.slots if one.draining else 0))
    found: dict[str, tuple[int, int]] = {}
    for names_, (total, draining) in pools.items():
        used = min(total, sum(functions[name].running for name in names_ if name in functions))
        free = max(total - draining - used, 0)
        for name in names_:
            before = found.get(name, (0, 0))
            found[name] = (before[0] + used, before[1] + free)
    return dict(sorted(found.items()))
