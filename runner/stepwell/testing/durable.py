"""Run durable functions in a test: real engine, real store (SQLite in memory), manual clock, crashes on demand."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import orjson

from stepwell import log, values
from stepwell.clock import ManualClock, from_datetime
from stepwell.decorator import Function
from stepwell.engine.events import NewEvent
from stepwell.engine.run import RunStatus
from stepwell.engine.scheduler import Scheduler
from stepwell.engine.trace import Tracer
from stepwell.engine.well import Receipt, Well
from stepwell.errors import StepwellError
from stepwell.event import Event
from stepwell.ids import Ids
from stepwell.metrics import Metrics
from stepwell.store.protocol import Store
from stepwell.store.sqlite import SqliteStore
from stepwell.store.views import RunFilter, RunRow
from stepwell.testing.crash import CrashingStore, CrashPoint
from stepwell.testing.stubs import Stubs
from stepwell.worker import Worker, WorkerOptions

START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
PATIENCE = 20.0
"""Real seconds that a test may take to settle before it is called stuck."""
STILL = 0.05
"""Real seconds without movement after which code that awaits something outside of the engine counts as settled."""
STILL_TURNS = 100
"""And for so many turns of the loop: a busy machine may take the process away for longer than that in one of them."""
STILL_IN_THREADS = 2.0
"""The same while a synchronous body is in its thread, which a busy machine may not have let run yet."""


class RunFailed(AssertionError):
    """`TestRun.result()` of a run that did not complete; the message says how it ended, or what it waits for."""


@dataclass(frozen=True, slots=True)
class TestRun:
    """A run in a test."""

    __test__ = False
    durable: "Durable"
    run_id: str

    async def row(self) -> RunRow:
        """The run as the store has it."""
        row = await self.durable.store.run(self.run_id)
        if row is None:
            raise RunFailed(f"there is no run {self.run_id}")
        return row

    async def status(self) -> RunStatus:
        """What the run is doing."""
        return (await self.row()).status

    async def result(self) -> Any:
        """What the function returned, as JSON; RunFailed unless the run has completed."""
        row = await self.row()
        if row.status is not RunStatus.COMPLETED:
            said = row.value.decode() if row.value is not None else f"waiting for {[wait.step_id for wait in row.waits]}"
            raise RunFailed(f"run {self.run_id} of {row.function_id!r} is {row.status.value}: {said}")
        return values.decode(row.value) if row.value is not None else None

    async def error(self) -> Mapping[str, Any]:
        """The error of a failed or cancelled run: name, message and, for a failed one, cause and stack."""
        row = await self.row()
        if row.status not in (RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.SKIPPED) or row.value is None:
            raise RunFailed(f"run {self.run_id} of {row.function_id!r} is {row.status.value}, it has no error")
        return orjson.loads(row.value)

    async def recorded(self) -> list[str]:
        """The ids of the recorded steps, in order."""
        return [one.step.step_id for one in await self.durable.store.steps(self.run_id)]

    @property
    def steps(self) -> list[str]:
        """The ids of the recorded steps, in the order they were recorded, as of the last time the test kit settled."""
        return self.durable.recorded.get(self.run_id, [])


class Durable:
    """The kit. Functions are registered as they are sent to; every verb comes back once nothing moves any more."""

    def __init__(self, store: Callable[[Callable[[], int]], Store] | None = None, start: datetime = START, seed: int = 0) -> None:
        self.clock = ManualClock(from_datetime(start))
        self.metrics = Metrics(component="test")
        self.ids = Ids(seed=seed)
        self.functions: dict[str, Function[Any, Any]] = {}
        self.stubs = Stubs()
        self.recorded: dict[str, list[str]] = {}
        self.options = WorkerOptions()
        self.tracer: Tracer | None = None
        self.store = CrashingStore(SqliteStore(":memory:", self.clock.now) if store is None else store(self.clock.now))
        self.well = self._new_well()
        self.worker: Worker | None = None
        self.scheduler = Scheduler(self.well)
        self._opened = False

    # --- verbs ---

    async def serve(self, *functions: Function[Any, Any]) -> None:
        """Register functions (a new one of the same id takes the old one's place) and run what is due."""
        for one in functions:
            self.functions[one.id] = one
        await self._up()
        if self.worker is not None:
            await self.worker.replace([self.stubs.wrap(one) for one in self.functions.values()])
        await self.settle()

    async def send(self, function: Function[Any, Any], event: Event[Any]) -> TestRun:
        """Send an event that starts this function; its run. An AssertionError if it started none."""
        if self.functions.get(function.id) is not function:
            await self.serve(function)
        receipt = (await self.send_event(event))[0]
        runs = await self.store.runs(RunFilter(function.id, event_id=receipt.id))
        if not runs:
            reasons = await self.store.decisions(receipt.id)
            raise AssertionError(f"event {event.name!r} started no run of {function.id!r}; {reasons or 'no trigger matched'}")
        return TestRun(self, runs[0].run_id)

    async def send_event(self, *events: Event[Any]) -> list[Receipt]:
        """Send events and let everything that follows happen."""
        await self._up()
        receipts = await self.well.send([NewEvent(one.name, one.data, one.id, one.ts, one.v) for one in events])
        await self.settle()
        return receipts

    async def invoke(self, function: Function[Any, Any], data: Mapping[str, Any] | None = None) -> TestRun:
        """Start a function without a trigger."""
        if self.functions.get(function.id) is not function:
            await self.serve(function)
        run = TestRun(self, await self.well.invoke(function.id, data or {}))
        await self.settle()
        return run

    async def runs(self, function: Function[Any, Any] | str) -> list[TestRun]:
        """All runs of a function, oldest first."""
        name = function if isinstance(function, str) else function.id
        rows = await self.store.runs(RunFilter(name, limit=1000))
        return [TestRun(self, row.run_id) for row in reversed(rows)]

    async def advance(self, length: timedelta) -> None:
        """Move the clock, stopping at every instant at which something is due."""
        await self._up()
        await self.settle()
        target = self.clock.now() + round(length.total_seconds() * 1_000_000)
        while True:
            due = min([self.clock.next_call(), *(row.next_due for row in self.well.registry.schedules)])
            if due > target:
                break
            await self.clock.advance_to(max(due, self.clock.now()))
            await self.scheduler.fire()
            await self.settle()
        await self.clock.advance_to(target)
        await self.well.sweep()
        await self.scheduler.fire()
        await self.settle()

    async def settle(self) -> None:
        """Come back once nothing moves: nothing due, nothing written, no code running but what awaits something outside."""
        deadline = asyncio.get_running_loop().time() + PATIENCE
        quiet = 0
        still_since: float | None = None
        turns = 0
        while quiet < 3:
            await asyncio.sleep(0 if quiet else 0.0002)
            now = asyncio.get_running_loop().time()
            if now > deadline:
                raise AssertionError(f"the test did not settle within {PATIENCE} s")
            state = self._moving()
            if state == "quiet":
                quiet += 1
            elif state == "outside":
                still_since = now if still_since is None else still_since
                turns += 1
                in_threads = self.worker is not None and self.worker.threads.busy
                still = now - still_since > (STILL_IN_THREADS if in_threads else STILL)
                quiet = 3 if still and turns >= STILL_TURNS else 0
            else:
                quiet, still_since, turns = 0, None, 0
        await self._note_steps()

    # --- faults ---

    def stub(self, fn: Callable[..., Any], *, returns: Any = None, raises: BaseException | None = None) -> None:
        """Instead of this function, wherever a step runs it: give back `returns`, or raise `raises`."""
        self.stubs.stub(fn, returns, raises)

    def fail_step(self, step_id: str, *, times: int, error: BaseException | None = None) -> None:
        """Let the first `times` tries of this step fail."""
        self.stubs.fail(step_id, times, error or StepwellError(f"the test lets {step_id!r} fail"))

    async def crash(self) -> None:
        """Kill the runner as `kill -9` would, and start another; leases have expired."""
        await self._down()
        await self.store.expire_all()
        await self._up()
        await self.settle()

    async def stop(self) -> None:
        """Stop the runner, as for a night; the next verb starts one again."""
        await self._down()

    async def crash_everywhere(
        self,
        function: Function[Any, Any],
        event: Event[Any],
        *,
        also: Sequence[Event[Any]] = (),
        advance: timedelta = timedelta(0),
    ) -> int:
        """Run the function once for every commit of its life, with a crash before and after it; assert the same result.

        `also` are sent after the first event has settled, then the clock advances. Answers how many crashes there were.
        """
        wanted, commits = await self._rehearse(function, event, also, advance, None)
        crashes = 0
        for place in range(1, commits + 1):
            for when in ("before", "after"):
                got, _ = await self._rehearse(function, event, also, advance, CrashPoint(place, when))
                if got != wanted:
                    raise AssertionError(
                        f"a crash {when} commit {place} of {commits} changed the outcome: {got} instead of {wanted}"
                    )
                crashes += 1
        return crashes

    async def close(self) -> None:
        """Stop everything."""
        await self._down()
        if self._opened:
            await self.store.close()

    # --- within ---

    async def _rehearse(
        self,
        function: Function[Any, Any],
        event: Event[Any],
        also: Sequence[Event[Any]],
        advance: timedelta,
        crash: CrashPoint | None,
    ) -> tuple[Any, int]:
        kit = await self._anew()
        kit.functions = dict(self.functions)
        kit.stubs = self.stubs.fresh()
        try:
            await kit.serve(function)
            kit.store.arm(crash)
            for place, one in enumerate((event, *also)):
                known = replace(one, id=one.id or f"rehearsal-{place}")
                await kit._through(lambda known=known: kit.send_event(known))  # noqa: SLF001 - a kit like this one
            await kit._through(lambda: kit.advance(advance))  # noqa: SLF001 - the same
            commits = kit.store.commits
            kit.store.disarm()
            runs = await kit.runs(function)
            outcomes = [((await run.status()).value, (await run.row()).value, sorted(await run.recorded())) for run in runs]
            return [_plain(one) for one in outcomes], commits
        finally:
            await kit.close()

    async def _anew(self) -> "Durable":
        """A kit with a well of its own, for one rehearsal."""
        return Durable()

    async def _through(self, act: Callable[[], Any]) -> None:
        """Do something that a crash may interrupt; the sender tries again, as a client does."""
        while True:
            acting = asyncio.ensure_future(act())
            died = asyncio.ensure_future(self.store.died.wait())
            await asyncio.wait({acting, died}, return_when=asyncio.FIRST_COMPLETED)
            died.cancel()
            if not self.store.crashed:
                await acting
                return
            acting.cancel()
            await asyncio.gather(acting, died, return_exceptions=True)
            await self._down()
            self.store.revive()
            await self.crash()

    def _moving(self) -> str:
        if self.store.crashed:
            return "quiet"
        worker = self.worker
        if not self.well.idle or self.store.busy or worker is None:
            return "quiet" if worker is None and self.well.idle else "moving"
        if worker.asking or worker.nudged:
            return "moving"
        return "outside" if worker.running else "quiet"

    async def _note_steps(self) -> None:
        if self._opened and not self.store.crashed:
            for row in await self.store.runs(RunFilter(limit=100)):
                self.recorded[row.run_id] = [one.step.step_id for one in await self.store.steps(row.run_id)]

    def _new_well(self) -> Well:
        well = Well(cast("Store", self.store), self.clock, self.metrics, "test", self.ids)
        well.tracer = self.tracer
        return well

    async def _up(self) -> None:
        if not self._opened:
            self._opened = True
            log.install_context()
            await self.store.migrate()
        if self.worker is None:
            self.well = self._new_well()
            await self.well.open()
            self.scheduler = Scheduler(self.well)
            self.worker = Worker(self.well, [self.stubs.wrap(one) for one in self.functions.values()], self.options)
            await self.worker.start()

    async def _down(self) -> None:
        worker, self.worker = self.worker, None
        if worker is not None:
            await worker.stop()
            self.well.abandon()


def _plain(outcome: tuple[str, bytes | None, list[str]]) -> tuple[str, Any, list[str]]:
    status, value, steps = outcome
    decoded = values.decode(value) if value is not None else None
    if isinstance(decoded, dict):
        decoded = {key: one for key, one in cast("dict[str, Any]", decoded).items() if key != "stack"}
    return status, decoded, steps
