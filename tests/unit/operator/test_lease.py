"""Who leads, decided from a Lease and a clock of one's own."""

import copy
from collections.abc import Mapping
from typing import Any

import pytest

from stepwell_operator.cluster import (
    ACCESS_REVIEW,
    DEPLOYMENT,
    EVENT,
    FUNCTION,
    LEASE,
    Cluster,
    ClusterError,
    Conflict,
    Document,
    Kind,
)
from stepwell_operator.lease import Leadership

SECONDS = 15.0


class Server(Cluster):
    """One Lease, with versions; `away`: it doesn't answer; `races`: somebody else writes between a read and a write."""

    def __init__(self) -> None:
        self.lease: Document | None = None
        self.version = 0
        self.away = False
        self.races = False

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Document | None:
        del kind, namespace, name
        self._answer()
        return copy.deepcopy(self.lease)

    async def create(self, kind: Kind, namespace: str | None, document: Document) -> Document:
        del kind, namespace
        self._answer()
        if self.lease is not None or self.races:
            raise Conflict("it is there already", 409)
        return self._write(document)

    async def replace(self, kind: Kind, namespace: str, name: str, document: Document) -> Document:
        del kind, namespace, name
        self._answer()
        if (
            self.races
            or self.lease is None
            or document["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]
        ):
            raise Conflict("it changed", 409)
        return self._write(document)

    def _answer(self) -> None:
        if self.away:
            raise ClusterError("the API server can't be reached")

    def _write(self, document: Document) -> Document:
        self.version += 1
        self.lease = copy.deepcopy(document)
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        return self.lease

    @property
    def spec(self) -> dict[str, Any]:
        assert self.lease is not None
        return self.lease["spec"]


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def candidate(server: Server, clock: Clock, name: str) -> Leadership:
    return Leadership(server, "sys", name, SECONDS, clock)


async def test_the_first_to_come_leads(server: Server, clock: Clock) -> None:
    """Where there is no Lease the first candidate makes it; another stands by while it is renewed."""
    one, two = candidate(server, clock, "one"), candidate(server, clock, "two")
    assert await one.attempt()
    for _ in range(10):
        clock.now += SECONDS / 2
        assert await one.attempt()
        assert not await two.attempt()
    assert server.spec["leaseTransitions"] == 1


async def test_a_silent_leader_is_followed_after_the_leases_length(server: Server, clock: Clock) -> None:
    """A standby takes over once it has seen the Lease unchanged for its whole length by its own clock, and not before."""
    one, two = candidate(server, clock, "one"), candidate(server, clock, "two")
    assert await one.attempt()
    clock.now += 1000  # however long ago the other's clock says: what counts is what was seen
    assert not await two.attempt()
    clock.now += SECONDS - 0.1
    assert not await two.attempt()
    clock.now += 0.2
    assert await two.attempt()
    assert server.spec["holderIdentity"] == "two"
    assert server.spec["leaseTransitions"] == 2
    assert not await one.attempt()
    assert not one.leads


async def test_a_lease_that_was_handed_over_is_taken_at_once(server: Server, clock: Clock) -> None:
    """Letting go leaves no holder, and the next candidate doesn't wait."""
    one, two = candidate(server, clock, "one"), candidate(server, clock, "two")
    await one.attempt()
    assert not await two.attempt()
    await one.release()
    assert await two.attempt()
    await one.release()
    assert server.spec["holderIdentity"] == "two"


async def test_two_at_once_are_told_apart_by_the_version(server: Server, clock: Clock) -> None:
    """Of two candidates that write at the same time one is refused, and doesn't lead."""
    one = candidate(server, clock, "one")
    server.races = True
    assert not await one.attempt()
    server.races = False
    assert await one.attempt()
    server.races = True
    assert not await one.attempt()
    assert not one.leads


async def test_a_server_that_is_away_changes_nothing(server: Server, clock: Clock) -> None:
    """While the API server doesn't answer a leader goes on until its own clock stops it, and a standby stands by."""
    one, two = candidate(server, clock, "one"), candidate(server, clock, "two")
    await one.attempt()
    server.away = True
    assert await one.attempt()
    assert not await two.attempt()
    await one.release()


async def test_a_leader_that_cannot_renew_stops_before_another_may_start(
    server: Server, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`keep` comes back when two thirds of the length have passed without a renewal: sooner than a standby takes over."""
    one = candidate(server, clock, "one")
    await one.attempt()
    began = clock.now
    server.away = True

    async def pass_time(seconds: float) -> None:
        clock.now += seconds

    monkeypatch.setattr("stepwell_operator.lease.asyncio.sleep", pass_time)
    await one.keep()
    assert not one.leads
    assert clock.now - began <= SECONDS


async def test_a_leader_that_lost_its_lease_stops(server: Server, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """`keep` comes back as soon as another holds the Lease."""
    one = candidate(server, clock, "one")
    await one.attempt()
    server.spec["holderIdentity"] = "two"
    server.version += 1
    server.lease["metadata"]["resourceVersion"] = str(server.version)  # type: ignore[index]

    async def pass_time(seconds: float) -> None:
        clock.now += seconds

    monkeypatch.setattr("stepwell_operator.lease.asyncio.sleep", pass_time)
    await one.keep()
    assert not one.leads


class Wire(Cluster):
    """A client whose calls go nowhere; `sent` are their methods and paths."""

    def __init__(self) -> None:
        super().__init__(None)  # type: ignore[arg-type]
        self.sent: list[tuple[str, str]] = []

    async def _send(
        self, method: str, path: str, body: Document | None, query: Mapping[str, str], content: str, accept: str
    ) -> tuple[int, Document]:
        del body, query, content, accept
        self.sent.append((method, path))
        return 200, {}


async def test_a_leader_that_was_paused_writes_nothing_before_it_knows(server: Server, clock: Clock) -> None:
    """What was due while it was stopped is refused without a question to anybody, and goes on once the lease turns out to be its own."""
    leader, wire = candidate(server, clock, "one"), Wire()
    wire.may_write = leader.may_write
    document = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "shop", "name": "a"}}
    with pytest.raises(ClusterError, match="lease"):
        await wire.apply(document)
    assert await leader.attempt()
    clock.now += SECONDS * 2 / 3
    await wire.apply(document)
    clock.now += 0.1
    del wire.sent[:]
    for write in (
        wire.apply(document),
        wire.merge(FUNCTION, "shop", "a", {}, "status"),
        wire.create(EVENT, "shop", {}),
        wire.replace(DEPLOYMENT, "shop", "a", document),
        wire.delete(DEPLOYMENT, "shop", "a"),
    ):
        with pytest.raises(ClusterError, match="lease"):
            await write
    assert not wire.sent
    await wire.get(FUNCTION, "shop", "a")
    await wire.replace(LEASE, "sys", "a", {})
    await wire.create(ACCESS_REVIEW, None, {})
    assert len(wire.sent) == 3
    assert await leader.attempt()
    await wire.apply(document)
