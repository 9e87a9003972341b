"""The verbs of a well in Postgres; what people read is in reads.py, upkeep in upkeep.py."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

import orjson

from stepwell.errors import StoreError, StoreUnavailable
from stepwell.store.postgres.access import Access
from stepwell.store.postgres.connect import RETRIED, Connections, parse_address
from stepwell.store.postgres.decode import decode
from stepwell.store.postgres.encode import ARGUMENTS, encode
from stepwell.store.postgres.heart import Heart
from stepwell.store.postgres.migrate import check, migrate, quoted
from stepwell.store.postgres.reads import Reads
from stepwell.store.postgres.upkeep import Upkeep
from stepwell.store.records import Pile
from stepwell.store.registering import wanted_schedules
from stepwell.store.registry import FunctionRow, PauseRow, RevisionRow, ScheduleRow
from stepwell.store.results import PileResult
from stepwell.store.views import RunnerRow

TRIES = 5
MOST_HELD = 10_000
OLDEST = 14


class PostgresStore(Reads, Upkeep, Access):
    """One well: the schema `schema` of the database at `dsn`; without one, the address's own, else "stepwell".

    The address may carry `schema=NAME`, `pooler=1` (a pooler in transaction mode stands between: hints are off) and `reads=N`
    (how many connections may read at once; 1). `clock_now` stands in for the server's clock in tests. `unsafe` accepts a server
    that acknowledges before a commit is on disk. `guard` is called right before each write; what it raises keeps that out.
    `most` is how many bytes an answer may have (0: any number).
    """

    def __init__(
        self,
        dsn: str,
        schema: str | None = None,
        clock_now: Callable[[], int] | None = None,
        *,
        unsafe: bool = False,
        guard: Callable[[], None] | None = None,
        most: int = 0,
    ) -> None:
        self._address = replace(parse_address(dsn), most=most)
        schema = schema or self._address.schema
        self._schema = schema
        self._clock_now = clock_now
        self._unsafe = unsafe
        self._guard = guard
        self._writes = Connections(self._address, limit=2, keep=1, guard=guard)
        super().__init__(Connections(self._address, limit=self._address.reads, keep=0), schema)
        self._heart = Heart(self._address, f"stepwell:{schema}"[:63])
        places = ", ".join(f"${place}" for place in range(1, ARGUMENTS + 1))
        self._commit_pile = f"select * from {quoted(schema)}.commit_pile({places})"

    async def open(self) -> None:
        """Connect; raise StoreError if the schema is missing or older than this program needs, or the server is unsafe."""
        async with self._writes.use() as connection:
            version: int = await connection.fetchval("select current_setting('server_version_num')::integer / 10000")
            if version < OLDEST:
                raise StoreError(f"Postgres {OLDEST} or later is needed; this is {version}")
            durable: str = await connection.fetchval("select current_setting('synchronous_commit')")
            if durable in {"off", "local"} and not self._unsafe:
                raise StoreError(
                    f"synchronous_commit is {durable!r}: what is acknowledged could be lost; set it to on for this role"
                )
            await check(connection, self._schema)
        self._writes.proven = self._reads.proven = True
        self._heart.open()

    async def close(self) -> None:
        """Let go of every connection."""
        await self._heart.close()
        await self._writes.close()
        await self._reads.close()

    async def migrate(self) -> list[str]:
        """Bring the schema up to date and return the names of the migrations applied."""
        if self._guard is not None:
            self._guard()
        return await migrate(self._address, self._schema)

    @property
    def connections(self) -> tuple[int, int, int]:
        """Connections in use, idle, and waited for; the beat's own is not among them."""
        writes, reads = self._writes.counts, self._reads.counts
        return writes[0] + reads[0], writes[1] + reads[1], writes[2] + reads[2]

    # --- the one write ---

    async def commit(self, pile: Pile) -> PileResult:
        """Write the pile in one transaction and answer only after it is durable."""
        args = encode(pile, self._now(pile.now))
        met: Exception | None = None
        for _ in range(TRIES):
            try:
                async with self._writes.use(retrying=True) as connection:
                    (row,) = await connection.fetch(self._commit_pile, *args)
            except RETRIED as error:
                met = error
                continue
            return decode(pile, row)
        raise StoreUnavailable("Postgres: the pile met a deadlock or a conflict every time; ask again") from met

    # --- leases ---

    async def enrol(self, runner: RunnerRow) -> None:
        """Make the runner's lease row, or renew it whole; `expires` is a length in µs from the store's now."""
        await self._run(
            "enrol",
            runner.runner_id,
            runner.pools,
            runner.functions,
            runner.slots,
            runner.expires,
            runner.draining,
            orjson.dumps(runner.broken).decode(),
            self._now(None),
        )

    def beat(self, runner_id: str, lease: int, now: int | None = None, told: str | None = None) -> bool:
        """Renew the lease for `lease` µs, from any thread, blocking; False if it is gone."""
        return bool(self._heart.beat(self._sql["beat"], runner_id, lease, self._now(now), told))

    async def leave(self, runner_id: str, now: int | None = None) -> None:
        """End the runner's lease; what it still holds becomes claimable at once, and nothing is counted against it."""
        await self._run("leave", runner_id, self._now(now))

    async def held(self, runner_id: str) -> list[tuple[str, int]]:
        """The runs (with epoch) leased to this runner."""
        rows = await self._fetch("held", runner_id)
        return [(row["run_id"], row["epoch"]) for row in rows]

    async def hand_back(self, runner_id: str, runs: Sequence[tuple[str, int]], now: int | None = None) -> int:
        """Make these of the runner's runs claimable at once; nothing is counted against them."""
        run_ids, epochs = [run_id for run_id, _ in runs], [epoch for _, epoch in runs]
        return int(await self._run("hand_back", runner_id, run_ids, epochs, self._now(now)))

    async def expire_all(self) -> int:
        """End every lease at once; the next sweep counts them as any other that ran out."""
        return int(await self._run("expire_all"))

    # --- registry ---

    async def register(
        self,
        owner: str,
        functions: Sequence[FunctionRow],
        schedules: Sequence[ScheduleRow],
        revisions: Sequence[RevisionRow] = (),
    ) -> int:
        """Make these the owner's functions and schedules, all others of that owner gone, and add revisions; the version."""
        schedules = wanted_schedules(functions, schedules)
        return await self._run(
            "register",
            owner,
            [row.function_id for row in functions],
            [row.revision for row in functions],
            [row.pool for row in functions],
            [row.spec for row in functions],
            [row.active for row in functions],
            [row.schedule_id for row in schedules],
            [row.function_id for row in schedules],
            [row.cron for row in schedules],
            ([row.created for row in schedules], [row.last_due for row in schedules], [row.next_due for row in schedules]),
            [row.function_id for row in revisions],
            [row.revision for row in revisions],
            [row.pool for row in revisions],
            [row.code for row in revisions],
            [row.created for row in revisions],
        )

    async def forget_revision(self, function_id: str, revision: str) -> bool:
        """Drop a revision that no live run is pinned to and no active function starts runs with; whether it is gone."""
        return bool(await self._run("forget_revision", function_id, revision))

    async def move_runs(self, function_id: str, revision: str, pool: str) -> int:
        """Pin the function's live runs, and those of its clean-up function, to another revision; how many were on others."""
        return int(await self._run("move_runs", function_id, revision, pool))

    async def listen(self, pairs: Sequence[tuple[str, str]]) -> int:
        """Add (event name, path) pairs that waits will listen on; return the version, moved only if one was new."""
        return await self._run("listen", [name for name, _path in pairs], [path for _name, path in pairs])

    async def pause(self, pause: PauseRow, now: int | None = None) -> bool:
        """Let no run of a function be claimed from now on; False if it was paused already."""
        row = (pause.function_id, pause.since, pause.paused_by, pause.reason, pause.source)
        done = bool(await self._run("pause", *row))
        await self._run("hold_paused", self._now(now), MOST_HELD)
        return done

    async def resume(self, function_id: str, now: int | None = None) -> bool:
        """Let a paused function's runs be claimed again; False if it was not paused."""
        # What fell due where no runner swept is held first, so that it too is let go now.
        await self._run("hold_paused", self._now(now), MOST_HELD)
        done = bool(await self._run("resume", function_id))
        # Outside the registry's lock, which every commit shares; what is more than this the next sweeps let go.
        await self._run("hold_paused", self._now(now), MOST_HELD)
        return done

    # --- hints ---

    async def hint(self, payload: str) -> None:
        """Tell other processes that there may be news; best effort, at most one message per 10 ms."""
        if not self._address.pooler:
            with suppress(StoreUnavailable):
                self._heart.hint(payload)

    async def on_hint(self, hear: Callable[[str], None]) -> bool:
        """Call `hear` for other processes' hints; False behind a pooler, where polling is all there is."""
        if self._address.pooler:
            return False
        await self._heart.listen(hear)
        return True

    def _now(self, now: int | None) -> int | None:
        if now is not None or self._clock_now is None:
            return now
        return self._clock_now()

    async def _run(self, name: str, *args: object) -> int:
        """One writing statement outside the pile, sent again after a deadlock; its one value, or 0."""
        met: Exception | None = None
        for _ in range(TRIES):
            try:
                async with self._writes.use(retrying=True) as connection:
                    return await connection.fetchval(self._sql[name], *args) or 0
            except RETRIED as error:
                met = error
        raise StoreUnavailable(f"Postgres: {name} met a deadlock every time; ask again") from met
