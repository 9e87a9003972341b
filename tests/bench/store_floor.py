"""What the store alone costs: piles of starts, claims, steps and ends, as the committer makes them, without an engine.

    python -m tests.bench.store_floor [--rounds 40] [--runs 300] [--steps 20]

Prints CPU µs a unit, split into this process (encoding, driver, decoding) and Postgres; units a commit; row versions that a
finished run leaves behind in the queue. Figures compare within one printing only.
"""

import argparse
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import asyncpg
import psutil
import uvloop
from tests.postgres_server import Postgres, server

from stepwell.engine.run import RunStatus
from stepwell.store.postgres import PostgresStore
from stepwell.store.records import Claim, End, EventRow, Pile, Start, StepKind, StepRow, TriggerKind, Turn
from stepwell.store.registry import FunctionRow
from stepwell.store.views import RunnerRow

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
FUNCTIONS = ("bench",)
POOLS = ("bench",)
RUNNER = "0123456789abcdef"
EVENT = (
    b'{"id":"0123456789abcdefghijklmnop","name":"bench/start","data":{"orderId":"o-12345678","total":1234},"ts":1790000000000}'
)


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds and wall seconds of some work, by process."""

    client: float
    server: float
    wall: float

    def line(self, what: str, units: int, commits: int) -> str:
        """One printed row."""
        total = self.client + self.server
        return (
            f"{what:<44}{total / units * 1e6:>8.1f} µs  = client {self.client / units * 1e6:>6.1f} + Postgres "
            f"{self.server / units * 1e6:>6.1f}   {units / self.wall:>9,.0f}/s   {units / commits:>6.1f} a commit"
        )


class Meter:
    """CPU time of this process and of a tree of Postgres processes, backends that ended included."""

    def __init__(self, pid: int) -> None:
        self._own = psutil.Process()
        self._tree = psutil.Process(pid)

    def _server(self) -> float:
        total = 0.0
        for process in (self._tree, *self._tree.children(recursive=True)):
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
            if process.pid == self._tree.pid:
                total += times.children_user + times.children_system
        return total

    async def of(self, work: Callable[[], Awaitable[None]]) -> Cost:
        """What this work costs."""
        own, tree, wall = self._own.cpu_times(), self._server(), time.perf_counter()
        await work()
        after = self._own.cpu_times()
        client = after.user + after.system - own.user - own.system
        return Cost(client, self._server() - tree, time.perf_counter() - wall)


def ulid(number: int) -> str:
    """A run id of this moment with this number in it."""
    ms, digits = time.time_ns() // 1_000_000, ""
    for _ in range(10):
        ms, rest = divmod(ms, 32)
        digits = ALPHABET[rest] + digits
    return digits + f"{number:016d}"


class Numbers:
    """Run ids that never come twice."""

    def __init__(self) -> None:
        self.next = 0

    def take(self, count: int) -> list[str]:
        """That many ids."""
        first, self.next = self.next, self.next + count
        return [ulid(number) for number in range(first, first + count)]


def starts(run_ids: Sequence[str], lease_to: str | None = None) -> Pile:
    """Start these runs; claim them in the same pile unless they are fused."""
    rows = tuple(
        Start(
            run_id=run_id,
            function_id=FUNCTIONS[0],
            revision="0123456789ab",
            pool=POOLS[0],
            trigger=TriggerKind.EVENT,
            input=b"[" + EVENT + b"]",
            event_ids=("e" + run_id,),
            created=1_790_000_000_000_000,
            due=1_790_000_000_000_000,
            event=place,
            lease_to=lease_to,
        )
        for place, run_id in enumerate(run_ids)
    )
    events = tuple(EventRow("e" + run_id, "bench/start", EVENT, b"x" * 32, 1_790_000_000_000) for run_id in run_ids)
    claim = None if lease_to else Claim(RUNNER, POOLS, FUNCTIONS, len(run_ids))
    return Pile(registry_version=2, events=events, starts=rows, claim=claim)


def step(name: str) -> StepRow:
    """One small result."""
    return StepRow(name, 0, StepKind.RUN, True, b'{"ok":true,"n":12345}', 1, 1_790_000_000_000_000, 1_790_000_000_000_100)


def turns(run_ids: Sequence[str], name: str, *, end: bool) -> Pile:
    """One step of each run, and its end with it."""
    then = End(RunStatus.COMPLETED, b'{"done":true}') if end else None
    return Pile(
        registry_version=2 if end else -1, turns=tuple(Turn(run_id, 1, steps=(step(name),), then=then) for run_id in run_ids)
    )


async def one_step_runs(store: PostgresStore, numbers: Numbers, rounds: int, runs: int, lease_to: str | None = None) -> None:
    """Start, claim, record one step, finish."""
    for _ in range(rounds):
        ids = numbers.take(runs)
        result = await store.commit(starts(ids, lease_to))
        assert lease_to or len(result.claimed) == runs
        result = await store.commit(turns(ids, "only", end=True))
        assert not result.fenced


async def recorded_steps(store: PostgresStore, run_ids: Sequence[str], steps: int, first: int) -> None:
    """Twenty steps after each other in every run, all runs at once."""
    for number in range(first, first + steps):
        result = await store.commit(turns(run_ids, f"step-{number}", end=False))
        assert not result.fenced


async def lone_runs(store: PostgresStore, numbers: Numbers, count: int) -> list[float]:
    """One run after the other, each in three commits; seconds each."""
    took: list[float] = []
    for _ in range(count):
        (run_id,) = numbers.take(1)
        began = time.perf_counter()
        start = starts([run_id])
        claim, start = Pile(claim=start.claim), Pile(registry_version=2, events=start.events, starts=start.starts)
        await store.commit(start)
        await store.commit(claim)
        await store.commit(turns([run_id], "only", end=True))
        took.append(time.perf_counter() - began)
    return took


async def measure(store: PostgresStore, postgres: Postgres, options: argparse.Namespace) -> None:
    """Print the figures."""
    numbers, meter = Numbers(), Meter(postgres.pid)
    rounds, runs, steps = options.rounds, options.runs, options.steps
    await one_step_runs(store, numbers, 5, runs)
    admin = await asyncpg.connect(postgres.dsn)
    await admin.execute("vacuum stepwell.queue")
    before = await dead(store, admin)
    cost = await meter.of(lambda: one_step_runs(store, numbers, rounds, runs))
    print(cost.line("one-step run, started and claimed in one pile", rounds * runs, rounds * 2))
    print(f"{'':<44}{(await dead(store, admin) - before) / (rounds * runs):>8.2f} updates and deletes of queue a finished run")
    cost = await meter.of(lambda: one_step_runs(store, numbers, rounds, runs, RUNNER))
    print(cost.line("one-step run, fused", rounds * runs, rounds * 2))
    ids = numbers.take(runs)
    await store.commit(starts(ids))
    await recorded_steps(store, ids, 2, 1000)
    for again in range(3):
        cost = await meter.of(lambda first=again * steps: recorded_steps(store, ids, steps, first))
        print(cost.line(f"recorded step, {runs} runs at once", steps * runs, steps))
    took: list[float] = []

    async def alone() -> None:
        took.extend(await lone_runs(store, numbers, 300))

    cost = await meter.of(alone)
    print(cost.line("one-step run, alone, three commits", 300, 900), f"  p50 {sorted(took)[150] * 1e3:.2f} ms")
    await admin.close()


async def dead(store: PostgresStore, admin: asyncpg.Connection) -> int:
    """Row versions of the queue that were left behind so far."""
    async with store._writes.use() as connection:
        await connection.execute("select pg_stat_force_next_flush()")
        await connection.execute("select 1")
    await admin.execute("select pg_stat_clear_snapshot()")
    return await admin.fetchval(
        "select n_tup_upd + n_tup_del from pg_stat_user_tables where schemaname='stepwell' and relname='queue'"
    )


async def main(options: argparse.Namespace) -> None:
    """Make a server and a store, and measure."""
    with server() as postgres:
        store = PostgresStore(postgres.dsn)
        await store.migrate()
        await store.open()
        await store.register("bench", [FunctionRow(FUNCTIONS[0], "0123456789ab", POOLS[0], "bench", b"{}")], [])
        await store.enrol(RunnerRow(RUNNER, POOLS, FUNCTIONS, 300, 3_600_000_000, draining=False))
        await measure(store, postgres, options)
        await store.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--steps", type=int, default=20)
    uvloop.run(main(parser.parse_args()))
