"""Runs go on whatever dies: runners, a revision, the operator, the API server."""

import time
from collections import Counter
from collections.abc import Iterator

import pytest
from cluster.harness.node import NodeCluster
from cluster.harness.node_postgres import NodePostgres
from cluster.node.release import Release, Town, until
from cluster.node.witness import Witness, check, runs_of, witnessed
from cluster.operation import eventually, function

pytestmark = [pytest.mark.cluster, pytest.mark.node, pytest.mark.timeout(400)]
NAP = """
from stepwell import Context

async def main(ctx: Context) -> str:
    await ctx.step.sleep("nap", "3s")
    return await ctx.step.run("say", lambda: "awake")
"""


@pytest.fixture
def restored(node_cluster: NodeCluster, release: Release) -> Iterator[None]:
    """However the test ends, the API server and the operator are there afterwards."""
    yield
    node_cluster.plane.recover()
    release.scale(2)


async def test_a_hundred_runs_under_faults(
    town: Town, node_cluster: NodeCluster, node_postgres: NodePostgres, release: Release, restored: None
) -> None:
    """100 runs complete and no recorded step runs again, while runners are killed, the code changes, and operator and API server go."""
    witness = Witness(node_postgres.dsn_here)
    await witness.prepare()
    town.apply(witnessed("steady", 1, node_postgres.dsn))
    old = town.ready("steady", 60)["status"]
    key = town.learn()

    send(town, key, range(50), rest=20)
    await until(lambda: witness.has_begun("second", 15), 60)
    for container in town.containers():
        town.kill(container)
    town.apply(witnessed("steady", 2, node_postgres.dsn))
    new = town.until("steady", lambda one: one["status"]["currentRevision"] != old["currentRevision"], 60)["status"]
    send(town, key, range(50, 75), rest=5)

    release.scale(0)
    send(town, key, range(75, 85), rest=5)
    await until(lambda: witness.has_begun("second", 60), 60)
    containers = town.containers()
    assert len(containers) == 2, "a runner of each revision"
    node_cluster.plane.apiserver.stop()
    send(town, key, range(85, 100), rest=1)
    for container in containers:
        town.kill(container)
    await until(lambda: ended(town, 100), 150)

    versions = await check(town, witness, "steady")
    assert Counter(versions.values()) == {1: 50, 2: 50}
    revisions = {run.run_id: run.revision for run in await runs_of(town, "steady")}
    expected = {1: old["currentRevision"], 2: new["currentRevision"]}
    assert revisions == {run_id: expected[version] for run_id, version in versions.items()}

    node_cluster.plane.recover()
    release.scale(2)
    done = town.until("steady", lambda one: not one["status"]["draining"] and one["status"]["runs"]["active"] == 0, 90)["status"]
    assert [one["id"] for one in done["revisions"]] == [new["currentRevision"]]
    assert done["runs"] == {"active": 0, "queued": 0, "due": 0}
    eventually(lambda: list(town.runners()) == [done["revisions"][0]["pool"]], 30)
    # The killed container may still wait for its next start.
    town.ready("steady", 90)
    assert town.row("steady")[1:3] == ["True", "Available"]
    assert town.row("steady")[5:8] == ["0", "0", "False"]


def send(town: Town, key: str, numbers: range, rest: int) -> None:
    """Send an event for each number; each starts a run."""
    town.send(key, *({"name": "go", "data": {"n": number, "rest": rest}} for number in numbers))


async def ended(town: Town, count: int) -> bool:
    """Whether so many runs have ended."""
    return sum(run.status.is_final for run in await runs_of(town, "steady")) >= count


def test_runs_off_the_control_plane(town: Town, node_cluster: NodeCluster, release: Release, restored: None) -> None:
    """Without operator and API server the gateway takes events, runs and their timers finish, and a cron fires."""
    town.apply(function("alone", NAP, triggers=[{"event": "go"}, {"cron": "* * * * *"}]))
    town.ready("alone", 60)
    key = town.learn()
    release.scale(0)
    node_cluster.plane.apiserver.stop()

    stopped = time.time()
    [event] = town.send(key, {"name": "go"})
    run = town.run_of(event)
    assert (run["status"], run["output"]) == ("COMPLETED", "awake")
    fired = eventually(lambda: ticks(town, stopped), 75)
    assert not node_cluster.plane.apiserver.alive

    node_cluster.plane.recover()
    release.scale(2)
    due = max(fired)
    said = town.until("alone", lambda one: one["status"]["schedules"][0].get("lastScheduleTime", "") >= due[:16], 60)
    assert said["status"]["nextScheduleTime"] > due


def ticks(town: Town, since: float) -> list[str]:
    """When the ticks since then were due, whose runs have completed."""
    start = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(since))
    runs = [town.ask(f"/v1/runs/{one['run_id']}") for one in town.ask("/v1/runs?function=alone")]
    crons = [run["created_at"] for run in runs if run["trigger"] == "CRON" and run["status"] == "COMPLETED"]
    return [one for one in crons if one >= start]
