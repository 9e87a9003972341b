"""The verbs of a well in SQLite; what people read is in reads.py."""

import fcntl
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import apsw
import orjson

from stepwell.errors import StoreError
from stepwell.store.records import FunctionRow, Pile, PileResult, Registry, RunnerRow, ScheduleRow
from stepwell.store.sqlite.pile import write
from stepwell.store.sqlite.reads import Reads
from stepwell.store.sqlite.thread import ConnectionThread, transaction
from stepwell.store.statements import load, migrations

SQL = load("stepwell.store.sqlite", "verbs.sql")
OLDEST = (3, 51, 3)
"""Older libraries can corrupt a WAL database that two connections use (sqlite.org/wal.html#walresetbug)."""


class SqliteStore(Reads):
    """One well in the file `path` (":memory:" for none). `clock_now` stands in for the system's clock in tests.

    `read_only` opens beside the process that owns the file, for `doctor`.
    """

    def __init__(self, path: str, clock_now: Callable[[], int] | None = None, *, read_only: bool = False) -> None:
        self._path = path
        self._clock_now = clock_now
        self._read_only = read_only
        self._lock: int | None = None
        super().__init__(ConnectionThread("stepwell-sqlite", self._connect))
        self._opened = False

    # --- opening ---

    async def open(self) -> None:
        """Take the file for this process; StoreError if another has it, or the schema is missing."""
        self._start()
        known = await self._writer.run(_applied)
        missing = [name for name, _text in migrations("stepwell.store.sqlite.migrations") if name not in known]
        if missing:
            raise StoreError(f"{self._path}: the schema lacks {', '.join(missing)}; run `stepwell store migrate`")

    async def close(self) -> None:
        """Close the file and let others have it."""
        if not self._opened:
            return
        self._opened = False
        if self._reader is not self._writer:
            self._reader.stop()
        self._writer.stop()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def migrate(self) -> list[str]:
        """Apply what is missing of the schema, each migration in a transaction of its own."""
        self._start()
        known = await self._writer.run(_applied)
        done: list[str] = []
        for name, text in migrations("stepwell.store.sqlite.migrations"):
            if name not in known:
                now = self._now(None)
                await self._writer.run(
                    lambda connection, name=name, text=text: transaction(connection, _migration(name, text, now))
                )
                done.append(name)
        return done

    def _start(self) -> None:
        if self._opened:
            return
        if tuple(int(part) for part in apsw.sqlite_lib_version().split(".")) < OLDEST:
            raise StoreError(f"SQLite {apsw.sqlite_lib_version()} is too old; apsw 3.51.3 or later bundles one that is not")
        if self._path != ":memory:" and not self._read_only:
            self._take_file()
        self._writer.start()
        self._reader = self._writer
        if self._path != ":memory:":
            self._reader = ConnectionThread("stepwell-sqlite-read", self._connect)
            self._reader.start()
        self._opened = True

    def _take_file(self) -> None:
        Path(self._path).parent.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            self._lock = None
            raise StoreError(
                f"{self._path} is in use by another process; stop it, or give this one another file with --db"
            ) from None

    def _connect(self) -> apsw.Connection:
        flags = apsw.SQLITE_OPEN_READONLY if self._read_only else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        connection = apsw.Connection(self._path, flags=flags, statementcachesize=200)
        connection.set_busy_timeout(5000)
        if not self._read_only:
            for pragma in (
                "journal_mode = WAL",
                "synchronous = FULL",
                "temp_store = MEMORY",
                "cache_size = -65536",
                "wal_autocheckpoint = 4000",
            ):
                connection.execute(f"PRAGMA {pragma}")
        return connection

    # --- the one write ---

    async def commit(self, pile: Pile) -> PileResult:
        """Write the pile in one transaction and answer only after it is durable."""
        now = self._now(pile.now)
        return await self._writer.run(lambda connection: transaction(connection, lambda cursor: write(cursor, pile, now)))

    # --- leases ---

    async def enrol(self, runner: RunnerRow) -> None:
        """Make the runner's lease row, or renew it whole; `expires` is a length in µs from now."""
        row = (
            runner.runner_id,
            orjson.dumps(runner.pools).decode(),
            orjson.dumps(runner.functions).decode(),
            runner.slots,
            self._now(None) + runner.expires,
            runner.draining,
        )
        await self._writer.run(lambda connection: connection.execute(SQL["enrol"], row).fetchall())

    def beat(self, runner_id: str, lease: int, now: int | None = None) -> bool:
        """Renew the lease for `lease` µs, from any thread, blocking; False if it is gone."""
        until = self._now(now) + lease
        return self._writer.run_blocking(lambda connection: bool(connection.execute(SQL["beat"], (until, runner_id)).fetchall()))

    async def leave(self, runner_id: str, now: int | None = None) -> None:
        """End the runner's lease; what it still holds becomes claimable at once, and nothing is counted against it."""
        at = self._now(now)

        def work(cursor: apsw.Cursor) -> None:
            cursor.execute(SQL["hand_back"], (at, at, runner_id))
            cursor.execute(SQL["leave"], (runner_id,))

        await self._writer.run(lambda connection: transaction(connection, work))

    async def held(self, runner_id: str) -> list[tuple[str, int]]:
        """The runs (with epoch) leased to this runner."""
        return await self._writer.run(lambda connection: connection.execute(SQL["held"], (runner_id,)).fetchall())

    async def expire_all(self) -> int:
        """End every lease at once; the next sweep counts them as any other that ran out."""
        return await self._writer.run(lambda connection: len(connection.execute(SQL["expire_all"]).fetchall()))

    # --- registry ---

    async def registry(self) -> Registry:
        """One whole version of the registry."""
        return await self._writer.run(lambda connection: transaction(connection, _registry))

    async def register(self, owner: str, functions: Sequence[FunctionRow], schedules: Sequence[ScheduleRow]) -> int:
        """Make these the owner's functions and schedules, all others of that owner gone; return the version."""
        wanted = [(row.function_id, row.revision, row.pool, owner, row.spec) for row in functions]
        planned = [
            (row.schedule_id, row.function_id, owner, row.cron, row.created, row.last_due, row.next_due) for row in schedules
        ]

        def work(cursor: apsw.Cursor) -> int:
            before = (
                sorted(cursor.execute(SQL["owned_functions"], (owner,))),
                sorted(cursor.execute(SQL["owned_schedules"], (owner,))),
            )
            after = (sorted(wanted), sorted((*row[:3], row[3]) for row in planned))
            if before == after:
                return int(cursor.execute(SQL["version"]).fetchone()[0])
            cursor.execute(SQL["drop_functions"], (owner,))
            cursor.executemany(SQL["put_function"], wanted)
            cursor.execute(SQL["drop_schedules"], (owner, orjson.dumps([row[0] for row in planned]).decode()))
            cursor.executemany(SQL["put_schedule"], planned)
            return int(cursor.execute(SQL["moved"]).fetchone()[0])

        return await self._writer.run(lambda connection: transaction(connection, work))

    async def listen(self, pairs: Sequence[tuple[str, str]]) -> int:
        """Add (event name, path) pairs that waits will listen on; return the version, moved only if one was new."""

        def work(cursor: apsw.Cursor) -> int:
            new = 0
            for pair in pairs:
                new += len(cursor.execute(SQL["listen"], pair).fetchall())
            return int(cursor.execute(SQL["moved" if new else "version"]).fetchone()[0])

        return await self._writer.run(lambda connection: transaction(connection, work))

    # --- hints ---

    async def hint(self, payload: str) -> None:
        """One process has the file: there is nobody to tell."""

    async def on_hint(self, hear: Callable[[str], None]) -> bool:
        """One process has the file: there is nobody to hear."""
        del hear
        return False

    def _now(self, now: int | None) -> int:
        if now is not None:
            return now
        return self._clock_now() if self._clock_now is not None else time.time_ns() // 1000


def _applied(connection: apsw.Connection) -> set[str]:
    connection.execute(SQL["migrations_table"])
    return {row[0] for row in connection.execute(SQL["migrations_applied"])}


def _migration(name: str, text: str, now: int) -> Callable[[apsw.Cursor], None]:
    def work(cursor: apsw.Cursor) -> None:
        cursor.execute(text)
        cursor.execute(SQL["migration_done"], (name, now))

    return work


def _registry(cursor: apsw.Cursor) -> Registry:
    version = int(cursor.execute(SQL["version"]).fetchone()[0])
    functions = tuple(FunctionRow(*row) for row in cursor.execute(SQL["functions"]))
    listens = tuple((row[0], row[1]) for row in cursor.execute(SQL["listens"]))
    schedules = tuple(ScheduleRow(*row) for row in cursor.execute(SQL["schedules"]))
    return Registry(version, functions, listens, schedules)
