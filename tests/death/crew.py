"""Runner processes to kill, a sender, and the checks that hold whatever died."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from uuid import uuid4

from stepwell.clock import SystemClock
from stepwell.engine.events import NewEvent
from stepwell.engine.run import RunStatus
from stepwell.engine.well import Well
from stepwell.errors import StoreUnavailable
from stepwell.metrics import Metrics
from stepwell.store.records import StepKind
from stepwell.store.views import RunFilter, RunRow
from stepwell.values import decode

KITCHEN = Path(__file__).with_name("kitchen.py")


class Runner:
    """One runner process; `crash_at` names the point at which it kills itself, `lease` is in seconds."""

    def __init__(self, address: str, schema: str, witness: Path, crash_at: str = "", lease: float = 2) -> None:
        env = {**os.environ, "STEPWELL_CRASHPOINT": crash_at, "LEASE": str(lease)}
        with witness.with_name("runners.log").open("ab") as log:
            self.process = subprocess.Popen([sys.executable, KITCHEN, address, schema, witness], env=env, stdout=log, stderr=log)
        self._ready = Path(f"{witness}.{self.process.pid}")

    async def ready(self) -> None:
        """Wait until it claims, or died on the way."""
        while not self._ready.exists() and not self.dead:
            await asyncio.sleep(0.01)

    @property
    def dead(self) -> bool:
        """Whether it is gone."""
        return self.process.poll() is not None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def end(self) -> None:
        """Kill it if it lives, and forget it."""
        if not self.dead:
            self.process.kill()
        self.process.wait()


class Crew:
    """Runners over one well, and this process as the sender."""

    def __init__(self, address: str, folder: Path) -> None:
        self.address = address
        self.schema = f"d{uuid4().hex[:10]}"
        self.witness = folder / "witness"
        self.witness.touch()
        self.runners: list[Runner] = []
        self.well: Well | None = None

    async def hire(self, crash_at: str = "", lease: float = 2) -> Runner:
        """Start a runner and wait until it is at work."""
        runner = Runner(self.address, self.schema, self.witness, crash_at, lease)
        self.runners.append(runner)
        await runner.ready()
        return runner

    async def open(self, well: Well) -> None:
        """Be the sender."""
        self.well = well
        await well.store.migrate()
        await well.open()

    async def send(self, name: str, count: int, **data: float) -> list[str]:
        """Send events, again and again with the same ids while the store is away; the ids of what was acknowledged."""
        assert self.well is not None
        events = [NewEvent(name, {"n": number, **data}, id=f"{name}-{number}") for number in range(count)]
        sent: list[str] = []
        for event in events:
            while True:
                try:
                    sent += [receipt.id for receipt in await self.well.send([event])]
                    break
                except StoreUnavailable:
                    await asyncio.sleep(0.05)
        return sent

    async def runs(self, name: str) -> list[RunRow]:
        """The runs of a function."""
        assert self.well is not None
        while True:
            try:
                return await self.well.store.runs(RunFilter(name, limit=1000))
            except StoreUnavailable:
                await asyncio.sleep(0.05)

    async def ended(self, name: str, count: int, seconds: float = 120) -> list[RunRow]:
        """Wait until so many runs of a function have ended."""
        async with asyncio.timeout(seconds):
            while True:
                rows = await self.runs(name)
                if sum(row.status.is_final for row in rows) >= count:
                    return rows
                await asyncio.sleep(0.05)

    async def begun(self, step_id: str, count: int, seconds: float = 60) -> None:
        """Wait until bodies of this step have begun so often."""
        async with asyncio.timeout(seconds):
            while sum('["begin"' in line and f'"{step_id}"' in line for line in self.witness.read_text().splitlines()) < count:
                await asyncio.sleep(0.01)

    async def moved(self, bodies: int, seconds: float = 2) -> None:
        """Wait until so many more bodies have ended, or for so long: near the end there may be none left."""
        wanted = self.witness.read_text().count('["end"') + bodies
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.witness.read_text().count('["end"') < wanted:
                    await asyncio.sleep(0.01)

    async def check(self, names: Sequence[str], statuses: Sequence[RunStatus] = (RunStatus.COMPLETED,)) -> None:
        """No recorded step ran again, every recorded one ran, the doctor finds nothing."""
        assert self.well is not None
        begun: dict[tuple[str, str, int], list[int]] = defaultdict(list)
        for line in self.witness.read_text(encoding="utf-8").splitlines():
            moment, run_id, step_id, occurrence, _attempt, _pid, at = json.loads(line)
            if moment == "begin":
                begun[run_id, step_id, occurrence].append(at)
        for name in names:
            for row in await self.runs(name):
                assert row.status in statuses, (row.run_id, row.status, row.value)
                for recorded in await self.well.store.steps(row.run_id):
                    step = recorded.step
                    if step.kind is not StepKind.RUN:
                        continue
                    starts = begun[row.run_id, step.step_id, step.occurrence]
                    assert starts, f"step {step.step_id} of {row.run_id} is recorded and never ran"
                    # What is recorded at `ended` never begins again later. That is the store's clock as a runner took it over,
                    # which a busy machine makes some tenths of a second wrong; who takes a run over comes after a lease.
                    assert max(starts) // 1000 <= step.ended + 500_000, (
                        f"step {step.step_id} of {row.run_id} ran again after its record"
                    )
        assert await self.well.store.doctor() == []

    def end(self) -> None:
        """Kill everybody."""
        for runner in self.runners:
            runner.end()


@contextlib.asynccontextmanager
async def crew(address: str, folder: Path) -> AsyncIterator[Crew]:
    """A crew on a fresh well; on SQLite its one runner has the file, so there is no sender beside it."""
    from stepwell.store.postgres import PostgresStore

    made = Crew(address, folder)
    try:
        if address.startswith("postgresql:"):
            await made.open(Well(PostgresStore(address, schema=made.schema), SystemClock(), Metrics("sender")))
        yield made
    finally:
        made.end()
        if made.well is not None:
            await made.well.close()


def result(row: RunRow) -> object:
    """What the run returned."""
    return decode(row.value) if row.value is not None else None
