"""What happens when an object goes: functions are taken out of their wells, wells that nobody uses are let go of.

being deleted ──▶ going: nothing new starts; with `Drain` our finalizer holds it until its runs have ended
not there     ──▶ gone: its runs are cancelled, its rows taken out; where nobody saw it go, after some time of doubt
the last one  ──▶ well: no gateway any more, and once nothing of functions that are gone is left in it, it is forgotten

What drains uses its well, and needs its gateway and runners, until the store has said that none of its runs lives. A well that
isn't known yet, after a change of leaders, or doesn't answer has not said so. The wait ends an hour after the deletion whatever
the store says, and at once where the namespace goes: Kubernetes takes the runners away, so that no run could end.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from stepwell.errors import StoreError
from stepwell_operator.cluster import FUNCTION, NAMESPACE, ClusterError, NotThere
from stepwell_operator.facts import WellFacts, name_of
from stepwell_operator.names import FINALIZER
from stepwell_operator.settling import OWNERS_PATIENCE
from stepwell_operator.target import Fault, Target
from stepwell_operator.workqueue import Item
from stepwell_operator.world import Key, Seen, mapping

if TYPE_CHECKING:
    from stepwell_operator.reconcile import Reconciler

DRAIN_DEADLINE = timedelta(hours=1)
"""How long after its deletion was asked for a function waits for its runs: by the object's own time, whichever operator leads."""
FAREWELL_PAUSE = 10.0
"""How often (s) a well that nobody uses is looked at while runs of functions that are gone still have to be cancelled there."""


class Leaving:
    """The part of a reconciler that takes leave of objects."""

    def __init__(self, reconciler: "Reconciler") -> None:
        self._reconciler = reconciler

    async def finalized(self, seen: Seen, target: Target | Fault) -> bool:
        """See that exactly functions with `deletionPolicy: Drain` have our finalizer; whether it had to be changed."""
        if isinstance(target, Fault):
            return False
        has = drains(seen)
        if has == (target.policy == "Drain"):
            return False
        rest = [one for one in seen.finalizers if one != FINALIZER]
        await self._set_finalizers(seen, rest if has else [*rest, FINALIZER])
        return True

    async def going(self, seen: Seen, now: datetime, look: Callable[[], Awaitable[WellFacts]]) -> float | None:
        """It is being deleted: nothing new starts; with `Drain` it stays until its runs have ended. `look` gives its well."""
        if not drains(seen):
            return await self._farewell(seen.key, cancel=True)
        late = is_late(seen, now) or await self.namespace_goes(seen.namespace)
        try:
            well = await look()
        except ClusterError:
            if not late:
                raise
            well = None
        again = await self._farewell(seen.key, cancel=late)
        if late or (again is None and well is not None and well.ready):
            await self._set_finalizers(seen, [one for one in seen.finalizers if one != FINALIZER])
            return None
        self._reconciler.events.tell(seen, "Normal", "DeletionBlocked", _why_blocked(well))
        return again or self._reconciler.settings.drain_seconds

    async def namespace_goes(self, namespace: str) -> bool:
        """Whether a namespace is being deleted; not as far as is known if the API server doesn't tell."""
        try:
            found = await self._reconciler.cluster.get(NAMESPACE, None, namespace)
        except ClusterError:
            return False
        return found is None or "deletionTimestamp" in mapping(found.get("metadata"))

    async def gone(self, namespace: str, name: str) -> float | None:
        """Its object isn't there: it is taken out of its wells, once it is sure that it was deleted."""
        return self._doubt(namespace, name) or await self._farewell((namespace, name), cancel=True)

    async def well(self, namespace: str, store: str) -> float | None:
        """Nobody uses it any more: let go of it, once everything of functions that are gone has been taken out of it."""
        reconciler = self._reconciler
        facts = reconciler.wells.facts(namespace, store)
        if any(reconciler.world.functions_in(namespace)) or facts.ready:
            await reconciler.children.drop_gateway(namespace, store)
        reconciler.settled(Item("well", namespace, store))
        if facts.functions and not facts.ready:
            facts = await reconciler.wells.look_back(namespace, store)
        if all(name_of(row) is None for row in facts.functions.values()):
            await reconciler.wells.forget(namespace, store)
            return None
        self.look_for_orphans(facts)
        return FAREWELL_PAUSE

    def look_for_orphans(self, facts: WellFacts) -> None:
        """Say farewell to functions that are in the well and whose objects went while nobody looked."""
        for row in facts.functions.values():
            name = name_of(row)
            if name is not None and (facts.namespace, name) not in self._reconciler.world.functions:
                self._reconciler.function((facts.namespace, name))

    def _doubt(self, namespace: str, name: str) -> float:
        """For how many seconds more a function whose object isn't there isn't taken for deleted; 0 if its deletion was seen.

        Wells outlive clusters: in a new one, on a restored Postgres, functions are applied one after the other, and the runs of
        those that come last are not to be cancelled by the first.
        """
        reconciler = self._reconciler
        if (namespace, name) in reconciler.world.gone:
            return 0.0
        known = [facts.since for facts in reconciler.wells.of(namespace) if facts.has_rows_of(name)]
        return max(0.0, max(known, default=-1e9) + reconciler.settings.orphan_seconds - reconciler.clock())

    async def _farewell(self, key: Key, *, cancel: bool) -> float | None:
        """Take a function out of its wells; None once nothing of it is left there."""
        reconciler, (namespace, name) = self._reconciler, key
        again: float | None = None
        for facts in reconciler.wells.of(namespace):
            done = key not in reconciler.world.functions or not facts.has_rows_of(name)
            if facts.ready:
                try:
                    done = await reconciler.wells.retire(facts, name, cancel=cancel)
                except StoreError:
                    done = False
                    await reconciler.wells.look(namespace, facts.store)  # it may be away
                    reconciler.well(namespace, facts.store, 1.0)
            again = again if done else reconciler.settings.drain_seconds
        if key not in reconciler.world.functions:
            self._forget(key)
        return again

    def _forget(self, key: Key) -> None:
        """Nothing is to be known of it any more; who shared something with it is looked at."""
        reconciler, (namespace, name) = self._reconciler, key
        pools = reconciler.targets.forget(namespace, name)
        reconciler.metrics.forget(key)
        reconciler.settled(Item("function", namespace, name))
        for pool in pools:
            reconciler.settled(Item("pool", namespace, pool))  # who is left in it says anew what is wanted
            reconciler.pool(namespace, pool)
        for facts in reconciler.wells.of(namespace):
            if not reconciler.put_off(Item("well", namespace, facts.store), OWNERS_PATIENCE):
                reconciler.well(namespace, facts.store)

    async def _set_finalizers(self, seen: Seen, finalizers: list[str]) -> None:
        metadata = {"finalizers": finalizers, "resourceVersion": str(seen.version)}
        try:
            await self._reconciler.cluster.merge(FUNCTION, seen.namespace, seen.name, {"metadata": metadata})
        except NotThere:
            return


def drains(seen: Seen) -> bool:
    """Whether our finalizer holds it, should it be deleted."""
    return FINALIZER in seen.finalizers


def is_late(seen: Seen, now: datetime) -> bool:
    """Whether it has been waiting for its runs for as long as it may."""
    return now - datetime.fromisoformat(seen.deleted) > DRAIN_DEADLINE


def _why_blocked(well: WellFacts | None) -> str:
    if well is None or not well.ready:
        reason = "" if well is None else f" ({well.reason})"
        return f"its store doesn't tell{reason} whether runs are under way; deletionPolicy Drain waits for that, an hour at most"
    return "runs are still under way; deletionPolicy Drain waits for them, an hour at most"
