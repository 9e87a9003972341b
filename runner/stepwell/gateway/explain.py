"""What has to be looked up before `stepwell.why` can say why something isn't moving. Nothing is decided here."""

from collections.abc import Sequence
from dataclasses import replace

from stepwell.engine.registry import KnownRegistry, parse
from stepwell.engine.run import RunStatus
from stepwell.engine.well import Well
from stepwell.spec.function import FunctionSpec
from stepwell.store.registry import HELD, FunctionRow, PauseRow, Registry, RevisionWork
from stepwell.store.views import FunctionStats, RunFilter, RunnerRow, RunRow, Stats, StoredEvent
from stepwell.why import (
    ALONE,
    MOST_RUNS,
    Around,
    FunctionFacts,
    FunctionWhy,
    Paused,
    Reaction,
    Recorded,
    Runners,
    WaitingFor,
    function_why,
    listening,
    reactions,
    waiting_for,
)

MOST_EXPLAINED = 20
NO_RUNS = FunctionStats("")


async def explain_run(well: Well, run: RunRow) -> WaitingFor | None:
    """Why the run isn't moving, with what has to be looked up for that (nothing, for most runs)."""
    if run.status.is_final:
        return None
    now = well.clock.now()
    around = await _around(well, run, now)
    return waiting_for(run, now, replace(around, paused=await _pause_of(well, run)))


async def explain_event(well: Well, event: StoredEvent) -> list[Reaction]:
    """What each function did about the event, with the live runs' own answers for the first of them."""
    registry = parse(await well.store.registry(), well.registry)
    listed = await well.store.runs(RunFilter(event_id=event.id, limit=MOST_RUNS))
    if len(listed) == MOST_RUNS:
        listed += await _beyond(well, event, registry, listed)
    runs: list[tuple[RunRow, WaitingFor | None]] = []
    for place, run in enumerate(listed):
        live = await well.store.run(run.run_id) if place < MOST_EXPLAINED and not run.status.is_final else None
        runs.append((live or run, None if live is None else await explain_run(well, live)))
    recorded, ended = await well.store.decisions(event.id), await well.store.ended_by(event.id, MOST_RUNS)
    return reactions(event, runs, Recorded(recorded, ended), registry)


async def _beyond(well: Well, event: StoredEvent, registry: KnownRegistry, listed: Sequence[RunRow]) -> list[RunRow]:
    """The newest run of each other function that listens to the event: a full list may be full of others' runs, and of reruns."""
    told = {run.function_id for run in listed}
    names = [known.row.function_id for known, _triggers in listening(event, registry) if known.row.function_id not in told]
    found = [await well.store.runs(RunFilter(function_id=name, event_id=event.id, limit=1)) for name in names]
    return [run for runs in found for run in runs]


async def explain_functions(well: Well, rows: Sequence[FunctionRow], registry: Registry) -> dict[str, FunctionWhy]:
    """Why nothing of each function moves, or that all is well: a look at the live figures for all of them together."""
    pinned = well.clock.pinned()
    stats = await well.store.stats(pinned)
    work = await well.store.work(pinned)
    return {row.function_id: function_why(_facts(row, stats, work, registry), stats.now) for row in rows}


async def _around(well: Well, run: RunRow, now: int) -> Around:
    known = well.registry.known(run.function_id)
    tries = known.spec.retries + 1 if known is not None else ALONE.tries
    owner = known.row.owner if known is not None else ""
    if run.status is RunStatus.RUNNING:
        live = await well.store.runners(well.clock.pinned())
        orphaned = run.runner_id is not None and all(one.runner_id != run.runner_id for one in live)
        return Around(tries, runners=_runners(live, run, ()), orphaned=orphaned, owner=owner)
    if run.blocked_on is not None:
        limit = limit_behind(known.spec, run.blocked_on) if known is not None else 0
        return Around(tries, tuple(await well.store.key_holders(run.blocked_on)), limit, owner=owner)
    if run.due is not None and run.due <= now:
        live = await well.store.runners(well.clock.pinned())
        work = await well.store.work(well.clock.pinned())
        return Around(tries, runners=_runners(live, run, work), owner=owner)
    if run.attempt and not run.waits:
        between = await well.store.attempts_between(run.run_id)
        return Around(tries, error=between.attempts[-1].error if between is not None else None, owner=owner)
    if run.status is RunStatus.QUEUED and run.started is not None and not run.waits:
        live = await well.store.runners(well.clock.pinned())
        return Around(tries, runners=_runners(live, run, ()), owner=owner)
    return Around(tries, owner=owner)


async def _pause_of(well: Well, run: RunRow) -> Paused | None:
    """Who paused the run's function; looked for again where the run knows of a pause and this process doesn't."""
    registry = well.registry
    if run.blocked_on is not None and run.blocked_on.startswith(HELD) and run.function_id not in registry.pauses:
        registry = await well.refresh()
    return _paused(registry.pauses.get(run.function_id))


def _paused(pause: PauseRow | None) -> Paused | None:
    return None if pause is None else Paused(pause.paused_by, pause.since, pause.reason, pause.source)


def limit_behind(spec: FunctionSpec, key: str) -> int:
    """The limit behind a concurrency key: the rule whose key has this shape."""
    place, separator, _value = key.partition(":")
    for rule in spec.concurrency:
        own_place = spec.id if rule.scope == "function" else ""
        if own_place == place and (rule.key is not None) == bool(separator):
            return rule.limit
    return 0


def _runners(live: Sequence[RunnerRow], of: RunRow | FunctionRow, work: Sequence[RevisionWork]) -> Runners:
    of_pool = [one for one in live if of.pool in one.pools]
    knowing = [one for one in of_pool if of.function_id in one.functions]
    broken = [why for one in of_pool for *what, why in one.broken if what == [of.function_id, of.revision]]
    return Runners(
        alive=len(of_pool),
        knowing=len(knowing),
        taking=sum(not one.draining for one in knowing),
        slots=sum(one.slots for one in of_pool),
        busy=sum(one.running for one in work if one.pool == of.pool),
        broken=broken[0] if broken else "",
    )


def _facts(row: FunctionRow, stats: Stats, work: Sequence[RevisionWork], registry: Registry) -> FunctionFacts:
    spec = FunctionSpec.from_json(row.spec)
    ticks = [one.next_due for one in registry.schedules if one.function_id == row.function_id and one.next_due]
    live = next((one for one in stats.functions if one.function_id == row.function_id), NO_RUNS)
    return FunctionFacts(
        row.function_id,
        row.pool,
        row.owner,
        row.active,
        _runners(stats.runners, row, work),
        due=live.queued_due,
        due_age=live.oldest_due_age,
        blocked=live.blocked,
        blocked_age=live.oldest_blocked_age,
        running=live.running,
        resting=live.queued_later + live.sleeping + live.waiting,
        limits=tuple(rule.limit for rule in spec.concurrency),
        next_tick=min(ticks, default=None),
        paused=_paused(next((one for one in registry.pauses if one.function_id == row.function_id), None)),
    )
