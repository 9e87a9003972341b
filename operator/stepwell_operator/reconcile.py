"""The conductor: from a name to a converged function. Level-based: whoever called, it reads all, plans, acts on the difference.

handlers, census, resync ──▶ queue ──▶ reconcile: target ─▶ observe ─▶ plan ─▶ register, pools, move, forget ─▶ status
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial

from stepwell.errors import StoreError
from stepwell_operator.children import Children
from stepwell_operator.cluster import FUNCTION, Cluster, Conflict, Document, NotThere, note_act, watched
from stepwell_operator.events import Events
from stepwell_operator.facts import WellFacts
from stepwell_operator.leaving import Leaving, drains
from stepwell_operator.metrics import OperatorMetrics
from stepwell_operator.notes import notes_between
from stepwell_operator.plan import Observed, Plan, function_id_of, holder_of, ids_of, plan, taken
from stepwell_operator.settings import Settings
from stepwell_operator.settling import OWNERS_PATIENCE, Owners, Settling, owners_can_wait, status_patience, uids
from stepwell_operator.status import patch_between, status_of
from stepwell_operator.target import DEFAULT_STORE, Fault, Target
from stepwell_operator.targets import Targets
from stepwell_operator.wells import Wells
from stepwell_operator.workqueue import Item, Workqueue
from stepwell_operator.world import Key, Seen, World, owners_of

SHARED_OWNERS = 100
"""So many functions own a namespace's gateway and Secrets together, so that these go with the last of them, operator or not."""
MOST_WELLS = 4
"""So many wells of one namespace are worked on at once: however many of its stores answer nothing, other namespaces have room."""
EVALUATION = "; this is the evaluation store, one small Postgres for trying out: give a production namespace a store of its own"


class Reconciler:
    """Everything that converges, over one world and one queue."""

    def __init__(
        self, cluster: Cluster, settings: Settings, metrics: OperatorMetrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.cluster = cluster
        self.settings = settings
        self.metrics = metrics
        self.world = World()
        self.wells = Wells(cluster, settings, clock)
        self.targets = Targets(cluster, self.world, settings.namespaces)
        self.children = Children(cluster, settings, self.world)
        self.events = Events(cluster, settings.pod)
        self.queue: Workqueue[Item] = Workqueue(self.work, settings.workers)
        # A store that answers nothing takes its time: no function stands in line behind it.
        self.well_queue: Workqueue[Item] = Workqueue(
            self.work, settings.workers, most_of=(lambda item: item.namespace, MOST_WELLS)
        )
        self.clock = clock
        self._settling: Settling[Item] = Settling()
        self.leaving = Leaving(self)
        self._waiting: dict[Key, set[Key]] = defaultdict(set)
        """By a function: those that wait for its functionId."""

    # --- what is asked for ---

    def function(self, key: Key, after: float = 0.0) -> None:
        """Look at a function again."""
        self.queue.add(Item("function", *key), after)

    def well(self, namespace: str, store: str, after: float = 0.0) -> None:
        """Look at a well, its Secret and its gateway again."""
        self.well_queue.add(Item("well", namespace, store), after)

    def well_at_its_pace(self, namespace: str, store: str) -> None:
        """Look at a well again, unless it fails: then it is tried again by itself, with pauses that grow."""
        if not self.well_queue.fails(Item("well", namespace, store)):
            self.well(namespace, store)

    def pool(self, namespace: str, pool: str, after: float = 0.0) -> None:
        """Look again at every function that has part in a pool."""
        for name in self._members(namespace, pool):
            self.function((namespace, name), after)

    def reviewers(self) -> None:
        """Look again at whose gateways may ask about tokens."""
        self.queue.add(Item("reviewers", "", ""))

    async def work(self, item: Item) -> float | None:
        """Reconcile one item; the seconds after which to look again, if need be."""
        began = self.clock()
        failure: str | None = None
        with watched() as acts:
            try:
                if item.kind == "well":
                    return await self._reconcile_well(item.namespace, item.name)
                if item.kind == "reviewers":
                    return await self.children.tidy_reviewers(self.wells_named())
                return await self._reconcile_function(item.namespace, item.name)
            except Exception as error:
                # Tried again with a pause that grows: a server that goes on refusing is not to be hammered.
                failure = type(error).__name__
                raise
            finally:
                self.metrics.reconciled(self.clock() - began, changed=bool(acts.made), failure=failure)

    # --- one function ---

    async def _reconcile_function(self, namespace: str, name: str) -> float | None:
        try:
            again = await self._reconcile(namespace, name)
        except Conflict:
            seen = self.world.functions.get((namespace, name))
            if seen is not None:
                await self._read_again(seen)  # the watch may be long in telling
            raise
        for key in self._waiting.pop((namespace, name), ()):
            self.function(key)
        return again

    async def _reconcile(self, namespace: str, name: str) -> float | None:
        seen = self.world.functions.get((namespace, name))
        if seen is None:
            return await self.leaving.gone(namespace, name)
        target = await self.targets.get(seen)
        if seen.deleting:
            return await self.leaving.going(seen, datetime.now(UTC), partial(self._well_looked_at, seen, target))
        if await self.leaving.finalized(seen, target):
            return None  # the patch brings an event
        well = await self._well_of(seen, target)
        if well.reason == "Pending":
            self.well_at_its_pace(namespace, well.store)
            return None  # the well, once it has been looked at, looks at its functions
        target = self._own(seen, target, well)
        self._join(seen, well)
        made = plan(self._observe(seen, target, well))
        made, not_taken = await self._act(seen, target, made, well)
        if any(self.children.lost_pool(namespace, pool) for pool in made.pools) and not await self._is_there([seen]):
            return None  # what is in its place is looked at
        refused = await self._converge(seen, made, well)
        await self._tell(seen, target, well, made, refused)
        if not_taken is not None:
            raise not_taken
        return made.again

    def _own(self, seen: Seen, target: Target | Fault, well: WellFacts) -> Target | Fault:
        """The target, unless what it asks to be known by is that of another function, one that is there to stay."""
        name = holder_of(seen.name, target, well) if isinstance(target, Target) else None
        other = self.world.functions.get((seen.namespace, name)) if name is not None else None
        if not isinstance(target, Target) or other is None or other.deleting:
            return target
        asks = self.targets.known(*other.key)
        if isinstance(asks, Target) and (asks.store != target.store or not {*ids_of(asks)} & {*ids_of(target)}):
            return target  # it had that name once
        self._waiting[other.key].add(seen.key)
        return taken(target, well, other.name)

    async def _is_there(self, users: Iterable[Seen]) -> bool:
        """Whether one of these is there still, whatever was heard: what has no owner is taken away as often as it is made."""
        for seen in users:
            if await self._read_again(seen):
                return True
        return False

    async def _read_again(self, seen: Seen) -> bool:
        """Ask the API server itself for a function, and take in what it says; whether it is the one that was known."""
        found = await self.cluster.get(FUNCTION, *seen.key)
        if found is not None:
            if self.world.see(found, self.world.functions):
                self.function(seen.key)
            return found["metadata"]["uid"] == seen.uid
        known = self.world.functions.get(seen.key)
        if known is not None and known.uid == seen.uid:
            self.world.forget(seen.key, self.world.functions)
            self.function(seen.key)
        return False

    def _observe(self, seen: Seen, target: Target | Fault, well: WellFacts) -> Observed:
        pools = {target.pool_id} if isinstance(target, Target) else set[str]()
        pools |= (
            {row.pool for rows in well.revisions.values() for row in rows}
            if len(well.revisions) < 3
            else {row.pool for row in well.revisions.get(function_id_of(seen.name, target, well), ())}
        )
        owned = self.children.owned_by(seen)
        return Observed(
            seen=seen,
            target=target,
            well=well,
            children={one: child for one in pools | owned if (child := self.world.deployment(seen.namespace, one)) is not None},
            owned=frozenset(owned),
            now=self.clock(),
            settle=self.settings.drain_seconds,
        )

    async def _well_of(self, seen: Seen, target: Target | Fault) -> WellFacts:
        """The function's well; looked at now if revisions may have drained since."""
        namespace, store = seen.namespace, self.targets.store_of(seen)
        facts = self.wells.facts(namespace, store)
        if facts.ready and isinstance(target, Target):
            several = len(facts.revisions.get(target.function.id, ())) > 1
            if several and self.clock() - facts.looked >= self.settings.drain_seconds:
                await self.wells.look(namespace, store)
        return facts

    async def _well_looked_at(self, seen: Seen, target: Target | Fault) -> WellFacts:
        """The function's well, looked at now if it never was: what drains waits for what the store says."""
        facts = await self._well_of(seen, target)
        if facts.reason == "Pending":
            await self._reconcile_well(facts.namespace, facts.store)
        return facts

    async def _act(self, seen: Seen, target: Target | Fault, made: Plan, well: WellFacts) -> tuple[Plan, StoreError | None]:
        """Write what is to be written to the store, and plan again; with the error of a store that didn't take all of it."""
        try:
            if made.register is not None:
                await self.wells.register(well, seen.name, made.register)
                note_act("register")
                self._announce(seen, made)
                made = plan(self._observe(seen, target, well))
            function_id = function_id_of(seen.name, target, well)
            if well.ready and function_id:
                await self.wells.hold(well, function_id, seen.paused_by)
            if made.move is not None:
                await self.wells.move(well, made.move)
            for one in made.forget:
                if await self.wells.drop(well, one):
                    self.events.tell(
                        seen, "Normal", "RevisionDrained", f"no run is on revision {one.revision} any more; its pods go"
                    )
            if made.forget:
                made = plan(self._observe(seen, target, well))
        except StoreError as error:
            self.well(seen.namespace, well.store, 1.0)  # it may be away
            return made, error
        return made, None

    def _announce(self, seen: Seen, made: Plan) -> None:
        asked = made.register
        if asked is None:
            return
        for row in asked.revisions:
            self.events.tell(seen, "Normal", "RevisionCreated", f"revision {row.revision} in pool {row.pool}")
        if asked.revision == asked.target.revision:
            self.events.tell(seen, "Normal", "RevisionPromoted", f"new runs begin on revision {asked.revision}")

    async def _converge(self, seen: Seen, made: Plan, well: WellFacts) -> str | None:
        """Make the function's pools, and take away those that nobody has part in; what the API server refused, if it did."""
        if not well.secret:
            return None
        refused: str | None = None
        for pool, spec in made.pools.items():
            owners = self._pool_owners(seen, pool)
            said = await self.children.ensure_pool(spec, well, seen.namespace, owners, self._replicas(seen, pool))
            refused = refused or said
        for pool in made.dropped:
            others = self._members(seen.namespace, pool) - {seen.name}
            if others:
                self.function((seen.namespace, min(others)))
            else:
                await self.children.drop_pool(seen.namespace, pool)
                self.settled(Item("pool", seen.namespace, pool))
                self.events.tell(seen, "Normal", "RevisionDeleted", f"the Deployment {pool} is not needed any more")
        return refused

    def _pool_owners(self, seen: Seen, pool: str) -> Owners:
        """Who is to own a pool's objects, and whether a change of that waits."""
        owners = owners_of(
            self.world.functions[seen.namespace, name] for name in self._members(seen.namespace, pool) | {seen.name}
        )
        there = self.children.owners_of_pool(seen.namespace, pool)
        can_wait = owners_can_wait(there, uids(owners), self.children.told_owners_of_pool(seen.namespace, pool))
        waits = can_wait and self.put_off(Item("pool", seen.namespace, pool), OWNERS_PATIENCE, Item("function", *seen.key))
        return self._owners(owners, Item("pool", seen.namespace, pool), put_off=waits)

    def _members(self, namespace: str, pool: str) -> set[str]:
        """The functions that have part in a pool: it is their newest, or they have a revision in it that isn't gone."""
        found = self.targets.in_pool(namespace, pool)
        for facts in self.wells.of(namespace):
            found |= facts.functions_in(pool)
        return {name for name in found if (namespace, name) in self.world.functions}

    def _replicas(self, seen: Seen, pool: str) -> int:
        wanted = [self.targets.known(seen.namespace, name) for name in self._members(seen.namespace, pool) | {seen.name}]
        replicas = [one.replicas for one in wanted if isinstance(one, Target)]
        if replicas:
            return max(replicas)
        child = self.world.deployment(seen.namespace, pool)
        return child.desired if child is not None else 1

    async def _tell(self, seen: Seen, target: Target | Fault, well: WellFacts, made: Plan, refused: str | None) -> None:
        """Write the status, if it changed."""
        newest = self.world.functions.get(seen.key, seen)
        observed = self._observe(newest if newest.generation == seen.generation else seen, target, well)
        pool = target.pool_id if isinstance(target, Target) else made.current_pool
        trouble = self.world.trouble(seen.namespace, pool) if pool else None
        warning = EVALUATION if self.settings.evaluation_store and well.ready and well.store == DEFAULT_STORE else ""
        after = status_of(observed, made, trouble, refused, warning, datetime.now(UTC))
        before = self.targets.status(observed.seen)
        patch = patch_between(before, after)
        self.metrics.conditions(seen.key, after["conditions"])
        item = Item("function", *seen.key)
        patience = status_patience(before, after, patch) if patch else 0.0
        if not patience:
            self.settled(item)
        elif self.put_off(item, patience):
            return
        if not patch:
            return
        document: Document = {"metadata": {"resourceVersion": str(observed.seen.version)}, "status": patch}
        try:
            written = await self.cluster.merge(FUNCTION, seen.namespace, seen.name, document, "status")
        except NotThere:
            return
        self.world.see(written, self.world.functions)
        self.settled(item)
        for note in notes_between(before, after):
            self.events.tell(seen, note.type, note.reason, note.message)

    # --- wells ---

    def users(self, namespace: str, store: str) -> list[Seen]:
        """The functions of a well, the oldest first; one that is being deleted and drains has need of it still."""
        found = [
            seen
            for seen in self.world.functions_in(namespace)
            if self.targets.store_of(seen) == store and (not seen.deleting or drains(seen))
        ]
        return sorted(found, key=lambda seen: (seen.created, seen.name))

    def wells_named(self) -> set[Key]:
        """The wells of all functions that are there, by namespace and store."""
        return {(seen.namespace, self.targets.store_of(seen)) for seen in self.world.functions.values()}

    async def _reconcile_well(self, namespace: str, store: str) -> float | None:
        users = self.users(namespace, store)
        if not users or (all(seen.deleting for seen in users) and await self.leaving.namespace_goes(namespace)):
            return await self.leaving.well(namespace, store)
        if self.children.lost_gateway(namespace, store) and not await self._is_there(users):
            return await self._reconcile_well(namespace, store)
        before = self.wells.facts(namespace, store)
        owners = self._well_owners(before, users)
        was = before.shown
        try:
            facts = await self.wells.prepare(namespace, store, self.world.stores.get((namespace, store)), owners)
            if facts.secret:
                await self.children.ensure_gateway(facts, owners)
            facts.gateway = self.children.has_gateway(namespace, store)
        finally:  # it may be known by now, and its gateway not be made
            if before.shown != was:
                self.leaving.look_for_orphans(before)
                self.look_at(self.users(namespace, store))  # those too that came meanwhile
        return None if facts.ready else 5.0

    def _well_owners(self, well: WellFacts, users: list[Seen]) -> Owners:
        """Who is to own what a well's functions share, and whether a change of that waits."""
        wanted = _shared_owners(users)
        owners = self._owners(wanted, Item("well", well.namespace, well.store), put_off=self._owners_wait(well, wanted))
        if not owners.put_off:
            well.owners = uids(wanted)
        return owners

    def _owners_wait(self, well: WellFacts, owners: list[Document]) -> bool:
        there = self.children.owners_of_gateway(well.namespace, well.store)
        can_wait = owners_can_wait(there, uids(owners), well.owners)
        return can_wait and self.put_off(Item("well", well.namespace, well.store), OWNERS_PATIENCE)

    def _owners(self, wanted: list[Document], item: Item, *, put_off: bool) -> Owners:
        if not put_off:
            self.settled(item)
        return Owners(wanted, put_off)

    def _join(self, seen: Seen, well: WellFacts) -> None:
        """See that a function that came is soon an owner of what its well's functions share."""
        if not well.owners or seen.uid in well.owners:
            return
        if not self._owners_wait(well, _shared_owners(self.users(well.namespace, well.store))):
            self.well(well.namespace, well.store)

    def put_off(self, item: Item, patience: float, look_at: Item | None = None) -> bool:
        """Whether something that is wanted of an item, and can wait, is put off; then there is another look at it in time."""
        left = self._settling.left(item, patience, self.clock())
        if left > 0:
            looked_at = look_at or item
            (self.well_queue if looked_at.kind == "well" else self.queue).add(looked_at, left)
        return left > 0

    def settled(self, item: Item) -> None:
        """Nothing that is wanted of an item is put off any more."""
        self._settling.over(item)

    def look_at(self, functions: Iterable[Seen]) -> None:
        """Look again at all of these."""
        for seen in functions:
            self.function(seen.key)


def _shared_owners(users: list[Seen]) -> list[Document]:
    return owners_of(users) if len(users) <= SHARED_OWNERS else []
