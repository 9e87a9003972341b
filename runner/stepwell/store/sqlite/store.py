"""The verbs of a well in SQLite; what people read is in reads.py."""

import fcntl
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import apsw
import orjson

from stepwell.errors import StoreError
from stepwell.store.records import Pile
from stepwell.store.registering import wanted_schedules
from stepwell.store.registry import FunctionRow, PauseRow, Registry, RevisionRow, ScheduleRow
from stepwell.store.results import PileResult
from stepwell.store.sqlite.access import Access
from stepwell.store.sqlite.claims import hand_back, leave
from stepwell.store.sqlite.driver import Connection, open_connection
from stepwell.store.sqlite.pile import write
from stepwell.store.sqlite.reads import Reads
from stepwell.store.sqlite.registry import Wanted, forget_revision, read_registry, register, start_listening
from stepwell.store.sqlite.registry import pause as pause_function
from stepwell.store.sqlite.registry import resume as resume_function
from stepwell.store.sqlite.schema import applied, apply, check, known
from stepwell.store.sqlite.thread import ConnectionThread, snapshot
from stepwell.store.sqlite.upkeep import Upkeep
from stepwell.store.sqlite.writing import Writing
from stepwell.store.statements import load
from stepwell.store.views import RunnerRow

SQL = load("stepwell.store.sqlite", "verbs.sql")
MEMORY = ":memory:"
OLDEST = (3, 51, 3)
"""Older libraries can corrupt a WAL database that two connections use (sqlite.org/wal.html#walresetbug)."""


class SqliteStore(Reads, Upkeep, Access):
    """One well in the file `path` (":memory:" for none). `clock_now` stands in for the system's clock in tests.

    `read_only` opens beside the process that owns the file, for `doctor`.
    """

    def __init__(self, path: str, clock_now: Callable[[], int] | None = None, *, read_only: bool = False) -> None:
        self._path = path
        self._clock_now = clock_now
        self._read_only = read_only
        self._lock: int | None = None
        self._latest = 0
        self._opened = False
        super().__init__()

    # --- opening ---

    async def open(self) -> None:
        """Take the file for this process; StoreError if another has it, or the schema is missing or of another build."""
        self._start()
        try:
            check(self._path, await self._writer.run(applied))
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the file and let others have it."""
        if not self._opened:
            return
        self._opened = False
        if self._reader is not self._writer:
            self._reader.stop()
        self._writer.stop()
        self._let_go()

    async def migrate(self) -> list[str]:
        """Apply what is missing of the schema, each migration in a transaction of its own."""
        self._start()
        there = await self._writer.run(applied)
        done: list[str] = []
        for migration in known():
            if migration.name not in there:
                await self._write(lambda _connection, cursor, one=migration: apply(cursor, one, self._now(None)))
                done.append(migration.name)
        return done

    def _start(self) -> None:
        if self._opened:
            return
        if tuple(int(part) for part in apsw.sqlite_lib_version().split(".")) < OLDEST:
            raise StoreError(f"SQLite {apsw.sqlite_lib_version()} is too old; apsw 3.51.3 or later bundles one that is not")
        if self._read_only and not Path(self._path).exists():
            raise StoreError(f"{self._path}: there is no such file")
        if self._path != MEMORY and not self._read_only:
            self._take_file()
        try:
            self._writer = self._reader = ConnectionThread("stepwell-sqlite", self._connect)
            self._writer.start()
            if self._path != MEMORY:
                self._reader = ConnectionThread("stepwell-sqlite-read", self._connect_reader)
                self._reader.start()
        except BaseException:
            self._let_go()
            raise
        self._opened = True

    def _take_file(self) -> None:
        Path(self._path).parent.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._let_go()
            raise StoreError(
                f"{self._path} is in use by another process; stop it, or give this one another file with --db"
            ) from None

    def _let_go(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _connect(self) -> Connection:
        connection = open_connection(self._path, read_only=self._read_only)
        connection.set_busy_timeout(5000)
        if not self._read_only:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA wal_autocheckpoint = 4000")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA cache_size = -65536")
        return connection

    def _connect_reader(self) -> Connection:
        connection = self._connect()
        connection.execute("PRAGMA query_only = 1")
        return connection

    @property
    def connections(self) -> tuple[int, int, int]:
        """Connections in use, idle, and the calls that wait for one."""
        threads = {self._writer, self._reader} if self._opened else set[ConnectionThread]()
        used = sum(one.busy for one in threads)
        return used, len(threads) - used, sum(one.waiting for one in threads)

    # --- the one write ---

    async def commit(self, pile: Pile) -> PileResult:
        """Write the pile in one transaction and answer only after it is durable."""
        return await self._write(lambda connection, cursor: write(connection, cursor, pile, self._now(pile.now)))

    # --- leases ---

    async def enrol(self, runner: RunnerRow) -> None:
        """Make the runner's lease row, or renew it whole; `expires` is a length in µs from now."""
        now = self._now(None)
        pools, functions = orjson.dumps(runner.pools).decode(), orjson.dumps(runner.functions).decode()
        broken = orjson.dumps(runner.broken).decode()
        row = (runner.runner_id, pools, functions, runner.slots, now + runner.expires, runner.draining, broken, now)
        await self._write(lambda _connection, cursor: cursor.execute(SQL["enrol"], row))

    def beat(self, runner_id: str, lease: int, now: int | None = None, told: str | None = None) -> bool:
        """Renew the lease for `lease` µs, from any thread, blocking; False if it is gone."""
        at = self._now(now)

        def work(connection: Connection) -> bool:
            connection.execute(SQL["beat"], (at + lease, at, told, runner_id))
            return connection.changes() > 0

        return self._writer.run_blocking(work)

    async def leave(self, runner_id: str, now: int | None = None) -> None:
        """End the runner's lease; what it still holds becomes claimable at once, and nothing is counted against it."""
        await self._write(
            lambda connection, cursor: leave(Writing(connection, cursor, Pile(), self._now(now), version=-1), runner_id)
        )

    async def held(self, runner_id: str) -> list[tuple[str, int]]:
        """The runs (with epoch) leased to this runner."""
        return await self._writer.run(lambda connection: connection.execute(SQL["held"], (runner_id,)).fetchall())

    async def hand_back(self, runner_id: str, runs: Sequence[tuple[str, int]], now: int | None = None) -> int:
        """Make these of the runner's runs claimable at once; nothing is counted against them."""
        return await self._write(
            lambda connection, cursor: hand_back(Writing(connection, cursor, Pile(), self._now(now), version=-1), runner_id, runs)
        )

    async def expire_all(self) -> int:
        """End every lease at once; the next sweep counts them as any other that ran out."""

        def work(connection: Connection) -> int:
            connection.execute(SQL["expire_all"])
            return connection.changes()

        return await self._writer.run(work)

    # --- registry ---

    async def registry(self) -> Registry:
        """One whole version of the registry."""
        return await self._reader.run(lambda connection: snapshot(connection, read_registry))

    async def registry_version(self) -> int:
        """The number of the registry's present version."""
        return await self._reader.run(lambda connection: int(connection.execute(SQL["version"]).fetchone()[0]))

    async def register(
        self,
        owner: str,
        functions: Sequence[FunctionRow],
        schedules: Sequence[ScheduleRow],
        revisions: Sequence[RevisionRow] = (),
    ) -> int:
        """Make these the owner's functions and schedules, all others of that owner gone, and add revisions; the version."""
        wanted = Wanted(owner, functions, wanted_schedules(functions, schedules), revisions)
        return await self._write(lambda connection, cursor: register(connection, cursor, wanted))

    async def forget_revision(self, function_id: str, revision: str) -> bool:
        """Drop a revision that no live run is pinned to and no active function starts runs with; whether it is gone."""
        return await self._write(lambda connection, cursor: forget_revision(connection, cursor, function_id, revision))

    async def move_runs(self, function_id: str, revision: str, pool: str) -> int:
        """Pin the function's live runs, and those of its clean-up function, to another revision; how many were on others."""

        def move(connection: Connection) -> int:
            connection.execute(SQL["move_runs"], (function_id, revision, pool))
            return connection.changes()

        return await self._write(lambda connection, _cursor: move(connection))

    async def listen(self, pairs: Sequence[tuple[str, str]]) -> int:
        """Add (event name, path) pairs that waits will listen on; return the version, moved only if one was new."""
        return await self._write(lambda connection, cursor: start_listening(connection, cursor, pairs))

    async def pause(self, pause: PauseRow, now: int | None = None) -> bool:
        """Let no run of a function be claimed from now on; False if it was paused already."""
        return await self._write(
            lambda connection, cursor: pause_function(Writing(connection, cursor, Pile(), self._now(now), version=-1), pause)
        )

    async def resume(self, function_id: str, now: int | None = None) -> bool:
        """Let a paused function's runs be claimed again; False if it was not paused."""
        return await self._write(
            lambda connection, cursor: resume_function(
                Writing(connection, cursor, Pile(), self._now(now), version=-1), function_id
            )
        )

    # --- hints ---

    async def hint(self, payload: str) -> None:
        """One process has the file: there is nobody to tell."""

    async def on_hint(self, hear: Callable[[str], None]) -> bool:
        """One process has the file: there is nobody to hear."""
        del hear
        return False

    def _now(self, now: int | None) -> int:
        """The instant given, or the clock's; the system's clock may be set back, this one is not."""
        if now is not None:
            return now
        if self._clock_now is not None:
            return self._clock_now()
        self._latest = max(self._latest, time.time_ns() // 1000)
        return self._latest
