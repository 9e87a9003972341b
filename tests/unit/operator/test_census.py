"""What watches tell late, twice or not at all, and what the census makes of it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from unit.operator.server import Clock, Server

from stepwell_operator.census import Census
from stepwell_operator.cluster import DEPLOYMENT, FUNCTION, POD, STORE, Document
from stepwell_operator.handlers import hear_object, hear_pod
from stepwell_operator.metrics import OperatorMetrics
from stepwell_operator.names import POOL_ID
from stepwell_operator.pods import PATIENCE
from stepwell_operator.reconcile import Reconciler
from stepwell_operator.settings import Settings

KEY = ("shop", "one")


def document(version: int, uid: str = "uid-1", **more: Any) -> Document:
    """A function, a store or a Deployment, as a watch or an answer has it."""
    metadata = {"namespace": KEY[0], "name": KEY[1], "uid": uid, "resourceVersion": str(version), **more}
    return {"kind": "Deployment", "metadata": metadata, "spec": {}}


def event(what: str | None, version: int, uid: str = "uid-1", **more: Any) -> dict[str, Any]:
    return {"type": what, "object": document(version, uid, **more)}


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def census(server: Server, clock: Clock) -> Census:
    reconciler = Reconciler(server, Settings("sys", "pod"), OperatorMetrics(), clock)
    return Census(server, reconciler, clock=clock)


async def test_late_news_of_what_was_there_before_changes_nothing(census: Census) -> None:
    """kopf hears of an object and of its successor side by side: the elder's last words neither replace the younger nor remove it."""
    functions = census.reconciler.world.functions
    hear_object(census, FUNCTION, event("ADDED", 100, "new"))
    for late in (event("MODIFIED", 50, "old"), event("DELETED", 60, "old")):
        hear_object(census, FUNCTION, late)
        assert functions[KEY].uid == "new"
    assert not census.reconciler.world.gone


async def test_the_end_of_a_successor_is_the_end_of_the_one_before(census: Census) -> None:
    """That an object went says too that nothing older by its name is there."""
    hear_object(census, FUNCTION, event("ADDED", 50, "old"))
    hear_object(census, FUNCTION, event("DELETED", 110, "new"))
    assert not census.reconciler.world.functions


@pytest.mark.parametrize("known", [True, False])
async def test_an_answer_from_before_a_deletion_brings_nothing_back(census: Census, *, known: bool) -> None:
    """What a write of ours was answered, handled only after the deletion was heard, is no object that is there."""
    world = census.reconciler.world
    if known:
        hear_object(census, FUNCTION, event("ADDED", 100))
    hear_object(census, FUNCTION, event("DELETED", 102))
    assert not world.see(document(101), world.functions)
    assert not world.functions
    assert world.see(document(103, "new"), world.functions)


async def test_a_deleted_store_says_nothing_of_a_function_by_its_name(census: Census) -> None:
    """Deletions are remembered by kind: the doubt about a function doesn't end with a store, nor is its news old then."""
    world = census.reconciler.world
    hear_object(census, STORE, event("ADDED", 100))
    hear_object(census, STORE, event("DELETED", 102))
    assert KEY not in world.gone
    assert world.see(document(50), world.functions)


async def test_children_are_not_replaced_by_older_ones_either(census: Census) -> None:
    """Neither by what was there before under that name, nor by an answer from before the deletion."""
    world, labels = census.reconciler.world, {POOL_ID: "one"}
    hear_object(census, DEPLOYMENT, event("ADDED", 100, "new", labels=labels))
    for late in (event("MODIFIED", 50, "old", labels=labels), event("DELETED", 60, "old", labels=labels)):
        hear_object(census, DEPLOYMENT, late)
        child = world.deployment(*KEY)
        assert child is not None
        assert child.uid == "new"
    hear_object(census, DEPLOYMENT, event("DELETED", 102, "new", labels=labels))
    assert world.see_child(document(101, "new")) is None
    assert world.deployment(*KEY) is None
    assert world.see_child(document(103, "newer")) is not None


CRASHING = {"containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}
POOL = ("shop", "one-1234")


def pod(version: int, name: str = "one-1234-a", status: Document | None = None) -> Document:
    metadata = {"namespace": "shop", "name": name, "uid": name, "resourceVersion": str(version), "labels": {POOL_ID: POOL[1]}}
    return {"metadata": metadata, "status": status or {}}


def told(census: Census, document: Document, what: str | None = "MODIFIED") -> None:
    hear_pod(census, {"type": what, "object": document})


async def test_trouble_goes_with_its_pod_though_nobody_heard_it_go(census: Census, server: Server) -> None:
    """A census forgets what was wrong with pods that aren't there, and of no other; the pool's functions are looked at."""
    for name in ("one-1234-a", "one-1234-b"):
        told(census, pod(7, name, CRASHING))
    server.put(POD, pod(7, "one-1234-b", CRASHING))
    looked: list[tuple[str, str]] = []
    census.reconciler.pool = lambda namespace, pool, after=0.0: looked.append((namespace, pool))  # type: ignore[method-assign]
    await census.compare()
    assert set(census.reconciler.world.troubles[POOL]) == {"one-1234-b"}
    assert looked == [POOL]
    del server.there["Pod", "shop", "one-1234-b"]
    await census.compare()
    assert census.reconciler.world.trouble(*POOL) is None
    assert not census.reconciler.world.troubles


async def test_trouble_that_was_told_while_pods_were_listed_stays(census: Census, server: Server) -> None:
    """A pod that came, or was told of anew, after the census began to ask isn't taken for gone."""
    told(census, pod(7, status=CRASHING))

    async def telling() -> AsyncIterator[Document]:
        told(census, pod(8, status={"containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull"}}}]}))
        told(census, pod(9, "one-1234-b", CRASHING))
        for _ in ():
            yield {}

    assert await census.pods.compare(telling(), 0.0) == set()
    assert set(census.reconciler.world.troubles[POOL]) == {"one-1234-a", "one-1234-b"}


async def test_a_silent_watch_of_pods_is_deaf(census: Census, server: Server, clock: Clock) -> None:
    """Where the API server has a newer pod than the watch has told of for ten seconds, it counts as deaf, until it has told."""
    deaf_after = census.reconciler.settings.deaf_seconds
    told(census, pod(7), None)
    server.put(POD, pod(7))
    await census.compare()
    server.put(POD, pod(8))
    await census.compare()
    for seconds in (PATIENCE, deaf_after / 2, deaf_after / 2 + 1):
        assert census.deaf() == []
        clock.now += seconds
        await census.compare()
    assert census.deaf() == ["pods"]
    told(census, pod(8))
    assert census.deaf() == []


async def test_a_watch_of_pods_has_nothing_to_tell_of_those_that_are_gone(census: Census, server: Server, clock: Clock) -> None:
    """Nor of a pod that came and went in a gap, and of none where there is none: that is quiet, not deaf."""
    told(census, pod(7), None)
    server.put(POD, pod(8))
    await census.compare()
    del server.there["Pod", "shop", "one-1234-a"]
    for _ in range(3):
        clock.now += 100
        await census.compare()
    assert census.deaf() == []


async def test_nothing_is_behind_of_what_is_gone(census: Census, server: Server, clock: Clock) -> None:
    """A change that was not told of an object that is gone is nothing that a watch still owes: it is heard again at its next word."""
    hear_object(census, FUNCTION, event("ADDED", 100))
    server.put(FUNCTION, document(101))
    await census.compare()
    hear_object(census, FUNCTION, event("DELETED", 102))
    server.there.clear()
    await census.compare()
    clock.now += 60
    hear_object(census, FUNCTION, event("ADDED", 103, "new"))
    assert census.ages()["durablefunctions"] == 0
