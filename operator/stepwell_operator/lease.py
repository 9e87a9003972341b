"""Leadership by a Lease: one operator acts, the others stand by.

A standby never trusts another machine's clock: it watches the Lease's version, and takes over when that has not moved for the
lease's length by its own clock (the rule of client-go's leaderelection). Writes of the Lease carry the version they were read at.

A leader that was paused and goes on may have been followed, and all that it had in mind is due at once. So it asks its clock
right before each write to the API server or to a well: later than two thirds of the length after it renewed it makes none.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from stepwell_operator.cluster import LEASE, Cluster, ClusterError, Conflict, Document
from stepwell_operator.world import mapping

NAME = "stepwell-operator"


class Leadership:
    """One candidate. `seconds`: how long a silent leader is believed in; it renews thrice in that time."""

    def __init__(
        self, cluster: Cluster, namespace: str, identity: str, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self.identity = identity
        self._seconds = seconds
        self._clock = clock
        self._seen: tuple[str, float] = ("", 0.0)
        self._renewed = 0.0
        self.leads = False
        self._log = structlog.get_logger("stepwell.operator")

    def may_write(self) -> bool:
        """Whether nobody else can lead yet, by this machine's clock alone."""
        return self.leads and self._clock() - self._renewed <= self._seconds * 2 / 3

    async def acquire(self) -> None:
        """Come back once this operator leads."""
        while not await self.attempt():  # noqa: ASYNC110 - the Lease is the event
            await asyncio.sleep(self._seconds / 7.5)

    async def keep(self) -> None:
        """Renew until the lease is lost, then come back: whoever leads must stop at once."""
        while True:
            await asyncio.sleep(self._seconds / 3)
            try:
                if not await asyncio.wait_for(self.attempt(), self._seconds / 3):
                    self._log.error("another operator leads now")
                    break
            except TimeoutError:
                pass
            if not self.may_write():
                self._log.error("the lease could not be renewed in time")
                break
        self.leads = False

    async def attempt(self) -> bool:
        """Take or renew the lease; whether this operator leads. An API server that is away changes nothing."""
        began = self._clock()
        try:
            won = await self._attempt(began)
        except Conflict:
            won = False
        except ClusterError as error:
            self._log.warning("the lease can't be asked for", error=str(error))
            return self.leads
        if won:
            self._renewed = began
        self.leads = won
        return won

    async def release(self) -> None:
        """Hand the lease over: the next candidate takes it at once."""
        if not self.leads:
            return
        self.leads = False
        try:
            lease = await self._cluster.get(LEASE, self._namespace, NAME)
            if lease is not None and lease["spec"].get("holderIdentity") == self.identity:
                lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
                await self._cluster.replace(LEASE, self._namespace, NAME, lease)
        except ClusterError as error:
            self._log.warning("the lease could not be handed over; it runs out by itself", error=str(error))

    async def _attempt(self, now: float) -> bool:
        lease = await self._cluster.get(LEASE, self._namespace, NAME)
        if lease is None:
            metadata = {"name": NAME, "namespace": self._namespace}
            made: Document = {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata, "spec": self._spec({})}
            await self._cluster.create(LEASE, self._namespace, made)
            return True
        spec = mapping(lease.get("spec"))
        version: str = lease["metadata"]["resourceVersion"]
        holder = str(spec.get("holderIdentity") or "")
        if holder and holder != self.identity:
            if version != self._seen[0]:
                self._seen = (version, now)
            if now - self._seen[1] < float(spec.get("leaseDurationSeconds") or self._seconds):
                return False
        lease["spec"] = self._spec(spec)
        await self._cluster.replace(LEASE, self._namespace, NAME, lease)
        return True

    def _spec(self, before: Document) -> Document:
        mine = before.get("holderIdentity") == self.identity
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": max(1, round(self._seconds)),
            "acquireTime": before.get("acquireTime") if mine else _now(),
            "renewTime": _now(),
            "leaseTransitions": int(before.get("leaseTransitions") or 0) + (0 if mine else 1),
        }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
