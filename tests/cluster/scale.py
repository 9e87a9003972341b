"""How the operator bears many functions, measured by hand: `python -m tests.cluster.scale 1000 4000`.

Functions at zero replicas, on a control plane of our own: from nothing, a fresh operator over what is there, edits while the rest
idles. Times depend on the machine; writes and the ratio of two sizes don't.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from cluster.harness.api import Api
from cluster.harness.control_plane import ControlPlane, control_plane
from cluster.operation import DEPLOYMENTS, FUNCTIONS, Installed, OperatorProcess, Place, function
from postgres_server import server

EDITS = 100
QUIET = 10.0
ELECTION = ("leases", "selfsubjectaccessreviews")
ROUNDS = {"STEPWELL_LOOK": "30s", "STEPWELL_CENSUS": "15s", "STEPWELL_DRAIN_CHECK": "5s", "STEPWELL_LEASE": "15s"}


@dataclass
class Figures:
    """Of one size."""

    functions: int
    per_second: float
    cold_cpu: float
    warm_seconds: float
    warm_cpu: float
    warm_rss: float
    warm_writes: int
    edit_p50: float
    edit_p99: float
    idle_cpu: float

    def row(self) -> str:
        """As a row of a table."""
        return (
            f"| {self.functions:,} | {self.per_second:.0f} | {self.cold_cpu * 1000:.1f} | {self.warm_seconds:.1f} | {self.warm_cpu:.1f} "
            f"| {self.warm_rss:.0f} | {self.warm_writes} | {self.edit_p50 * 1000:.0f} | {self.edit_p99 * 1000:.0f} | {self.idle_cpu:.1f} |"
        )


HEADER = (
    "| functions | from nothing, functions/s | CPU ms a function | fresh operator: seconds | its CPU s | RSS MB | writes "
    "| edit to child p50 ms | p99 ms | idle CPU % |\n|---|---|---|---|---|---|---|---|---|---|"
)


@contextmanager
def ground() -> Iterator[tuple[ControlPlane, Api, str]]:
    """A control plane and a Postgres."""
    with server() as postgres, control_plane() as plane, Api(plane.kubeconfig, plane.binaries / "kubectl") as api:
        yield plane, api, postgres.dsn


def measure(count: int) -> Figures:
    """All figures of one size, on a fresh control plane."""
    with ground() as (plane, api, dsn), tempfile.TemporaryDirectory() as folder:
        installed = Installed(api, Path(folder), dsn)
        place = Place(api, api.make_namespace("scale"))
        operator = installed.operator(**ROUNDS)
        operator.start()
        began, cpu = time.monotonic(), busy(operator)
        make(api, place.namespace, count)
        operator.wait_until(lambda: told(operator) >= count, 1800)
        per_second, cold = count / (time.monotonic() - began), (busy(operator) - cpu) / count
        settle(plane, api, place.namespace, count)
        operator.stop()
        mark, began = plane.audit.mark(), time.monotonic()
        operator.start(wait=False)
        operator.wait_until(lambda: told(operator) >= count, 600)
        warm, warm_cpu = time.monotonic() - began, busy(operator)
        time.sleep(QUIET)
        asked = plane.audit.since(mark, user=installed.account)
        writes = sum(one.is_write and one.resource not in ELECTION for one in asked)
        rss = psutil.Process(operator.process.pid).memory_info().rss / 1e6  # type: ignore[union-attr]
        lags = sorted(edit(place, f"f{(number * 37) % count:05}") for number in range(EDITS))
        cpu, began = busy(operator), time.monotonic()
        time.sleep(60)
        idle = (busy(operator) - cpu) / (time.monotonic() - began) * 100
        operator.stop()
        return Figures(count, per_second, cold, warm, warm_cpu, rss, writes, lags[EDITS // 2], lags[int(EDITS * 0.99) - 1], idle)


def make(api: Api, namespace: str, count: int) -> None:
    """Create the functions, eight at a time."""

    def put(number: int) -> None:
        document = function(f"f{number:05}", replicas=0, triggers=[{"event": f"go/{number}"}])
        api.create(FUNCTIONS.format(namespace), document)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(count)))


def told(operator: OperatorProcess) -> float:
    """How many functions it has checked."""
    return operator.metric("stepwell_functions", condition="Ready") or 0


def busy(operator: OperatorProcess) -> float:
    """CPU seconds so far."""
    assert operator.process is not None
    times = psutil.Process(operator.process.pid).cpu_times()
    return times.user + times.system


def settle(plane: ControlPlane, api: Api, namespace: str, count: int) -> None:
    """Wait until Kubernetes' own controllers have looked at every Deployment."""
    deadline = time.monotonic() + 60 + count * 0.2
    while time.monotonic() < deadline:
        found = api.items(f"{DEPLOYMENTS.format(namespace)}?resourceVersion=0")
        if sum("observedGeneration" in one.get("status", {}) for one in found) >= count:
            return
        time.sleep(2)
    print(f"the controllers did not get through: {plane.controller_manager.tail()}", file=sys.stderr)


def edit(place: Place, name: str) -> float:
    """Seconds from an edit to the child that says it."""
    pool = place.read(name)["status"]["revisions"][0]["pool"]
    path = f"{DEPLOYMENTS.format(place.namespace)}/{pool}"
    wanted = 1 - place.api.get(path)["spec"]["replicas"]
    began = time.monotonic()
    place.patch(name, replicas=wanted)
    while place.api.get(path)["spec"]["replicas"] != wanted:
        assert time.monotonic() - began < 60
    return time.monotonic() - began


if __name__ == "__main__":
    print(HEADER, flush=True)
    for size in map(int, sys.argv[1:] or ["1000"]):
        print(measure(size).row(), flush=True)
