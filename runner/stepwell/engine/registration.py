"""What registering functions comes to, in rows: the one place that knows, for workers and for operators."""

from collections.abc import Sequence
from dataclasses import dataclass

from stepwell.engine import dispatch
from stepwell.engine.schedule import plan_ticks
from stepwell.spec.function import CronTrigger, FunctionSpec
from stepwell.store.registry import FunctionRow, ScheduleRow


@dataclass(frozen=True, slots=True)
class Registration:
    """An owner's functions and schedules, and the (event name, path) pairs that their `cancel_on` listens on."""

    owner: str
    functions: tuple[FunctionRow, ...]
    schedules: tuple[ScheduleRow, ...]
    listens: tuple[tuple[str, str], ...]


def registration(owner: str, functions: Sequence[tuple[FunctionSpec, str]], pool: str, now: int) -> Registration:
    """The rows for these (spec, revision) pairs; `now` (µs) is when new schedules begin."""
    return Registration(
        owner,
        tuple(FunctionRow(spec.id, revision, pool, owner, spec.to_json()) for spec, revision in functions),
        tuple(schedule for spec, _revision in functions for schedule in schedules_of(spec, now)),
        tuple(pair for spec, _revision in functions for pair in dispatch.listened(spec.cancel_on)),
    )


def schedules_of(spec: FunctionSpec, now: int) -> list[ScheduleRow]:
    """The schedules that a function's cron triggers ask for."""
    return [
        ScheduleRow(
            schedule_id := f"{spec.id}/{trigger.cron}",
            spec.id,
            trigger.model_dump_json(by_alias=True).encode(),
            now,
            now,
            plan_ticks(schedule_id, trigger, now, now).next_due,
        )
        for trigger in spec.triggers
        if isinstance(trigger, CronTrigger)
    ]
