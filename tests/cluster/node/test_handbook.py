"""docs/how-to/operate.md, followed from start to end: every command of the page, in the order in which somebody needs them."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from cluster.harness.api import Api
from cluster.harness.control_plane import NODE
from cluster.harness.node import NodeCluster
from cluster.harness.node_postgres import NodePostgres
from cluster.harness.node_postgres import node_postgres as run_node_postgres
from cluster.node.handbook import Handbook, Shell
from cluster.node.release import REGISTRY, Release, Town, until
from cluster.node.witness import Witness, check, runs_of, witnessed
from cluster.operation import DEPLOYMENTS, eventually, says
from cluster.toolchain.build import TOOLS, CannotBuild, build
from postgres_server import bin_directory

pytestmark = [pytest.mark.cluster, pytest.mark.node, pytest.mark.timeout(1500)]
SHOP = "shop"
OURS = "labelSelector=app.kubernetes.io%2Fmanaged-by%3Dstepwell-operator"
NAME = "steady"


@pytest.fixture
def node_postgres(node_cluster: NodeCluster) -> Iterator[NodePostgres]:
    """A Postgres of its own, in the place of the session's: all that is in it gets lost."""
    with run_node_postgres(node_cluster) as made:
        yield made


@pytest.fixture
def shell(
    node_cluster: NodeCluster, administrator: Api, images: None, node_postgres: NodePostgres, tmp_path: Path
) -> Iterator[Shell]:
    """A machine of somebody's, with the programs that the page asks for, and what he puts in the place of its names."""
    del images
    try:
        helm = build(TOOLS) / "helm"
    except CannotBuild as reason:
        pytest.skip(f"no Helm: {reason}")
    for name in ("stepwell-operator", "stepwell-runner"):
        node_cluster.ctr("images", "tag", f"{REGISTRY}/{name}:0.1.0", f"{REGISTRY}/{name}:0.1.1")
    programs = tmp_path / "bin"
    programs.mkdir()
    for program in (helm, node_cluster.plane.binaries / "kubectl"):
        (programs / program.name).symlink_to(program)
    home = tmp_path / "home"
    home.mkdir()
    names = {
        "registry.example/team": REGISTRY,
        "worker-1": NODE,
        # A drain of the only node leaves nowhere to go; runners may wait for it to come back.
        "--ignore-daemonsets": "--ignore-daemonsets --pod-selector=app.kubernetes.io/component=runner",
        **place_of(node_postgres),
    }
    yield Shell(node_cluster, home, [programs, bin_directory()], names)
    Release(node_cluster, administrator, helm, home).remove()
    administrator.delete(f"/api/v1/namespaces/{SHOP}")


async def test_a_stranger_follows_the_handbook(
    shell: Shell, node_cluster: NodeCluster, administrator: Api, node_postgres: NodePostgres
) -> None:
    """Whoever does what the page says, in its order, loses no run that was backed up, and no recorded step runs again."""
    book = Handbook()
    shop = Shop(book, shell, administrator, Witness(node_postgres.dsn_here))
    await shop.install(node_postgres.dsn)
    await shop.upgrade()
    await shop.lose_and_restore(node_postgres)
    await shop.drain()
    await shop.maintain(node_postgres)
    with run_node_postgres(node_cluster) as other:
        await shop.move(other)
        await shop.begin_anew(other, node_postgres.dsn)
    assert book.left == set(), "commands of the page that nobody followed"


class Shop:
    """The namespace of the page, and the life of its installation."""

    def __init__(self, book: Handbook, shell: Shell, api: Api, witness: Witness) -> None:
        self.book = book
        self.shell = shell
        self.api = api
        self.witness = witness
        self.key = ""

    def follow(self, *headings: str) -> None:
        """Do what stands under these headings."""
        for heading in headings:
            for block in self.book.under(heading):
                self.shell.run(block)

    def town(self) -> Town:
        """The namespace as it is now: no address, key or connection of before."""
        return Town(self.shell.node, self.api, SHOP)

    def send(self, numbers: range, rest: int) -> None:
        """Start a run for each number, by an event with an id of its own."""
        with self.town() as town:
            town.learn()
            town.send(self.key, *({"name": "go", "id": f"n{n}", "data": {"n": n, "rest": rest}} for n in numbers))

    # --- the chapters ---

    async def install(self, dsn: str) -> None:
        """Install, and have a look; then a function whose bodies leave a trace."""
        self.follow("Install")
        await self.witness.prepare()
        with self.town() as town:
            town.apply(witnessed(NAME, 1, dsn))
            town.ready(NAME, 90)
            self.key = town.learn()
        self.follow("Watch")

    async def upgrade(self) -> None:
        """Forth and back, with runs in flight, which keep their revision."""
        before = self.api.get(self.town().path(NAME))["status"]["currentRevision"]
        self.send(range(10), rest=45)
        await until(lambda: self.witness.has_begun("second", 5), 60)
        self.follow("Upgrade")
        eventually(lambda: self.rolled_to("0.1.1"), 120)
        self.follow("Roll back")
        eventually(lambda: self.rolled_to("0.1.0"), 120)
        await self.completed(10)
        assert {run.revision for run in await runs_of(self.town(), NAME)} == {before}

    async def lose_and_restore(self, postgres: NodePostgres) -> None:
        """What was asleep at the backup completes after the loss; what came later is sent again."""
        self.send(range(10, 20), rest=25)
        await until(lambda: self.recorded("second", 20), 60)
        self.follow("Back up")
        self.send(range(20, 25), rest=1)
        await until(lambda: self.ended(25), 90)

        before = self.starts()
        await lose(postgres.dsn_here)
        with self.town() as town:
            town.until(NAME, says("StoreReady", "False"), 90)
        assert self.starts() == before, "pods stay alive while the database is lost"
        self.follow("Stop")
        restore, look = self.book.under("The database, lost")
        self.shell.run(restore)
        self.follow("Start")
        self.shell.run(look)
        await self.completed(20)
        times = Counter((one.step_id, one.run_id) for one in await self.witness.begun() if one.step_id == "third")
        assert Counter(times.values()) == {1: 10 + 5, 2: 10}, "what slept at the backup did its last step again, and nothing else"
        self.send(range(20, 25), rest=1)
        await self.completed(25)

        self.follow("One namespace", "Start")
        await self.completed(20)

    async def drain(self) -> None:
        """The node, a function, the namespace; then all is as before."""
        self.send(range(30, 35), rest=5)
        await until(lambda: self.recorded("first", 25), 60)
        self.follow("A node")
        await self.completed(25)
        self.follow("A function", "A namespace")
        with self.town() as town:
            town.ready(NAME, 60)
            town.ready("process-order", 60)

    async def maintain(self, postgres: NodePostgres) -> None:
        """Postgres is restarted under everything, and no pod is; then a new password."""
        self.send(range(40, 45), rest=20)
        await until(lambda: self.recorded("second", 30), 60)
        before = self.starts()
        postgres.do("stop")
        postgres.do("start")
        await self.completed(30)
        assert self.starts() == before

        dsn = self.town().dsn()
        self.follow("Passwords")
        assert self.town().dsn() != dsn
        self.send(range(50, 51), rest=1)
        await self.completed(31)

    async def move(self, other: NodePostgres) -> None:
        """The backup is restored on another server, at another address."""
        self.follow("Stop")
        self.arrive_at(other)
        self.follow("Another address", "Start")
        await self.completed(20)

    async def begin_anew(self, other: NodePostgres, dsn: str) -> None:
        """Nothing is left of the cluster but the backup; with the same namespace all of it comes back."""
        self.follow("Take away")
        self.api.delete(f"/api/v1/namespaces/{SHOP}")
        self.api.wait_gone(f"/api/v1/namespaces/{SHOP}", 90)
        await lose(other.dsn_here)
        self.arrive_at(other)
        release, functions = self.book.under("A new cluster")
        self.shell.run(release)
        with self.town() as town:
            town.apply(witnessed(NAME, 1, dsn))
            self.shell.run(functions)
            town.ready(NAME, 90)
            assert town.key("event-key") == self.key
        await self.completed(20)

    def arrive_at(self, postgres: NodePostgres) -> None:
        """Use this server from now on, and restore the backup there."""
        self.shell.replaced |= place_of(postgres)
        first, *_ = self.book.under("Install")
        self.shell.run([command for command in first if command.startswith("export ")])
        restore, *_ = self.book.under("The database, lost")
        self.shell.run(restore)

    # --- what is seen ---

    async def completed(self, count: int) -> None:
        """Wait until so many runs are there and have ended; all completed, and no step began again after its record."""
        await until(lambda: self.ended(count), 120)
        assert len(await check(self.town(), self.witness, NAME)) >= count
        assert len(await runs_of(self.town(), NAME)) == count

    async def ended(self, count: int) -> bool:
        """Whether so many runs have ended."""
        return sum(run.status.is_final for run in await runs_of(self.town(), NAME)) == count

    async def recorded(self, step_id: str, count: int) -> bool:
        """Whether this step is recorded in so many runs."""
        rows = await runs_of(self.town(), NAME)
        steps = await self.town().ask_store(lambda store: store.journals([row.run_id for row in rows if not row.status.is_final]))
        live = sum(any(one.step_id == step_id for one in journal.steps) for journal in steps.values())
        return live + sum(row.status.is_final for row in rows) >= count

    def rolled_to(self, tag: str) -> bool:
        """Whether every Deployment of the namespace has this image, and all of its pods."""
        found = self.api.items(f"{DEPLOYMENTS.format(SHOP)}?{OURS}")
        images = {one["spec"]["template"]["spec"]["containers"][0]["image"].rpartition(":")[2] for one in found}
        counts = [(one["spec"]["replicas"], one["status"]) for one in found]
        there = all(said.get("updatedReplicas") == said.get("replicas") == wanted for wanted, said in counts)
        return images == {tag} and there

    def starts(self) -> Counter[tuple[str, int]]:
        """The namespace's pods, and how often their containers have started again."""
        pods = self.api.items(f"/api/v1/namespaces/{SHOP}/pods?{OURS}")
        return Counter(
            (pod["metadata"]["name"], one["restartCount"]) for pod in pods for one in pod["status"]["containerStatuses"]
        )


def place_of(postgres: NodePostgres) -> dict[str, str]:
    """What stands for a server's address and password."""
    parts = urlsplit(postgres.dsn)
    return {"postgres.example:5432": f"{parts.hostname}:{parts.port}", "PASSWORD": parts.password or ""}


async def lose(dsn: str) -> None:
    """Take a server's database and roles away, as if it were a new one."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("drop database stepwell with (force)")
    roles = await connection.fetch(
        "select rolname from pg_roles where rolname like 'stepwell%' order by rolname = 'stepwell_admin'"
    )
    for (role,) in roles:
        await connection.execute(f"drop role {role}")
    await connection.close()
