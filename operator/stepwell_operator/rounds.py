"""What is done by the clock: wells are looked at, and everything is walked, whatever was heard."""

import asyncio
from functools import partial

import structlog

from stepwell_operator.cluster import ClusterError
from stepwell_operator.facts import name_of
from stepwell_operator.maps import PACE
from stepwell_operator.reconcile import Reconciler
from stepwell_operator.well_secrets import WellSecrets

AT_ONCE = 8
"""So many wells are looked at at once, so that one that is slow to answer holds up no other."""


class Rounds:
    """The rounds over what a reconciler knows."""

    def __init__(self, reconciler: Reconciler) -> None:
        self._reconciler = reconciler
        self._log = structlog.get_logger("stepwell.operator")

    async def look_round(self) -> None:
        """Every half a minute: read what runs in each well, and look at the functions for which that changed."""
        while True:
            await asyncio.sleep(self._reconciler.settings.look_seconds)
            room = asyncio.Semaphore(AT_ONCE)
            async with asyncio.TaskGroup() as group:
                for namespace, store in self._reconciler.wells.known():
                    group.create_task(self._guarded(room, namespace, store))

    async def _guarded(self, room: asyncio.Semaphore, namespace: str, store: str) -> None:
        try:
            async with room:
                await self._look(namespace, store)
        except Exception as error:  # noqa: BLE001 - one well's fault is not another's
            self._log.warning("a well's look failed", namespace=namespace, store=store, error=type(error).__name__)

    async def _look(self, namespace: str, store: str) -> None:
        facts = self._reconciler.wells.facts(namespace, store)
        if not facts.ready:
            # One that fails has its own pace: a namespace may be gone whose functions are not, and stays so.
            self._reconciler.well_at_its_pace(namespace, store)
            return
        facts = await self._reconciler.wells.look(namespace, store)
        for function_id in facts.take_changed():
            row = facts.functions.get(function_id)
            name = name_of(row) if row is not None else None
            if name is not None:
                self._reconciler.function((namespace, name))
        if not facts.ready:
            self._reconciler.look_at(self._reconciler.users(namespace, store))

    async def unwatched_round(self) -> None:
        """Every few seconds: look at what depends on objects of which no watch tells, if they changed."""
        secrets = WellSecrets(self._reconciler.cluster)
        while True:
            await asyncio.sleep(PACE)
            for look in (self._look_at_maps, partial(self._look_at_secrets, secrets)):
                try:
                    await look()
                except ClusterError as error:
                    self._log.warning("ConfigMaps of sources and Secrets of wells could not be looked at", error=str(error))

    async def _look_at_maps(self) -> None:
        for key in await self._reconciler.targets.look_at_maps():
            self._reconciler.function(key)

    async def _look_at_secrets(self, secrets: WellSecrets) -> None:
        wells = self._reconciler.wells
        for key in await secrets.look(one for one in wells.known() if wells.facts(*one).secret):
            self._reconciler.well(*key)

    async def resync_round(self) -> None:
        """Every ten minutes: walk everything, spread over a minute, and take out of the wells whose objects are gone."""
        while True:
            await asyncio.sleep(self._reconciler.settings.resync)
            self.resync(spread=60.0)

    def resync(self, spread: float) -> None:
        """Look at everything."""
        self._reconciler.children.forget_lost()
        count = max(1, len(self._reconciler.world.functions))
        for place, key in enumerate(list(self._reconciler.world.functions)):
            self._reconciler.function(key, spread * place / count)
        self._reconciler.reviewers()
        wells = self._reconciler.wells_named() | set(self._reconciler.wells.known())
        for namespace, store in wells:
            self._reconciler.well(namespace, store)
            self._reconciler.leaving.look_for_orphans(self._reconciler.wells.facts(namespace, store))
