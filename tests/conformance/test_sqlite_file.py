"""What only a file can show: one process at a time, safe settings, its errors, and death by SIGKILL in the middle of writes."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest
import pytest_asyncio
from conformance.build import T0, Well, done, event, park, run_id, start, step, turn, wait
from stores import sqlite_store

from stepwell.errors import StoreError, StoreUnavailable
from stepwell.store.records import Pile
from stepwell.store.sqlite import SqliteStore, store

WRITER = Path(__file__).with_name("endless_writer.py")
ROUNDS = 10


@pytest_asyncio.fixture
async def well(tmp_path: Path) -> AsyncIterator[Well]:
    """A well in a file."""
    clock = [T0]
    async with sqlite_store(lambda: clock[0], str(tmp_path / "well.db")) as (made, _tamper):
        yield Well(made, clock)


async def test_a_file_survives_its_process(tmp_path: Path) -> None:
    """What was committed is there when the file is opened again."""
    path = str(tmp_path / "deep" / "well.db")
    async with sqlite_store(lambda: T0, path) as (first, _tamper):
        well = Well(first, [T0])
        await well.enrol("A")
        claimed = await well.running(1)
        await well.commit(turns=(turn(claimed, step("a"), opens=(wait("b"),), then=park()),))
        before = await well.picture()
    async with sqlite_store(lambda: T0, path) as (second, _tamper):
        assert await Well(second, [T0]).picture() == before


async def test_one_process_at_a_time(well: Well, tmp_path: Path) -> None:
    """A second opener is refused with the file's name, and may open once the first has closed."""
    path = str(tmp_path / "well.db")
    second = SqliteStore(path)
    with pytest.raises(StoreError, match=r"well\.db is in use"):
        await second.open()
    await well.store.close()
    await second.open()
    await second.close()


async def test_a_doctor_may_look_beside(well: Well, tmp_path: Path) -> None:
    """A read-only opener works beside the process that owns the file, sees what it commits, and can't write."""
    beside = SqliteStore(str(tmp_path / "well.db"), lambda: T0, read_only=True)
    await beside.open()
    await well.start(start(1))
    assert (await beside.run(run_id(1))) is not None
    assert await beside.doctor() == []
    with pytest.raises(StoreUnavailable):
        await beside.commit(Pile(starts=(start(2),)))
    await beside.close()


async def test_a_file_without_a_well_is_refused(tmp_path: Path) -> None:
    """A new file and a missing one are refused with what to do, and not held afterwards."""
    path = str(tmp_path / "well.db")
    with pytest.raises(StoreError, match="store migrate"):
        await SqliteStore(path).open()
    with pytest.raises(StoreError, match="no such file"):
        await SqliteStore(str(tmp_path / "none.db"), read_only=True).open()
    made = SqliteStore(path)
    assert (await made.migrate())[0] == "0001_well"
    await made.open()
    await made.close()


async def test_a_file_of_another_build_is_refused(tmp_path: Path) -> None:
    """A schema that was made with another text is refused, naming the migration."""
    path = tmp_path / "well.db"
    made = SqliteStore(str(path))
    await made.migrate()
    await made.close()
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("UPDATE migrations SET digest = 'other' WHERE name = '0001_well'")
    with pytest.raises(StoreError, match="0001_well differs"):
        await made.open()


async def test_an_old_library_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SQLite with the bug that corrupts a WAL is refused."""
    monkeypatch.setattr(store.apsw, "sqlite_lib_version", lambda: "3.51.2")
    with pytest.raises(StoreError, match=r"3\.51\.2 is too old"):
        await SqliteStore(str(tmp_path / "well.db")).open()


async def test_commits_are_on_disk(well: Well) -> None:
    """The file is in WAL mode and every commit is synced."""

    def settings(connection: apsw.Connection) -> list[object]:
        return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]

    assert isinstance(well.store, SqliteStore)
    assert await well.store._writer.run(settings) == ["wal", 2]


async def test_a_full_disk_is_told_and_nothing_lands(well: Well) -> None:
    """A pile that finds the file full raises StoreUnavailable and leaves nothing of itself; with room again it lands."""
    assert isinstance(well.store, SqliteStore)
    await well.enrol("A")
    claimed = await well.running(1)
    pages = await well.store._writer.run(lambda connection: connection.execute("PRAGMA page_count").fetchone()[0])
    await well.store._writer.run(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}").fetchall())
    large = turn(claimed, *(step(f"s{number}", b'"' + b"x" * 9000 + b'"') for number in range(50)), then=done())
    with pytest.raises(StoreUnavailable, match="full"):
        await well.commit(turns=(large,), events=(event("e"),))
    assert await well.journal(1) == []
    assert await well.store.event("e") is None
    await well.store._writer.run(lambda connection: connection.execute("PRAGMA max_page_count = 1000000").fetchall())
    assert (await well.commit(turns=(large,))).turns[0].landed


async def test_a_bad_row_fails_its_pile_aloud(well: Well) -> None:
    """A row that the schema refuses raises StoreError and nothing of its pile lands, so that the pile can be split."""
    with pytest.raises(StoreError) as caught:
        await well.commit(starts=(start(1), start(2, run_id="short")), events=(event("e"),))
    assert not isinstance(caught.value, StoreUnavailable)
    assert await well.status(1) is None
    assert await well.store.event("e") is None


async def test_a_closed_store_says_so(well: Well) -> None:
    """Whatever is asked of a closed store raises StoreUnavailable; closing again is no error."""
    await well.store.close()
    await well.store.close()
    with pytest.raises(StoreUnavailable):
        await well.commit()
    with pytest.raises(StoreUnavailable):
        well.store.beat("A", 1)


async def test_reads_and_writes_at_once(well: Well) -> None:
    """Reads go on while piles are written, and see whole piles only."""
    await well.enrol("A")

    async def write() -> None:
        for number in range(60):
            await well.commit(starts=(start(2 * number), start(2 * number + 1)))

    async def read() -> None:
        from stepwell.store.views import RunFilter

        while not writing.done():
            assert len(await well.store.runs(RunFilter(limit=1000))) % 2 == 0

    writing = asyncio.ensure_future(write())
    await asyncio.gather(writing, read(), read())


async def test_a_busy_loop_lets_the_writer_work(well: Well) -> None:
    """While a store is open the interpreter hands its lock over fast: a busy event loop must not keep a commit from the disk."""
    assert sys.getswitchinterval() <= 0.0005
    await well.enrol("A")
    claimed = await well.running(1)

    async def keep_busy() -> None:
        while not writing.done():
            sum(range(3000))
            await asyncio.sleep(0)

    steps = (step(f"s{number}") for number in range(300))
    writing = asyncio.ensure_future(well.commit(turns=(turn(claimed, *steps),)))
    await asyncio.gather(keep_busy(), writing)
    assert len(await well.journal(1)) == 300


def test_death_in_the_middle_of_writes(tmp_path: Path) -> None:
    """After each of ten SIGKILLs the file is sound and every pile that was acknowledged is there, whole."""
    path, acknowledged = tmp_path / "well.db", 0
    for round_ in range(ROUNDS):
        acknowledged = max(acknowledged, killed_writer(path, acknowledged, random.Random(round_)))
        asyncio.run(examine(path, acknowledged))
    assert acknowledged > ROUNDS


def killed_writer(path: Path, first: int, chance: random.Random) -> int:
    """Let a process write piles, kill it at a random moment once it has acknowledged one; how many it has in all."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(one) for one in (WRITER.parents[1], *sys.path))}
    command = [sys.executable, WRITER, path, str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, start_new_session=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        time.sleep(chance.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        lines = [line, *process.stdout]
    assert line, "the writer died by itself"
    whole = [one for one in lines if one.endswith(b"\n")]
    return int(whole[-1]) + 1


async def examine(path: Path, acknowledged: int) -> None:
    """The file is sound, no invariant is broken, and each acknowledged pile has its event, run, steps and end."""
    with closing(apsw.Connection(str(path))) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    async with sqlite_store(lambda: T0, str(path)) as (made, _tamper):
        assert await made.doctor() == []
        held = await made._reader.run(
            lambda connection: connection.execute(
                "SELECT count(*) FROM events e JOIN run_events v ON v.event_id = e.id JOIN ends d USING (run_id) "
                "WHERE e.id < ? AND (SELECT count(*) FROM steps s WHERE s.run_id = d.run_id) = 3",
                (f"{acknowledged:09d}",),
            ).fetchone()[0]
        )
        assert held == acknowledged
