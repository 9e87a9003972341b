"""The operator's hold on wells: schemas, registrations, what runs. Every question to a store goes through here."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import orjson
import structlog

from stepwell.engine.audit import tell, tell_change
from stepwell.engine.cancelling import cancel_all
from stepwell.engine.registration import registration
from stepwell.errors import AddressRefused, RoleRefused, StoreError, StoreUnavailable
from stepwell.store.access import AuditRow
from stepwell.store.postgres import PostgresStore
from stepwell.store.registry import FunctionRow, PauseRow, RevisionRow, RevisionWork, ScheduleRow
from stepwell_operator.addresses import Addresses, Unready
from stepwell_operator.cluster import STORE, Cluster, ClusterError
from stepwell_operator.contents import UNREADABLE, Unreadable, contents_of
from stepwell_operator.facts import READY, WellFacts, owner_of
from stepwell_operator.names import STORE_SECRET, digest
from stepwell_operator.opened import Opened, WellKey
from stepwell_operator.plan import Forget, Move, Register
from stepwell_operator.provision import ProvisionError
from stepwell_operator.resources.gateway import named
from stepwell_operator.settings import Settings
from stepwell_operator.settling import Owners
from stepwell_operator.target import Target
from stepwell_operator.trials import Trials
from stepwell_operator.world import Seen

TAKE_BACK_PAUSE = 60.0
"""How long a role that stays refused, made again, isn't made once more, in seconds."""
DELETED = "the DurableFunction was deleted"
"""By what the runs of a function that is gone are cancelled."""


class Wells:
    """Every well in use. Failures are kept in its facts, as a reason of `StoreReady`, and tried again at the next look."""

    def __init__(self, cluster: Cluster, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._addresses = Addresses(cluster, settings, clock)
        self._clock = clock
        self._facts: dict[WellKey, WellFacts] = {}
        self._dsns: dict[WellKey, str] = {}
        self._opened = Opened(cluster.to_write)
        self._migrated: set[WellKey] = set()
        self._trials: Trials[WellKey] = Trials()
        self._taken_back: dict[WellKey, float] = {}
        self._locks: dict[WellKey, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._log = structlog.get_logger("stepwell.operator")

    def facts(self, namespace: str, store: str) -> WellFacts:
        """What is known of a well; it may never have been looked at."""
        return self._facts.setdefault((namespace, store), WellFacts(namespace, store, since=self._clock()))

    def known(self) -> list[WellKey]:
        """Every well there are facts of."""
        return list(self._facts)

    def of(self, namespace: str) -> list[WellFacts]:
        """What is known of the wells of a namespace."""
        return [facts for facts in self._facts.values() if facts.namespace == namespace]

    async def close(self) -> None:
        """Let go of every connection."""
        await self._opened.close_all()

    async def forget(self, namespace: str, store: str) -> None:
        """Nobody uses this well any more."""
        key = (namespace, store)
        self._facts.pop(key, None)
        self._dsns.pop(key, None)
        self._migrated.discard(key)
        self._taken_back.pop(key, None)
        self._trials.over(key)
        self._addresses.forget(namespace, store)
        await self._opened.close(key)

    # --- the address ---

    async def prepare(self, namespace: str, store: str, spec: Seen | None, owners: Owners) -> WellFacts:
        """See that the well has an address and a current schema, and look at it; `spec` is its DurableStore, if there is one."""
        key = (namespace, store)
        async with self._locks[key]:
            facts, began = self.facts(namespace, store), self._clock()
            if key not in self._dsns and self._trials.paused(key, began):
                return facts
            try:
                dsn = await self._addresses.find(namespace, store, spec, owners)
                if dsn != self._dsns.get(key):
                    await self._readdress(key, dsn)
                elif self._trials.paused(key, began):
                    return facts  # what was said of it holds
                facts.secret, facts.digest = named(STORE_SECRET, store), digest(dsn)
                try:
                    await self._migrate(key)
                except RoleRefused:
                    if spec is not None or not await self._take_back(key, dsn):
                        raise
                    await self._migrate(key)
                await self._look(key)
                self._taken_back.pop(key, None)
                self._trials.over(key)
            except ClusterError:
                raise
            except Exception as error:  # noqa: BLE001 - a store may answer anything, and its address be anything
                self._trials.failed(key, began, self._clock())
                self._fail(facts, *self._said_of(error, self._addresses.held(namespace, store) if spec is None else ""))
            return facts

    def _said_of(self, error: Exception, held: str) -> tuple[str, str]:
        """Reason and message of a well that met this error. `held`: why it doesn't follow the administrator's address."""
        match error:
            case Unready():
                return error.reason, str(error)
            case ProvisionError() | AddressRefused() | Unreadable():
                return "Unreachable", str(error)
            case StoreUnavailable():
                return "Unreachable", "Postgres can't be reached with this namespace's credentials" + (
                    f"; {held}" if held else ""
                )
            case StoreError():
                return "SchemaTooNew" if "another build" in str(error) else "MigrationPending", str(error)[:300]
            case _:  # its text may be anything, a password too
                self._log.warning("what a store or its address is can't be told", error=type(error).__name__)
                return "Unreachable", UNREADABLE

    async def _migrate(self, key: WellKey) -> None:
        if key in self._migrated:
            return
        with self._use(key) as store:
            applied = await store.migrate()
        self._migrated.add(key)
        if applied:
            self._log.info("migrated a well", namespace=key[0], store=key[1], migrations=len(applied))

    async def _take_back(self, key: WellKey, dsn: str) -> bool:
        """Have the well's role and schema made again, unless that was of no use a moment ago; whether it was done."""
        now = self._clock()
        if now < self._taken_back.get(key, now):
            return False
        done = await self._addresses.take_back(*key, dsn)
        if done:
            self._taken_back[key] = now + TAKE_BACK_PAUSE
        return done

    async def _readdress(self, key: WellKey, dsn: str) -> None:
        self._dsns[key] = dsn
        self._trials.over(key)
        self._migrated.discard(key)
        await self._opened.close(key)

    def _use(self, key: WellKey) -> AbstractContextManager[PostgresStore]:
        """The well's store, open while it is used."""
        return self._opened.use(key, self._dsns.get(key, ""))

    # --- looking ---

    async def look(self, namespace: str, store: str) -> WellFacts:
        """Read again what is registered and what runs, in a query each."""
        key = (namespace, store)
        async with self._locks[key]:
            facts = self.facts(namespace, store)
            if key not in self._migrated:
                return facts
            try:
                await self._look(key)
            except (Unreadable, Unready) as error:
                self._fail(facts, "Unreachable", str(error))
            except StoreError:
                self._fail(facts, "Unreachable", "Postgres can't be reached with this namespace's credentials")
            return facts

    async def look_back(self, namespace: str, store: str) -> WellFacts:
        """Look once more at a well that was away and that nobody uses; by its last address, for its Secret may be gone."""
        key = (namespace, store)
        async with self._locks[key]:
            facts = self.facts(namespace, store)
            try:
                if key in self._dsns:
                    await self._look(key)
            except (StoreError, Unready) as error:
                self._fail(facts, "Unreachable", str(error))
            return facts

    async def _look(self, key: WellKey) -> None:
        facts = self.facts(*key)
        facts.written.clear()
        with self._use(key) as store:
            found = await contents_of(store)
        registry, revisions, work = found.registry, found.revisions, found.work
        before = facts.picture()
        facts.registry_version = registry.version
        facts.functions = facts.newer({row.function_id: row for row in registry.functions}, facts.functions)
        facts.revisions = facts.newer(_by_function(revisions), facts.revisions)
        facts.index()
        facts.schedules = facts.newer(_schedules_by_function(registry.schedules), facts.schedules)
        facts.pauses = facts.newer({row.function_id: row for row in registry.pauses}, facts.pauses)
        facts.work = {(row.function_id, row.revision): row for row in work}
        if facts.looked:  # of the first look everybody is told who waits for it
            after = facts.picture()
            facts.changed |= {one for one in before.keys() | after.keys() if before.get(one) != after.get(one)}
        facts.reason, facts.message = READY, "the store answers and its schema is current"
        facts.looked = self._clock()
        self._count_zeros(facts, revisions, work)

    def _count_zeros(self, facts: WellFacts, revisions: Sequence[RevisionRow], work: Sequence[RevisionWork]) -> None:
        busy = {(row.function_id.removesuffix("-failure"), row.revision) for row in work if row.live}
        busy |= {(row.function_id, row.revision) for row in work if row.live}
        idle = {(row.function_id, row.revision) for row in revisions} - busy
        facts.zero_since = {pair: facts.zero_since.get(pair, facts.looked) for pair in idle}

    def _fail(self, facts: WellFacts, reason: str, message: str) -> None:
        if facts.reason != reason:
            self._log.warning("a well can't be used", namespace=facts.namespace, store=facts.store, reason=reason, error=message)
        facts.reason, facts.message = reason, message
        # When it comes back it may be a restored one, of an older schema.
        self._migrated.discard((facts.namespace, facts.store))
        facts.work = None
        facts.zero_since.clear()

    # --- writing ---

    async def register(self, facts: WellFacts, name: str, asked: Register) -> None:
        """Write a function's rows, and know them from now on."""
        now = time.time_ns() // 1000
        target = asked.target
        specs = [(target.function, asked.revision)] + ([(target.failure, asked.revision)] if target.failure else [])
        made = registration(owner_of(name), specs, asked.pool, now)
        rows = [
            replace(row, active=not target.suspended) if row.function_id == target.function.id else row for row in made.functions
        ]
        revisions = [replace(row, created=now) for row in asked.revisions]
        with self._use(facts.key) as store:
            if made.listens:
                await store.listen(made.listens)
            await store.register(made.owner, rows, made.schedules, revisions)
        gone = _gone(facts, made.owner, target)
        for row in [*rows, *(replace(one, active=False) for one in gone)]:
            tell_change(made.owner, row, facts.functions.get(row.function_id))
        for row in [*rows, *gone]:
            facts.written.add(row.function_id)
            facts.functions.pop(row.function_id, None)
        facts.functions |= {row.function_id: row for row in rows}
        facts.schedules[target.function.id] = made.schedules
        for row in revisions:
            others = [one for one in facts.revisions.get(row.function_id, ()) if one.revision != row.revision]
            facts.revisions[row.function_id] = [*others, row]
            facts.by_pool.setdefault(row.pool, set()).add(row.function_id)

    async def hold(self, facts: WellFacts, function_id: str, by: str) -> bool:
        """Pause a function, or resume it, as its manifest says; whether anything changed. A pause by the API is left alone."""
        there = facts.pauses.get(function_id)
        if there is not None and there.source == "api":
            return False
        if (there.paused_by if there is not None else "") == by:
            return False
        now = time.time_ns() // 1000
        with self._use(facts.key) as store:
            if there is not None:
                await self._note(store, now, "resume", function_id)
                await store.resume(function_id)
                self._paused(facts, function_id, None)
            if by:
                row = PauseRow(function_id, now, by, source="manifest")
                await self._note(store, now, "pause", function_id, by=by)
                await store.pause(row)
                self._paused(facts, function_id, row)
        return True

    @staticmethod
    def _paused(facts: WellFacts, function_id: str, row: PauseRow | None) -> None:
        facts.written.add(function_id)
        others = {name: one for name, one in facts.pauses.items() if name != function_id}
        facts.pauses = others if row is None else {**others, function_id: row}

    @staticmethod
    async def _note(store: PostgresStore, now: int, verb: str, function_id: str, **detail: str | int) -> None:
        """Write down what is about to be done."""
        act = AuditRow(now, "operator", verb, f"functions/{function_id}", "allowed", None, orjson.dumps(detail).decode())
        await store.note(act)
        tell(act)

    async def move(self, facts: WellFacts, asked: Move) -> int:
        """Hand the function's live runs to another revision; how many there were."""
        with self._use(facts.key) as store:
            return await store.move_runs(asked.function_id, asked.revision, asked.pool)

    async def drop(self, facts: WellFacts, asked: Forget) -> bool:
        """Let go of a drained revision; False if a run is pinned to it after all."""
        with self._use(facts.key) as store:
            gone = await store.forget_revision(asked.function_id, asked.revision)
        if gone:
            facts.written.add(asked.function_id)
            facts.revisions[asked.function_id] = [
                one for one in facts.revisions.get(asked.function_id, ()) if one.revision != asked.revision
            ]
            facts.index()
        return gone

    async def retire(self, facts: WellFacts, name: str, *, cancel: bool) -> bool:
        """A function's object is gone or going: nothing starts any more. Whether nothing of it runs now either."""
        with self._use(facts.key) as store:
            return await self._retire(store, facts, name, cancel=cancel)

    async def _retire(self, store: PostgresStore, facts: WellFacts, name: str, *, cancel: bool) -> bool:
        owner = owner_of(name)
        ids = {row.function_id for row in facts.functions.values() if row.owner == owner}
        if any(facts.functions[one].active for one in ids):
            await store.register(owner, (), ())
            for row in [facts.functions[one] for one in ids]:
                if row.active:
                    facts.written.add(row.function_id)
                    facts.functions[row.function_id] = replace(row, active=False)
                    tell_change(owner, facts.functions[row.function_id], row)
        live = await _live(store, ids)
        if cancel and live:
            for one, count in sorted(live.items()):
                await self._note(store, time.time_ns() // 1000, "cancel runs", one, matched=count, reason=DELETED)
                await cancel_all(store, one, DELETED)
            live = await _live(store, ids)
        if live:
            return False
        for one in ids:
            for row in facts.revisions.get(one, ()):
                await store.forget_revision(one, row.revision)
        for one in ids:
            facts.written.add(one)
            facts.functions.pop(one, None)
            facts.revisions.pop(one, None)
        facts.index()
        return True


async def _live(store: PostgresStore, ids: Collection[str]) -> Counter[str]:
    """How many runs live of each of these functions; none that has none."""
    found: Counter[str] = Counter()
    for row in await store.work():
        if row.function_id in ids and row.live:
            found[row.function_id] += row.live
    return found


def _gone(facts: WellFacts, owner: str, target: Target) -> list[FunctionRow]:
    """Rows of this owner that its target has no more: a clean-up function that was taken out."""
    row = facts.functions.get(f"{target.function.id}-failure")
    return [row] if row is not None and row.owner == owner and target.failure is None else []


def _by_function(rows: Sequence[RevisionRow]) -> dict[str, Sequence[RevisionRow]]:
    found: dict[str, list[RevisionRow]] = defaultdict(list)
    for row in rows:
        found[row.function_id].append(row)
    return dict(found)


def _schedules_by_function(rows: Sequence[ScheduleRow]) -> dict[str, Sequence[ScheduleRow]]:
    found: dict[str, list[ScheduleRow]] = defaultdict(list)
    for row in rows:
        found[row.function_id].append(row)
    return dict(found)


__all__ = ["STORE", "ClusterError", "FunctionRow", "WellKey", "Wells"]
