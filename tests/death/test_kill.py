"""Runners die, for real, at every point and at random; pause past their lease; are drained; Postgres dies under them."""

import asyncio
import os
import random
import signal
import time
from pathlib import Path

import pytest
from death.crew import Crew, crew, result
from death.kitchen import expected
from postgres_server import server

from stepwell.engine.run import RunStatus
from stepwell.store.sqlite import SqliteStore
from stepwell.store.views import RunFilter

POINTS = [
    f"{name}-{side}:{count}"
    for name in ("claim", "body", "record", "park", "end")
    for side in ("before", "after")
    for count in (1, 5)
]


async def sinks(one: Crew, count: int) -> None:
    """All runs ended, with the results that nobody's death may change."""
    rows = await one.ended("sink", count)
    assert sorted(result(row)["n"] for row in rows) == list(range(count))  # type: ignore[index]
    for row in rows:
        assert result(row) == expected(result(row)["n"])  # type: ignore[index]
    await one.ended("told", count)
    await one.check(["sink", "child", "told"])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("point", [*POINTS, "beat-before:1", "beat-after:1", "start-before:2", "start-after:2"])
async def test_a_runner_dies_at_a_named_point(point: str, postgres_dsn: str, tmp_path: Path) -> None:
    """Whatever point a runner dies at, another takes its runs over: none is lost, no recorded step runs again."""
    async with crew(postgres_dsn, tmp_path) as one:
        doomed = await one.hire(point)
        await one.send("sink", 6)
        async with asyncio.timeout(60):
            while not doomed.dead:
                await asyncio.sleep(0.02)
        await one.hire()
        await sinks(one, 6)


@pytest.mark.timeout(300)
async def test_runners_die_at_random(postgres_dsn: str, tmp_path: Path) -> None:
    """Three runners, a kill every half second or so: every run ends with its result, and no recorded step runs again."""
    chance = random.Random(20261123)
    async with crew(postgres_dsn, tmp_path) as one:
        living = [await one.hire() for _ in range(3)]
        sending = asyncio.create_task(one.send("sink", 150))
        for _ in range(12):
            await asyncio.sleep(chance.uniform(0.2, 0.6))
            victim = living.pop(chance.randrange(len(living)))
            victim.send(signal.SIGKILL)
            living.append(await one.hire())
        await sending
        await sinks(one, 150)


@pytest.mark.timeout(300)
async def test_a_zombie_changes_nothing(postgres_dsn: str, tmp_path: Path) -> None:
    """A runner that is stopped past its lease and goes on finds its runs taken over: nothing it does is recorded."""
    async with crew(postgres_dsn, tmp_path) as one:
        zombie = await one.hire()
        await one.send("slow", 3, seconds=1.5)
        await one.begun("during", 3)
        zombie.send(signal.SIGSTOP)
        stopped = time.time_ns() // 1000
        heir = await one.hire()
        await one.begun("during", 6)
        zombie.send(signal.SIGCONT)  # its bodies are over by now: it writes at once, while the heir's go on
        rows = await one.ended("slow", 3)
        ended = {row.run_id: (row.status, row.value, row.ended) for row in rows}
        for row in rows:
            _before, during = await one.well.store.steps(row.run_id)  # type: ignore[union-attr]
            assert during.step.started > stopped, "the zombie's result was recorded"
        await one.send("sink", 5)
        await sinks(one, 5)
        assert {row.run_id: (row.status, row.value, row.ended) for row in await one.runs("slow")} == ended
        assert all(status is RunStatus.COMPLETED for status, _value, _ended in ended.values())
        assert not heir.dead
        for row in rows:
            assert [step.step.step_id for step in await one.well.store.steps(row.run_id)] == ["before", "during"]  # type: ignore[union-attr]
        assert await one.well.store.doctor() == []  # type: ignore[union-attr]


@pytest.mark.timeout(300)
async def test_a_drained_runner_hands_its_runs_back(postgres_dsn: str, tmp_path: Path) -> None:
    """SIGTERM: running bodies finish, the rest goes on elsewhere within a second, and nothing is counted against a run."""
    async with crew(postgres_dsn, tmp_path) as one:
        first = await one.hire(lease=5)
        await one.send("sink", 20)
        await asyncio.sleep(0.1)
        await one.hire(lease=5)  # where one runs out on a busy machine, steps are tried again
        first.send(signal.SIGTERM)
        async with asyncio.timeout(60):
            while not first.dead:
                await asyncio.sleep(0.02)
        assert first.process.returncode == 0
        await sinks(one, 20)
        for row in await one.runs("sink"):
            steps = {recorded.step.step_id: recorded.step.attempts for recorded in await one.well.store.steps(row.run_id)}  # type: ignore[union-attr]
            assert steps["first"] == 1
            assert steps["flaky"] == 1 + result(row)["n"] % 3  # type: ignore[index]


@pytest.mark.timeout(300)
async def test_a_run_that_kills_its_runners_is_parked(postgres_dsn: str, tmp_path: Path) -> None:
    """After five deaths without a step recorded in between, the run is failed with its data, and others go on."""
    async with crew(postgres_dsn, tmp_path) as one:
        await one.hire()
        await one.send("killer", 1)
        async with asyncio.timeout(240):
            while not (await one.runs("killer"))[0].status.is_final:
                if all(runner.dead for runner in one.runners):
                    await one.hire()
                await asyncio.sleep(0.05)
        [row] = await one.runs("killer")
        assert row.status is RunStatus.FAILED
        assert result(row)["name"] == "RunnerKilled"  # type: ignore[index]
        assert one.witness.read_text().count("begin") == 5
        await one.send("sink", 3)
        await sinks(one, 3)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_postgres_dies_under_load(how: str, tmp_path: Path) -> None:
    """Postgres is killed and comes back while events pour in: what was acknowledged is there, and every run ends."""
    with server() as postgres:
        async with crew(postgres.dsn, tmp_path) as one:
            await one.hire()
            await one.hire()
            sending = asyncio.create_task(one.send("sink", 80))
            for _ in range(3):
                await asyncio.sleep(0.4)
                await asyncio.to_thread(getattr(postgres, how))
                await asyncio.sleep(0.3)
                await asyncio.to_thread(postgres.start)
            sent = await sending
            assert sorted(set(sent)) == sorted(f"sink-{number}" for number in range(80))
            await sinks(one, 80)
            for event_id in sent:
                assert await one.well.store.event(event_id) is not None  # type: ignore[union-attr]


@pytest.mark.timeout(300)
async def test_a_sqlite_worker_dies_again_and_again(tmp_path: Path) -> None:
    """A worker over a SQLite file is killed ten times at work; each time the file is whole and the runs go on to their ends."""
    path = str(tmp_path / "well.db")
    async with crew(path, tmp_path) as one:
        os.environ["WITNESS"] = str(one.witness)
        store = SqliteStore(path)
        await store.migrate()
        from death.kitchen import FUNCTIONS

        from stepwell.clock import SystemClock
        from stepwell.engine.events import NewEvent
        from stepwell.engine.well import Well
        from stepwell.metrics import Metrics

        well = Well(store, SystemClock(), Metrics("sender"))
        await well.open()
        await well.register("default", [(function.spec, "r1") for function in FUNCTIONS], "default")
        await well.send([NewEvent("sink", {"n": number}, id=f"sink-{number}") for number in range(40)])
        await well.close()
        chance = random.Random(7)
        look = SqliteStore(path, read_only=True)
        await look.open()
        try:
            for life in range(10):
                runner = await one.hire()
                await one.moved(20)
                if life % 2:
                    await all_moved(look, "sink")  # five deaths without progress would end a run
                await asyncio.sleep(chance.uniform(0.02, 0.3))
                runner.send(signal.SIGKILL)
                runner.end()
            last = await one.hire()
            async with asyncio.timeout(120):
                while sum(row.status.is_final for row in await look.runs(RunFilter("sink", limit=100))) < 40:
                    await asyncio.sleep(0.05)
            rows = await look.runs(RunFilter("sink", limit=100))
            assert [row.value for row in rows if row.status is not RunStatus.COMPLETED] == []
            assert all(result(row) == expected(result(row)["n"]) for row in rows)  # type: ignore[index]
            assert await look.doctor() == []
        finally:
            await look.close()
        last.send(signal.SIGTERM)
        assert await asyncio.to_thread(last.process.wait) == 0


async def all_moved(store: SqliteStore, name: str) -> None:
    """Wait until each run of the function has recorded one more step, or has ended."""
    lives = RunFilter(name, limit=100)
    had = {row.run_id: len(await store.steps(row.run_id)) for row in await store.runs(lives) if not row.status.is_final}
    async with asyncio.timeout(60):
        while had:
            for row in await store.runs(lives):
                if row.run_id in had and (row.status.is_final or len(await store.steps(row.run_id)) > had[row.run_id]):
                    del had[row.run_id]
            await asyncio.sleep(0.02)


@pytest.mark.timeout(300)
async def test_a_runner_ends_in_time_without_its_store(tmp_path: Path) -> None:
    """SIGTERM while Postgres is away: what can't be written isn't waited for; the run goes on elsewhere when it is back."""
    with server() as postgres:
        async with crew(postgres.dsn, tmp_path) as one:
            runner = await one.hire()
            await one.send("slow", 2, seconds=0.5)
            await one.begun("during", 2)
            await asyncio.to_thread(postgres.kill)
            await one.moved(2)
            runner.send(signal.SIGTERM)
            async with asyncio.timeout(60):
                while not runner.dead:
                    await asyncio.sleep(0.05)
            assert runner.process.returncode == 0
            await asyncio.to_thread(postgres.start)
            await one.hire()
            rows = await one.ended("slow", 2)
            assert {(row.status, row.value) for row in rows} == {(RunStatus.COMPLETED, b"3")}
