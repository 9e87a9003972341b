"""Fire due cron ticks. Any number of processes may do it; the ledger lets each due instant land once."""

import asyncio
from collections.abc import Sequence

import structlog

from stepwell.engine import schedule
from stepwell.engine.events import SCHEDULED, system_event
from stepwell.engine.pile import Op
from stepwell.engine.well import Well
from stepwell.errors import StepwellError
from stepwell.ids import run_id
from stepwell.spec.function import CronTrigger
from stepwell.store.records import Tick, TickOutcome
from stepwell.store.registry import ScheduleRow

POLL = 1_000_000
OVERLAP = {"Allow": 0, "Skip": 1, "Replace": 2}


class Scheduler:
    """Plan from the last ledger row, never from "now", and fire what is due. `sweep`: also look after the well."""

    def __init__(self, well: Well, *, sweep: bool = False) -> None:
        self.well = well
        self.sweep = sweep
        self._log = structlog.get_logger("stepwell.scheduler")

    async def run(self) -> None:
        """Fire due ticks until cancelled."""
        while True:
            try:
                until = await self.fire()
                if self.sweep:
                    await self.well.sweep()
            except StepwellError as error:
                self._log.warning("cron could not be looked after", error=str(error))
                until = self.well.clock.now() + POLL
            await self.well.clock.sleep_until(min(until, self.well.clock.now() + POLL))

    async def fire(self) -> int:
        """Account for every instant that is due, and answer when the next one is."""
        now = self.well.clock.now()
        rows = self.well.registry.schedules
        if any(row.next_due <= now for row in rows):
            rows = (await self.well.refresh()).schedules
        nexts = [await self._fire_one(row, now) for row in rows if row.next_due <= now]
        if nexts:
            await self.well.refresh()
        return min((*nexts, *(row.next_due for row in rows if row.next_due > now)), default=now + POLL)

    async def _fire_one(self, row: ScheduleRow, now: int) -> int:
        trigger = CronTrigger.model_validate_json(row.cron)
        plan = schedule.plan_ticks(row.schedule_id, trigger, row.last_due, now)
        ops = [self._op(row, trigger, planned, now, plan.next_due) for planned in plan.ticks]
        done = await asyncio.gather(*(self.well.committer.submit(op) for op in ops))
        for planned, one in zip(plan.ticks, done, strict=True):
            if one.tick is not None:
                lag = (one.now - planned.due) / 1e6 if one.tick is TickOutcome.FIRED else None
                self.well.metrics.of(row.function_id).ticked(one.tick, lag)
        return plan.next_due

    def _op(self, row: ScheduleRow, trigger: CronTrigger, planned: schedule.PlannedTick, now: int, next_due: int) -> Op:
        if planned.outcome is not TickOutcome.FIRED:
            return Op(tick=Tick(row.schedule_id, planned.due, planned.outcome, planned.reason, next_due))
        data = {"cron": trigger.cron, "scheduledAt": schedule.rfc3339(planned.due), "fireAt": schedule.rfc3339(now)}
        fact = system_event(
            SCHEDULED, f"{row.schedule_id}@{schedule.rfc3339(planned.due)}".replace(" ", "_"), data, planned.due, self.well.ids
        )
        started = run_id(row.function_id, fact.row.id, fact.row.ts)
        tick = Tick(row.schedule_id, planned.due, planned.outcome, planned.reason, next_due, OVERLAP[trigger.overlap], started)
        return Op(tick=tick, tick_for=row.function_id, facts=(fact,))

    def next_ticks(self, rows: Sequence[ScheduleRow], count: int) -> dict[str, list[int]]:
        """The next due instants of each schedule, for people."""
        now = self.well.clock.now()
        return {
            row.schedule_id: schedule.parse_cron(CronTrigger.model_validate_json(row.cron).cron).between(now, now + 10**16, count)
            for row in rows
        }
