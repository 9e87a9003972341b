"""A function whose step bodies each leave a row in a table of the test's own, and the check that no recorded one ran again."""

from collections import defaultdict
from dataclasses import dataclass

import asyncpg
from cluster.harness.api import Object
from cluster.node.release import Town
from cluster.operation import function

from stepwell.engine.run import RunStatus
from stepwell.store.postgres import PostgresStore
from stepwell.store.records import StepKind
from stepwell.store.views import RunFilter, RunRow
from stepwell.values import decode

# A run sleeps twice and fails up to two tries between; every body that begins says so first.
CODE = """
import os
import asyncpg
from stepwell import Context, current_step

VERSION = {version}

async def work(n: int, fails: int) -> int:
    step = current_step()
    connection = await asyncpg.connect(os.environ["WITNESS"])
    try:
        place = (step.run_id, step.id, step.occurrence, step.attempt, VERSION)
        await connection.execute("insert into witness.begun values ($1, $2, $3, $4, $5)", *place)
    finally:
        await connection.close()
    if step.attempt < fails:
        raise ConnectionError("planned")
    return n

async def main(ctx: Context) -> dict[str, int]:
    n = ctx.event.data["n"]
    first = await ctx.step.run("first", work, n, 0)
    await ctx.step.sleep("nap", 1 + n % 5)
    second = await ctx.step.run("second", work, n, n % 3)
    await ctx.step.sleep("rest", ctx.event.data["rest"])
    third = await ctx.step.run("third", work, n, 0)
    return {{"n": n, "sum": first + second + third, "version": VERSION}}
"""
TABLE = """
drop schema if exists witness cascade;
create schema witness;
create table witness.begun (
    run text, step text, occurrence int, attempt int, version int, at timestamptz default clock_timestamp()
)
"""


@dataclass(frozen=True, slots=True)
class Begun:
    """A step body that began; `at` in µs, by the clock of the database."""

    run_id: str
    step_id: str
    occurrence: int
    version: int
    at: int


def witnessed(name: str, version: int, dsn: str) -> Object:
    """The function, whose code is of this version; `dsn` leads pods to the table."""
    env = [{"name": "WITNESS", "value": dsn}]
    backoff = {"strategy": "fixed", "base": "1s", "jitter": "0s"}
    return function(name, CODE.format(version=version), retries=4, backoff=backoff, runner={"env": env})


class Witness:
    """The table; `dsn` leads to it from this side."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    async def prepare(self) -> None:
        """Make the table anew."""
        connection = await asyncpg.connect(self._dsn)
        await connection.execute(TABLE)
        await connection.close()

    async def begun(self) -> list[Begun]:
        """Every body that began."""
        connection = await asyncpg.connect(self._dsn)
        try:
            asked = "select run, step, occurrence, version, (extract(epoch from at) * 1000000)::bigint from witness.begun"
            return [Begun(*row) for row in await connection.fetch(asked)]
        finally:
            await connection.close()

    async def has_begun(self, step_id: str, count: int) -> bool:
        """Whether bodies of this step have begun in so many runs."""
        return len({one.run_id for one in await self.begun() if one.step_id == step_id}) >= count


async def runs_of(town: Town, name: str) -> list[RunRow]:
    """Every run of a function, newest first."""
    return await town.ask_store(lambda store: store.runs(RunFilter(name, limit=1000)))


async def check(town: Town, witness: Witness, name: str) -> dict[str, int]:
    """Every run completed on one version of the code, and no step began after its record; the versions by run id."""
    begun: dict[tuple[str, str, int], list[Begun]] = defaultdict(list)
    versions: dict[str, set[int]] = defaultdict(set)
    for one in await witness.begun():
        begun[one.run_id, one.step_id, one.occurrence].append(one)
        versions[one.run_id].add(one.version)

    async def look(store: PostgresStore) -> None:
        for row in await store.runs(RunFilter(name, limit=1000)):
            assert row.status is RunStatus.COMPLETED, (row.run_id, row.status, row.value)
            assert row.value is not None
            returned = decode(row.value)
            assert returned["sum"] == 3 * returned["n"]
            assert versions[row.run_id] == {returned["version"]}, f"{row.run_id} ran on {versions[row.run_id]}"
            recorded = [one.step for one in await store.steps(row.run_id) if one.step.kind is StepKind.RUN]
            assert [one.step_id for one in recorded] == ["first", "second", "third"]
            for step in recorded:
                starts = begun[row.run_id, step.step_id, step.occurrence]
                assert starts, f"step {step.step_id} of {row.run_id} is recorded and never began"
                assert max(one.at for one in starts) <= step.ended + 50_000, (
                    f"step {step.step_id} of {row.run_id} ran again after its record"
                )
        assert await store.doctor() == []

    await town.ask_store(look)
    return {run_id: next(iter(found)) for run_id, found in versions.items()}
