"""`stepwell-operator`: stand by until this one leads, then reconcile until told to stop or until the lease is lost."""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from importlib.metadata import version
from typing import Any, cast

import kopf
import structlog

from stepwell import log
from stepwell_operator import rights
from stepwell_operator.census import Census
from stepwell_operator.cluster import Cluster, ClusterError, NotThere, connect
from stepwell_operator.handlers import configure, make_registry
from stepwell_operator.health import Health
from stepwell_operator.lease import Leadership
from stepwell_operator.metrics import Live, OperatorMetrics
from stepwell_operator.reconcile import Reconciler
from stepwell_operator.rounds import Rounds
from stepwell_operator.settings import Settings, SettingsError, read_settings

LOST = 3
"""The exit code of an operator whose lease was lost."""


def main() -> None:
    """The console script."""
    try:
        settings = read_settings(os.environ)
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - before there is a log
        raise SystemExit(2) from None
    logging.getLogger("kopf").setLevel(logging.WARNING)  # it tells of every event
    who = {"component": "operator", "namespace": settings.namespace, "version": version("stepwell"), "pod": settings.pod}
    log.configure(json=settings.log_json, level=settings.log_level, **who)
    gc.set_threshold(20_000, 20, 20)
    raise SystemExit(asyncio.run(Operator(settings).run()))


class Operator:
    """One operator process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = OperatorMetrics()
        self._log = structlog.get_logger("stepwell.operator")

    async def run(self) -> int:
        """Until SIGTERM (0) or until the lease is lost (3)."""
        log.follow_signals(self.settings.log_level)
        cluster = await connect()
        reconciler = Reconciler(cluster, self.settings, self.metrics)
        census = Census(cluster, reconciler, self.settings.namespaces)
        health = Health(self.metrics, census.deaf)
        self.metrics.watch(
            Live(lambda: reconciler.queue.depth + reconciler.well_queue.depth, census.ages, lambda: cluster.answers)
        )
        await health.start(self.settings.health_host, self.settings.health_port)
        identity = f"{self.settings.pod}_{os.urandom(4).hex()}"
        leadership = Leadership(cluster, self.settings.namespace, identity, self.settings.lease_seconds)
        cluster.may_write = leadership.may_write
        try:
            return await self._stand_by(leadership, reconciler, census, health)
        finally:
            await leadership.release()
            await health.stop()
            await reconciler.wells.close()
            await cluster.close()

    async def _stand_by(self, leadership: Leadership, reconciler: Reconciler, census: Census, health: Health) -> int:
        stop = _stop_signal()
        self._log.info("stands by", identity=leadership.identity)
        ready = asyncio.create_task(self._become_ready(reconciler.cluster, health))
        leads = asyncio.create_task(leadership.acquire())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({leads, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not leads.done():
            await _cancelled(leads, ready)
            return 0
        self._log.info("leads")
        self.metrics.leader.set(1)
        keeping = asyncio.create_task(leadership.keep())
        leading = asyncio.create_task(self._lead(reconciler, census, stop))
        await asyncio.wait({keeping, leading, stopped}, return_when=asyncio.FIRST_COMPLETED)
        self.metrics.leader.set(0)
        if keeping.done():
            # Nothing more may be written: whoever leads now does that.
            self._log.error("lost the lease; exits")
            os._exit(LOST)
        if leading.done() and not stopped.done():
            leading.result()
        await _cancelled(leading, ready)
        await _cancelled(keeping)
        return 0

    async def _become_ready(self, cluster: Cluster, health: Health) -> None:
        """See that the kinds, the rights and the store are there; look again every ten seconds, then every minute."""
        while True:
            health.missing = tuple(await self._missing(cluster))
            await asyncio.sleep(10 if health.missing else 60)

    async def _missing(self, cluster: Cluster) -> list[str]:
        try:
            for kind in ("durablefunctions", "durablestores"):
                await cluster.ask(
                    f"/apis/stepwell.dev/v1alpha1/{kind}?limit=1"
                    if not self.settings.namespaces
                    else "/apis/stepwell.dev/v1alpha1"
                )
            found = await rights.missing(
                cluster, self.settings.namespaces, self.settings.namespace, self.settings.token_reviewers
            )
            if self.settings.admin_secret:
                path = f"/api/v1/namespaces/{self.settings.namespace}/secrets/{self.settings.admin_secret}"
                try:
                    await cluster.ask(path)
                except NotThere:
                    found.append(f"the store: Secret {self.settings.admin_secret} in namespace {self.settings.namespace}")
        except NotThere:
            return ["the CRDs of stepwell.dev/v1alpha1"]
        except ClusterError as error:
            return [f"an answer of the API server: {error}"]
        return found

    async def _lead(self, reconciler: Reconciler, census: Census, stop: asyncio.Event) -> None:
        while True:
            try:
                await census.first()
                break
            except ClusterError as error:
                self._log.warning("the cluster can't be read yet", error=str(error))
                await asyncio.sleep(2.0)
        self._log.info("has read the cluster", functions=len(reconciler.world.functions), children=len(reconciler.world.children))
        gc.collect()
        gc.freeze()
        Rounds(reconciler).resync(spread=0.0)
        async with asyncio.TaskGroup() as group:
            for work in self._works(reconciler, census, stop):
                group.create_task(work)

    def _works(self, reconciler: Reconciler, census: Census, stop: asyncio.Event) -> list[Coroutine[Any, Any, None]]:
        rounds = Rounds(reconciler)
        return [
            reconciler.queue.run(),
            reconciler.well_queue.run(),
            reconciler.events.run(),
            rounds.look_round(),
            rounds.unwatched_round(),
            rounds.resync_round(),
            census.run(self.settings.census_seconds),
            self._hear(census, stop),
        ]

    async def _hear(self, census: Census, stop: asyncio.Event) -> None:
        """Kopf's watches, until they end; they have to be heard, so their end is an error."""
        settings = kopf.OperatorSettings()
        configure(settings, self.settings)
        namespaces = self.settings.namespaces
        await kopf.operator(
            registry=make_registry(census),
            settings=settings,
            clusterwide=not namespaces,
            namespaces=namespaces,
            standalone=True,
            # Else kopf asks for the user's name, and a cluster may have given the pod a user that has none.
            identity=cast("Any", self.settings.pod),
            stop_flag=asyncio.Event(),
        )
        stop.set()


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _cancelled(*tasks: "asyncio.Task[Any]") -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError, Exception):
            await task


if __name__ == "__main__":
    main()
