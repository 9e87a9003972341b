"""The API server is away, forgets, refuses, dawdles or falls silent: the operator ends where it should, and hammers nobody.

STEPWELL_LONG=1 lets it be away for sixty seconds instead of twenty.
"""

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Self

import pytest
from cluster.harness.api import Api
from cluster.harness.control_plane import ControlPlane
from cluster.harness.faults import FOR_EVER, Seen, Which, everything, watches, writes
from cluster.harness.proxy import FaultProxy
from cluster.operation import (
    CODE,
    PATIENCE,
    Installed,
    Kubelet,
    OperatorProcess,
    Place,
    condition,
    eventually,
    function,
    says,
    waiting,
)

from stepwell.store.postgres import PostgresStore
from stepwell.store.registry import Registry

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]
OTHER = "async def main(ctx):\n    return 2\n"
AWAY = 60.0 if os.environ.get("STEPWELL_LONG") == "1" else 20.0
SURVIVES = {"STEPWELL_LEASE": "120s"}
BURST, A_SECOND = 60, 20
"""A fault may cost so many calls, and so many more for each second that it lasts."""


def also(*values: object) -> Any:
    """A variant that a longer run has time for."""
    return pytest.param(*values, marks=pytest.mark.long)


@pytest.fixture
def proxy(control_plane: ControlPlane) -> Iterator[FaultProxy]:
    with FaultProxy(control_plane) as made:
        yield made


@pytest.fixture
def place(control_plane: ControlPlane, namespace: str) -> Iterator[Place]:
    with control_plane.api as api, Kubelet(api):
        until_none_is_going(api)
        yield Place(api, namespace)


def until_none_is_going(api: Api, seconds: float = 60) -> None:
    """Wait for namespaces of other tests: one that is going while the API server dies may be gone before its functions are.

    Kubernetes forgets a namespace's custom resources where their kinds aren't served yet when it looks; the operator would be busy
    with them for the rest of the session.
    """
    deadline = time.monotonic() + seconds
    while any(one["metadata"].get("deletionTimestamp") for one in api.items("/api/v1/namespaces")):
        if time.monotonic() > deadline:
            return
        time.sleep(0.1)


class Restarts:
    """Starts the operator again whenever it ends, as a kubelet would; `codes` are the exit codes."""

    def __init__(self, operator: OperatorProcess) -> None:
        self._operator = operator
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.codes: list[int] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(60)

    def _run(self) -> None:
        while not self._over.wait(0.2):
            process = self._operator.process
            if process is not None and process.poll() is not None:
                self.codes.append(process.returncode)
                self._operator.start(wait=False)


@contextlib.contextmanager
def calm(proxy: FaultProxy, burst: float = BURST, a_second: float = A_SECOND) -> Iterator[None]:
    """What happens in here costs few calls, beside its fifty questions about its rights, which come some time after a start."""
    before, began = len(proxy.seen()), time.monotonic()
    yield
    seconds = time.monotonic() - began
    seen = [one for one in proxy.seen()[before:] if not one.path.endswith("/selfsubjectaccessreviews")]
    asked = [f"{one.method} {one.path} {one.code}" for one in seen]
    assert len(asked) <= burst + a_second * seconds, f"{len(asked)} calls in {seconds:.0f} s: {_most(asked)}"


def _most(asked: list[str]) -> list[tuple[int, str]]:
    return sorted(((asked.count(one), one) for one in set(asked)), reverse=True)[:10]


def hold_for(seconds: float, true: Callable[[], object] = lambda: True) -> None:
    """Wait so long; something stays true all the time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert true()
        time.sleep(0.1)


def healthy(operator: OperatorProcess) -> bool:
    return operator.ask("/healthz").status_code == 200


def registry(place: Place) -> Registry:
    async def ask(store: PostgresStore) -> Registry:
        return await store.registry()

    return place.store(ask)


def edited(place: Place, name: str = "one") -> None:
    """Other code, twice the pods: applied, and the old revision gone."""
    before = place.read(name)["status"]["currentRevision"]
    place.apply(function(name, OTHER, replicas=2))
    converged(place, name, before)


def converged(place: Place, name: str, before: str) -> None:
    place.until(name, lambda one: one.get("status", {}).get("currentRevision") not in {None, before})
    place.ready(name)
    place.until(name, lambda one: one["status"].get("readyReplicas") == 2 and len(one["status"]["revisions"]) == 1)


@pytest.mark.parametrize("how", ["kill", also("stop")])
def test_a_server_that_was_away(
    control_plane: ControlPlane, installed: Installed, proxy: FaultProxy, place: Place, how: str
) -> None:
    """Gone for longer than the lease, by SIGKILL or SIGTERM: the leader ends itself, the next tells the truth and applies what is new."""
    with installed.operator(proxy.server) as operator, Restarts(operator) as restarts:
        place.apply(function("one", functionId="uno"))
        before = place.ready("one")["status"]["currentRevision"]
        with calm(proxy):
            getattr(control_plane.apiserver, how)()
            try:
                hold_for(AWAY)
            finally:
                control_plane.recover()
        assert set(restarts.codes) == {3}
        place.apply(function("one", OTHER, functionId="uno", replicas=2))
        converged(place, "one", before)
        place.start_run("uno")
        place.until("one", lambda one: one["status"]["runs"]["active"] == 1)


def test_a_server_that_was_away_for_less_than_the_lease(
    control_plane: ControlPlane, installed: Installed, proxy: FaultProxy, place: Place
) -> None:
    """The same process goes on: healthy while it waits, its watches back by themselves, with what is new and what ran meanwhile."""
    with installed.operator(proxy.server, STEPWELL_DEAF_AFTER="3s", **SURVIVES) as operator:
        place.apply(function("one"))
        place.ready("one")
        with calm(proxy):
            control_plane.apiserver.kill()
            try:
                hold_for(AWAY, lambda: healthy(operator))
            finally:
                control_plane.recover()
        edited(place)
        assert operator.process is not None
        assert operator.process.poll() is None
        operator.wait_until(lambda: healthy(operator))


def test_what_went_unseen_and_is_forgotten(
    control_plane: ControlPlane, installed: Installed, proxy: FaultProxy, place: Place
) -> None:
    """Functions and children deleted, and one made again, while nobody heard and history was compacted (410): nothing stale stays."""
    with installed.operator(proxy.server, **SURVIVES) as operator:
        for name in ("kept", "gone", "again"):
            place.apply(function(name, CODE.replace("1", str(len(name)))))
        before = {name: place.ready(name)["status"]["currentRevision"] for name in ("kept", "gone", "again")}
        run_id = place.start_run("gone")
        with calm(proxy):
            proxy.answer(503, Which(everything, times=FOR_EVER))
            proxy.cut_connections()
            deleted_meanwhile(place)
            place.apply(function("again", OTHER, replicas=2))
            control_plane.compact()
            control_plane.apiserver.kill()
            control_plane.recover()
            mark = len(proxy.seen())
            proxy.clear()
            converged(place, "again", before["again"])
        # The garbage collector hears of deletions before the operator does: it takes out owners that the operator still believes in.
        for shared in ("secrets/stepwell-store", "secrets/stepwell-gateway", "services/stepwell-gateway"):
            path = core(place, shared)
            assert len([one for one in proxy.seen()[mark:] if writes(one) and one.path == path]) <= 3
        place.ready("kept")
        eventually(lambda: {name.rpartition("-")[0] for name in place.runners()} == {"kept", "again"})
        assert len(place.runners()) == 2
        eventually(lambda: {row.function_id for row in registry(place).functions if row.active} == {"kept", "again"})
        assert state_of(place, run_id) == "cancelled"
        there = {"condition": "Ready", "status": "True"}
        operator.wait_until(lambda: operator.metric("stepwell_functions", **there) == 2)
        operator.wait_until(lambda: relisted(proxy.seen()[mark:]))


def test_owners_that_went_unheard(control_plane: ControlPlane, installed: Installed, proxy: FaultProxy, place: Place) -> None:
    """Before it makes again what Kubernetes takes from functions that were deleted unheard, the operator asks whose it is to be."""
    with installed.operator(proxy.server, STEPWELL_CENSUS="600s", **SURVIVES):
        for name in ("gone", "again"):
            place.apply(function(name, CODE.replace("1", str(len(name)))))
        before = {name: place.ready(name)["status"]["currentRevision"] for name in ("gone", "again")}
        proxy.freeze(lambda seen: watches(seen) and seen.path.endswith("/durablefunctions"))
        mark = len(proxy.seen())
        control_plane.controller_manager.kill()  # the garbage collector would be as quick, now and then
        try:
            for name in ("gone", "again"):
                place.delete(name)
                place.api.wait_gone(place.path(name))
            place.apply(function("again", OTHER, replicas=2))
        finally:
            control_plane.recover()
        with calm(proxy):
            converged(place, "again", before["again"])
            eventually(lambda: {name.rpartition("-")[0] for name in place.runners()} == {"again"})
            eventually(lambda: {row.function_id for row in registry(place).functions if row.active} == {"again"})
        made = Counter(one.path for one in proxy.seen()[mark:] if writes(one) and "/durablefunctions/" not in one.path)
        assert max(made.values()) <= 4, made.most_common(5)


def deleted_meanwhile(place: Place) -> None:
    """One function and its children, another's children, and a third function."""
    for name in ("gone", "again"):
        place.delete(name)
        place.api.wait_gone(place.path(name))
    eventually(lambda: {name.rpartition("-")[0] for name in place.runners()} == {"kept"})
    [kept] = place.runners()
    for path in (f"/apis/apps/v1/namespaces/{place.namespace}/deployments/{kept}", core(place, f"configmaps/{kept}-code")):
        place.api.delete(path)
        place.api.wait_gone(path)


def core(place: Place, path: str) -> str:
    return f"/api/v1/namespaces/{place.namespace}/{path}"


def state_of(place: Place, run_id: str) -> str:
    async def ask(store: PostgresStore) -> str:
        row = await store.run(run_id)
        assert row is not None
        return row.status.value

    return place.store(ask)


def relisted(seen: list[Seen]) -> bool:
    """Whether the watch of functions began anew with a list, as it does after 410."""
    return any(one.path.endswith("/durablefunctions") and "kopf" in one.agent.lower() and not watches(one) for one in seen)


class FirstTry:
    """Picks the first request of each kind: what is tried again goes through. `tries` counts them."""

    def __init__(self, when: Callable[[Seen], bool]) -> None:
        self._when = when
        self.tries: Counter[tuple[str, str]] = Counter()

    def __call__(self, seen: Seen) -> bool:
        if not self._when(seen):
            return False
        self.tries[seen.method, seen.path] += 1
        return self.tries[seen.method, seen.path] == 1


@pytest.mark.parametrize("code", [409, also(429), also(503)])
def test_every_write_is_refused_once(installed: Installed, proxy: FaultProxy, place: Place, code: int) -> None:
    """Whichever write is refused at first, with whichever code, is made the next time."""
    here = f"/namespaces/{place.namespace}/"
    first = FirstTry(lambda seen: writes(seen) and here in seen.path)
    with installed.operator(proxy.server, **SURVIVES), calm(proxy):
        proxy.answer(code, Which(first, times=FOR_EVER), retry_after=1 if code == 429 else None)
        place.apply(function("one"))
        place.ready("one")
        edited(place)
    assert len([path for (_, path), times in first.tries.items() if times > 1 and "/events" not in path]) > 8


@pytest.mark.parametrize("code", [500, also(429)])
def test_every_read_is_refused_once(installed: Installed, proxy: FaultProxy, place: Place, code: int) -> None:
    """Whichever read is refused at first, lists, watches and the lease's too, the operator leads, hears and converges."""
    first = FirstTry(lambda seen: seen.method == "GET")
    proxy.answer(code, Which(first, times=FOR_EVER), retry_after=1 if code == 429 else None)
    with calm(proxy), installed.operator(proxy.server, **SURVIVES):
        place.apply(function("one"))
        place.ready("one")
        edited(place)
    assert len([times for times in first.tries.values() if times > 1]) > 10


@pytest.mark.parametrize(("code", "retry_after", "most"), [(409, None, 30), also(500, None, 30), (429, 4, 10)])
def test_refused_writes_make_no_hot_loop(
    installed: Installed, proxy: FaultProxy, place: Place, code: int, retry_after: int | None, most: int
) -> None:
    """Every write is refused: tried again with growing pauses, or when `Retry-After` says so, and it goes through when that has ended."""
    here = f"/namespaces/{place.namespace}/"
    with installed.operator(proxy.server, **SURVIVES):
        proxy.answer(code, Which(lambda seen: writes(seen) and here in seen.path, times=FOR_EVER), retry_after)
        with calm(proxy):
            place.apply(function("one"))
            hold_for(10)
        assert 2 <= len(proxy.seen(lambda seen: writes(seen) and here in seen.path)) <= most
        proxy.clear()
        place.ready("one")


def test_refused_reads_make_no_hot_loop(installed: Installed, proxy: FaultProxy, place: Place) -> None:
    """While every call fails for longer than kopf would try, the process stays, calls little, and goes on where it was."""
    with installed.operator(proxy.server, **SURVIVES) as operator:
        place.apply(function("one"))
        place.ready("one")
        proxy.answer(500, Which(everything, times=FOR_EVER))
        proxy.cut_connections()
        with calm(proxy):
            hold_for(AWAY, lambda: healthy(operator))
        proxy.clear()
        edited(place)


def test_a_slow_server(installed: Installed, proxy: FaultProxy, place: Place) -> None:
    """Two seconds for every call: slower, but there."""
    with installed.operator(proxy.server, **SURVIVES), calm(proxy):
        proxy.delay(2.0, Which(everything, times=FOR_EVER))
        place.apply(function("one"))
        place.ready("one")


def test_frozen_watches(installed: Installed, proxy: FaultProxy, place: Place) -> None:
    """Watches that say nothing more: everything is done all the same, `/healthz` names the deaf, and all is well when they speak again."""
    with installed.operator(proxy.server, STEPWELL_DEAF_AFTER="5s", **SURVIVES) as operator, calm(proxy):
        place.apply(function("one"))
        place.ready("one")
        proxy.freeze(watches)
        place.apply(function("two"))
        place.patch("one", suspend=True)
        [child] = [name for name in place.runners() if name.startswith("one-")]
        place.api.delete(f"/apis/apps/v1/namespaces/{place.namespace}/deployments/{child}")
        eventually(lambda: child in place.runners())
        place.ready("two")
        place.until("one", says("Suspended", "True"))
        eventually(lambda: not healthy(operator))
        assert "durablefunctions" in operator.ask("/healthz").text
        proxy.thaw()
        operator.wait_until(lambda: healthy(operator))
        place.patch("one", suspend=None)
        place.ready("one")


def test_a_pod_that_went_unheard(api: Api, installed: Installed, proxy: FaultProxy, namespace: str) -> None:
    """What was wrong with a pod ends with the pod although the watch of pods doesn't tell, and `/healthz` names that watch."""
    place = Place(api, namespace)
    with installed.operator(proxy.server, STEPWELL_DEAF_AFTER="5s", **SURVIVES) as operator, Kubelet(api) as kubelet:
        kubelet.idle = True
        place.apply(function("one"))
        [pool] = eventually(place.runners)
        kubelet.broken[namespace, pool] = waiting("CrashLoopBackOff", "x", ended={"exitCode": 1, "reason": "Error"})
        kubelet.idle = False
        place.until("one", says("RunnersAvailable", "False", "CrashLooping"))
        proxy.freeze(lambda seen: watches(seen) and seen.path.endswith("/pods"))
        del kubelet.broken[namespace, pool]
        [pod] = api.items(f"/api/v1/namespaces/{namespace}/pods?labelSelector=stepwell.dev%2Fpool-id%3D{pool}")
        api.delete(f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}")
        place.ready("one")
        operator.wait_until(lambda: not healthy(operator))
        assert "pods" in operator.ask("/healthz").text
        proxy.thaw()
        operator.wait_until(lambda: healthy(operator), 20)


def test_a_silent_server(installed: Installed, proxy: FaultProxy, place: Place) -> None:
    """Connections that stay open and say nothing: the leader ends itself before its lease does, and the next applies what is new."""
    with installed.operator(proxy.server) as operator:
        place.apply(function("one"))
        place.ready("one")
        assert operator.process is not None
        proxy.freeze()
        began = time.monotonic()
        assert operator.process.wait(PATIENCE) == 3
        assert time.monotonic() - began < 6 + 1 + 2  # of which two are for the process to end
        operator.start(wait=False)
        eventually(lambda: _answers(operator))
        hold_for(5, lambda: healthy(operator))
        proxy.thaw()
        edited(place)
        assert condition(place.read("one"), "Ready")["status"] == "True"


def _answers(operator: OperatorProcess) -> bool:
    return operator.metric("stepwell_operator_leader") is not None
