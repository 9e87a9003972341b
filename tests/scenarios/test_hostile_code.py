"""User code is hostile without meaning it: it blocks the loop, and loses nothing."""

import asyncio
import threading
from datetime import timedelta
from uuid import uuid4

import stepwell
from stepwell import Context
from stepwell.clock import SystemClock
from stepwell.engine.events import NewEvent
from stepwell.engine.run import RunStatus
from stepwell.engine.well import Well
from stepwell.metrics import Metrics
from stepwell.store.postgres import PostgresStore
from stepwell.store.records import Claim, Pile
from stepwell.store.results import PileResult
from stepwell.store.views import RunFilter, RunnerRow
from stepwell.worker import Worker, WorkerOptions

LEASE = timedelta(seconds=3)


async def test_code_that_blocks_the_loop_keeps_its_lease(postgres_dsn: str) -> None:
    """A step that blocks the event loop for longer than the lease is not taken over; it is counted, and its result lands."""
    schema = f"h{uuid4().hex[:10]}"
    stolen: list[PileResult] = []

    async def rival() -> None:
        store = PostgresStore(postgres_dsn, schema=schema)
        await store.enrol(RunnerRow("rival", ("default",), ("block",), 10, 60_000_000, draining=False))
        stolen.append(await store.commit(Pile(claim=Claim("rival", ("default",), ("block",), 10, sweep=True))))
        await store.leave("rival")
        await store.close()

    def wait_and_steal() -> None:
        threading.Event().wait(2 * LEASE.total_seconds() + 0.5)
        asyncio.run(rival())

    @stepwell.function(id="block", triggers=[stepwell.on_event("block")])
    async def block(ctx: Context) -> str:
        async def body() -> str:
            thread = threading.Thread(target=wait_and_steal)
            thread.start()
            thread.join()  # the whole loop stands still meanwhile
            return "kept"

        return await ctx.step.run("body", body)

    well = Well(PostgresStore(postgres_dsn, schema=schema), SystemClock(), Metrics("test"))
    await well.store.migrate()
    await well.open()
    worker = Worker(well, [block], WorkerOptions(lease=LEASE))
    await worker.start()
    try:
        await well.send([NewEvent("block", {})])
        async with asyncio.timeout(60):
            while (run := (await well.store.runs(RunFilter("block")))[0]).status is not RunStatus.COMPLETED:
                await asyncio.sleep(0.02)
        assert run.value == b'"kept"'
        assert stolen[0].recovered == 0
        assert stolen[0].claimed == ()
        async with asyncio.timeout(30):
            while b'stepwell_loop_blocked_seconds_total{function="block",namespace="default"} 0.0' in well.metrics.render()[0]:
                await asyncio.sleep(0.05)
        [step] = await well.store.steps(run.run_id)
        assert step.step.attempts == 1
    finally:
        await worker.drain(timedelta(seconds=1))
        await well.close()
