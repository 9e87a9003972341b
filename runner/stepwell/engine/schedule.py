"""From a schedule's last accounted instant and now: what becomes of each instant that is due. Pure.

Every due instant gets exactly one outcome, computed from the last ledger row and never from "now", so that it doesn't
matter who asks, when, or how often. Instants are µs since 1970.
"""

import hashlib
from dataclasses import dataclass
from datetime import timedelta

from stepwell.spec.cron import EPOCH, US, Cron, parse_cron
from stepwell.spec.duration import format_duration, microseconds
from stepwell.spec.function import CronTrigger
from stepwell.store.records import TickOutcome

__all__ = ["ON_TIME", "PAGE", "Cron", "PlannedTick", "TickPlan", "jitter_of", "parse_cron", "plan_ticks", "rfc3339"]

ON_TIME = 60_000_000
"""A tick that is fired at most 60 s late (after its jitter) is on time; a later one was missed."""

CAUGHT_UP = 100
"""The most missed ticks that `missed="All"` fires; older ones are coalesced."""

PAGE = 500
"""The most instants that one plan accounts for; the next plan goes on from there."""


@dataclass(frozen=True, slots=True)
class PlannedTick:
    """One due instant and what becomes of it."""

    due: int
    outcome: TickOutcome
    reason: str


@dataclass(frozen=True, slots=True)
class TickPlan:
    """The instants to account for now, oldest first, and when to plan again: at once if `next_due` has passed."""

    ticks: tuple[PlannedTick, ...]
    next_due: int
    """When the first instant that is not in `ticks` fires, jitter included."""


@dataclass(frozen=True, slots=True)
class _Ready:
    due: int
    late: int


def plan_ticks(schedule_id: str, trigger: CronTrigger, last_due: int, now: int) -> TickPlan:
    """Say what becomes of every instant after `last_due` that has come by `now`, by the trigger's policy for missed ticks.

    A schedule that has fired nothing yet has its creation as `last_due`.
    """
    ready, next_due = _ready(schedule_id, trigger, last_due, now)
    ticks = tuple(_decide(ready, place, trigger) for place in range(min(len(ready), PAGE)))
    if len(ready) > PAGE:
        next_due = now - ready[PAGE].late
    return TickPlan(ticks, next_due)


def jitter_of(schedule_id: str, due: int, jitter: timedelta | None) -> int:
    """The delay of this instant in µs, from 0 up to below `jitter`: always the same one, whoever asks."""
    if not jitter:
        return 0
    digest = hashlib.blake2b(f"{schedule_id}\0{due}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % microseconds(jitter)


def rfc3339(instant: int) -> str:
    """The instant as text in UTC: `2026-11-23T09:00:00Z`."""
    return (EPOCH + instant * US).isoformat().replace("+00:00", "Z")


def _ready(schedule_id: str, trigger: CronTrigger, last_due: int, now: int) -> tuple[list[_Ready], int]:
    """The instants that have come, a page and a hundred at most, and when the first one after them fires.

    Instants are accounted for in their order, so one with a short delay waits for the one before it.
    """
    ready: list[_Ready] = []
    fires = last_due
    for due in parse_cron(trigger.cron).after(last_due):
        fires = max(fires, due + jitter_of(schedule_id, due, trigger.jitter))
        if fires > now or len(ready) >= PAGE + CAUGHT_UP:
            break
        ready.append(_Ready(due, now - fires))
    return ready, fires


def _decide(ready: list[_Ready], place: int, trigger: CronTrigger) -> PlannedTick:
    tick = ready[place]
    if tick.late <= ON_TIME:
        return PlannedTick(tick.due, TickOutcome.FIRED, "on time")
    late = f"{_rounded(tick.late)} late"
    if trigger.missed == "Skip":
        return PlannedTick(tick.due, TickOutcome.SKIPPED, f"{late}; missed ticks are skipped")
    if tick.late > microseconds(trigger.window):
        return PlannedTick(tick.due, TickOutcome.WINDOW_SKIPPED, f"{late}; the window is {format_duration(trigger.window)}")
    if trigger.missed == "Latest":
        if place + 1 < len(ready):
            return PlannedTick(tick.due, TickOutcome.COALESCED, f"{late}; the latest tick stands for it")
    elif place + CAUGHT_UP < len(ready) and ready[place + CAUGHT_UP].late > ON_TIME:
        return PlannedTick(tick.due, TickOutcome.COALESCED, f"{late}; at most {CAUGHT_UP} are caught up")
    return PlannedTick(tick.due, TickOutcome.FIRED, late)


def _rounded(late: int) -> str:
    return format_duration(timedelta(seconds=late // 1_000_000))
