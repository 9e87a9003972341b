"""One function's figures. Each is bound once; what a function can never reach has no series."""

from collections.abc import Iterable, Sequence
from functools import cached_property

import structlog

from stepwell.engine.run import RunStatus
from stepwell.metrics import catalogue as names
from stepwell.metrics.catalogue import By
from stepwell.metrics.cells import Count, Shelf, Spread
from stepwell.spec.function import CronTrigger, EventTrigger, FunctionSpec
from stepwell.store.records import TickOutcome, TriggerKind

TICKS = {
    TickOutcome.FIRED: "fired",
    TickOutcome.COALESCED: "coalesced",
    TickOutcome.SKIPPED: "skipped",
    TickOutcome.WINDOW_SKIPPED: "window_skipped",
    TickOutcome.OVERLAP_SKIPPED: "overlap_skipped",
}
TRIGGERS = {kind: kind.name.lower() for kind in TriggerKind}
REASONS = {"TimeoutError": "timeout", "RetryAfterError": "retry_after", "lost": "lost"}
MOST_STEPS = 50
"""So many step ids a function have series of their own; the others share `other`."""


class FunctionMetrics:
    """What is counted of one function. `by_step`: its steps are told apart."""

    def __init__(self, shelf: Shelf, function_id: str, *, by_step: bool = False) -> None:
        self.id = function_id
        self.spec: FunctionSpec | None = None
        self.by_step = by_step
        self.started = Count()
        """Runs that were claimed for the first time; shown under Inngest's name alone."""
        self._shelf = shelf
        self._steps: set[str] = set()
        self._created: dict[TriggerKind, Count] = {}
        self._finished: dict[RunStatus, Count] = {}
        self._durations: dict[RunStatus, Spread] = {}
        self._attempts: dict[tuple[str, str], Count] = {}
        self._retries: dict[tuple[str, str], Count] = {}
        self._spans: dict[str, Spread] = {}
        self._errors: dict[str, Count] = {}
        self._waits: dict[str, Count] = {}
        self._ticks: dict[TickOutcome, Count] = {}

    def reach(self, spec: FunctionSpec, parts: Iterable[By]) -> None:
        """Begin at zero whatever this function, as it is configured, can reach in a process that has these parts."""
        self.spec = spec
        for part in parts:
            if part is By.DISPATCH:
                self._reach_dispatch(spec)
            elif part is By.EXECUTION:
                self._reach_execution()
            elif part is By.CRON and _has(spec, CronTrigger):
                for outcome in TickOutcome:
                    self._tick(outcome)

    def forget(self) -> None:
        """Let go of every series of this function; what is still added comes to nothing."""
        self._shelf.forget(self.id)

    # --- dispatch ---

    def created(self, trigger: TriggerKind, *, landed: bool, skipped: bool) -> None:
        """A start that was committed."""
        if landed:
            (self._created.get(trigger) or self._creation(trigger)).value += 1
        elif skipped:
            self._finish(RunStatus.SKIPPED).value += 1
            self.refused.value += 1

    def finished(self, status: RunStatus, seconds: float) -> None:
        """A run ended `seconds` after it was created."""
        self._finish(status).value += 1
        found = self._durations.get(status)
        if found is None:
            found = self._durations[status] = self._shelf.spread(names.RUN_DURATION, self.id, status.value)
        found.observe(max(seconds, 0.0))

    def expression_error(self, kind: str) -> None:
        """An expression gave no boolean, or no value."""
        self._error(kind).value += 1

    def recovered(self, cause: str, runs: int = 1) -> None:
        """So many executions were taken from their runner: its lease expired, it drained, or it was started again."""
        self._shelf.count(names.RUNS_RECOVERED, self.id, cause).value += runs

    @cached_property
    def parked(self) -> Count:
        """Runs that killed their runner too often."""
        return self._shelf.count(names.RUNS_PARKED, self.id)

    @cached_property
    def refused(self) -> Count:
        """Starts that the idempotency rule refused."""
        return self._shelf.count(names.FLOW_CONTROL, self.id, "skipped")

    # --- execution ---

    def claimed(self, waited: float, *, fresh: bool) -> None:
        """A run was claimed that any runner could have had for `waited` seconds; `fresh`: for the first time."""
        self.claims.value += 1
        self.queue_wait.observe(max(waited, 0.0))
        if fresh:
            self.started.value += 1

    def step_done(self, seconds: float | None, outcome: str, step_id: str = "") -> None:
        """One attempt, once what came of it is certain: ok, error, timeout, cancelled or fenced; its time, if it is a step's."""
        step = self._named(step_id) if self.by_step else ""
        counted = self._attempts.get((outcome, step))
        if counted is None:
            counted = self._attempt(outcome, step)
        counted.value += 1
        if seconds is None:
            return
        span = self._spans.get(step)
        if span is None:
            span = self._spans[step] = self._shelf.spread(names.STEP_DURATION, self.id, step)
        span.observe(seconds)

    def retried(self, reason: str, wait: float, lost: float = 0.0, step_id: str = "") -> None:
        """A failed attempt that is followed by another; `reason` is the error's class name, or "lost"."""
        step = self._named(step_id) if self.by_step else ""
        self._retry(REASONS.get(reason, "error"), step).value += 1
        self.retry_wait.observe(max(wait, 0.0))
        self.retry_lost.value += max(lost, 0.0)

    def wait_resolved(self, outcome: str) -> None:
        """A wait ended: event or timeout."""
        self._wait(outcome).value += 1

    def lease_lost(self) -> None:
        """The lease ended before the execution."""
        self.leases_lost.value += 1

    def log_refused(self, run_id: str, error: Exception) -> None:
        """The store would not take a turn."""
        structlog.get_logger("stepwell.engine").error(
            "a turn was refused; its run is tried again", run_id=run_id, error=str(error)
        )

    def log_conflict(self, run_id: str, event_ids: Sequence[str]) -> None:
        """Events that code sent under ids of other events: the first ones stay."""
        structlog.get_logger("stepwell.engine").warning(
            "a step sent events whose ids belong to other events; these were not accepted, choose ids of their own",
            run_id=run_id,
            events=list(event_ids),
        )

    @cached_property
    def claims(self) -> Count:
        """Queue items claimed."""
        return self._shelf.count(names.CLAIMS, self.id)

    @cached_property
    def memoized(self) -> Count:
        """Steps answered from the journal."""
        return self._shelf.count(names.STEPS_MEMOIZED, self.id)

    @cached_property
    def fenced(self) -> Count:
        """Writes refused by the epoch."""
        return self._shelf.count(names.FENCED_WRITES, self.id)

    @cached_property
    def leases_lost(self) -> Count:
        """Leases that ended before their execution."""
        return self._shelf.count(names.LEASES_LOST, self.id)

    @cached_property
    def loop_blocked(self) -> Count:
        """Seconds that user code held the event loop."""
        return self._shelf.count(names.LOOP_BLOCKED, self.id)

    @cached_property
    def retry_lost(self) -> Count:
        """Seconds spent in attempts that were retried."""
        return self._shelf.count(names.STEP_RETRY_LOST, self.id)

    @cached_property
    def retry_wait(self) -> Spread:
        """From a failed attempt to the next."""
        return self._shelf.spread(names.STEP_RETRY_WAIT, self.id)

    @cached_property
    def queue_wait(self) -> Spread:
        """From claimable to claimed."""
        return self._shelf.spread(names.RUN_QUEUE_WAIT, self.id)

    # --- cron ---

    def ticked(self, outcome: TickOutcome, lag: float | None = None) -> None:
        """A ledger row was written; one that fired, `lag` seconds after its instant."""
        self._tick(outcome).value += 1
        if lag is not None:
            self._shelf.spread(names.CRON_LAG, self.id).observe(max(lag, 0.0))

    # --- cells, bound at first use ---

    def _reach_dispatch(self, spec: FunctionSpec) -> None:
        reachable = {TriggerKind.INVOKE, TriggerKind.RERUN}
        reachable |= {TriggerKind.EVENT} if _has(spec, EventTrigger) else set[TriggerKind]()
        reachable |= {TriggerKind.CRON} if _has(spec, CronTrigger) else set[TriggerKind]()
        for trigger in sorted(reachable):
            self._creation(trigger)
        for status in (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED):
            self._finish(status)
        if spec.idempotency is not None:
            self._finish(RunStatus.SKIPPED)
            _ = self.refused
        for kind in expression_kinds(spec):
            self._error(kind)
        for cause in names.TAKEN_OVER:
            self.recovered(cause, 0)
        _ = self.parked

    def _reach_execution(self) -> None:
        if not self.by_step:
            for outcome in names.STEP_ATTEMPTS.labels[1].values:
                self._attempt(outcome, "")
            for reason in names.STEP_RETRIES.labels[1].values:
                self._retry(reason, "")
        for outcome in names.WAITS_RESOLVED.labels[1].values:
            self._wait(outcome)
        self.recovered("drain", 0)
        _ = (self.claims, self.memoized, self.fenced, self.leases_lost, self.loop_blocked, self.retry_lost)

    def _creation(self, trigger: TriggerKind) -> Count:
        found = self._created[trigger] = self._shelf.count(names.RUNS_CREATED, self.id, TRIGGERS[trigger])
        return found

    def _finish(self, status: RunStatus) -> Count:
        found = self._finished.get(status)
        if found is None:
            found = self._finished[status] = self._shelf.count(names.RUNS_FINISHED, self.id, status.value)
        return found

    def _error(self, kind: str) -> Count:
        found = self._errors.get(kind)
        if found is None:
            found = self._errors[kind] = self._shelf.count(names.EXPRESSION_ERRORS, self.id, kind)
        return found

    def _attempt(self, outcome: str, step: str) -> Count:
        found = self._attempts[outcome, step] = self._shelf.count(names.STEP_ATTEMPTS, self.id, outcome, step)
        return found

    def _retry(self, reason: str, step: str) -> Count:
        found = self._retries.get((reason, step))
        if found is None:
            found = self._retries[reason, step] = self._shelf.count(names.STEP_RETRIES, self.id, reason, step)
        return found

    def _wait(self, outcome: str) -> Count:
        found = self._waits.get(outcome)
        if found is None:
            found = self._waits[outcome] = self._shelf.count(names.WAITS_RESOLVED, self.id, outcome)
        return found

    def _tick(self, outcome: TickOutcome) -> Count:
        found = self._ticks.get(outcome)
        if found is None:
            found = self._ticks[outcome] = self._shelf.count(names.CRON_TICKS, self.id, TICKS[outcome])
        return found

    def _named(self, step_id: str) -> str:
        if step_id in self._steps:
            return step_id
        if len(self._steps) >= MOST_STEPS:
            return "other"
        self._steps.add(step_id)
        return step_id


def expression_kinds(spec: FunctionSpec) -> tuple[str, ...]:
    """The kinds of expression that a function has; a wait's is in its code, so that any function may have one."""
    has_key = spec.idempotency is not None or any(rule.key is not None for rule in spec.concurrency)
    found = {
        "trigger": any(isinstance(one, EventTrigger) and one.if_ is not None for one in spec.triggers),
        "cancel": any(rule.if_ is not None for rule in spec.cancel_on),
        "wait": True,
        "key": has_key,
    }
    return tuple(kind for kind, there in found.items() if there)


def _has(spec: FunctionSpec, kind: type[CronTrigger] | type[EventTrigger]) -> bool:
    return any(isinstance(one, kind) for one in spec.triggers)
