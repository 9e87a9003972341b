"""A function that is being deleted and drains, as an operator finds it: what its well says, for how long, and what its namespace does."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from postgres.conftest import Open
from postgres.holding import hold_on
from postgres.piles import start, ulid
from unit.operator.observations import NAME, register_of, seen_of, target_at

from stepwell.engine.cancelling import cancel_all
from stepwell.engine.run import RunStatus
from stepwell.store.postgres import PostgresStore
from stepwell.store.records import Pile
from stepwell_operator.cluster import NAMESPACE, ClusterError, Document, Kind
from stepwell_operator.facts import WellFacts
from stepwell_operator.metrics import OperatorMetrics
from stepwell_operator.names import FINALIZER
from stepwell_operator.reconcile import Reconciler
from stepwell_operator.settings import Settings
from stepwell_operator.target import Target
from stepwell_operator.workqueue import Item
from stepwell_operator.world import Seen

KEY = ("shop", "default")
ASKED = datetime(2026, 1, 1, 12, tzinfo=UTC)
GOING: Document = {"metadata": {"name": "shop", "deletionTimestamp": "2026-01-01T12:00:01Z"}}


class Cluster:
    """What is read of it is its namespace; what is written are finalizers."""

    def __init__(self) -> None:
        self.namespace: Document | None = {"metadata": {"name": "shop"}}
        self.finalizers: list[str] | None = None

    def to_write(self) -> None:
        """Whoever asks leads."""

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Document | None:
        del namespace, name
        assert kind is NAMESPACE
        return self.namespace

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Document) -> None:
        del kind, namespace, name
        self.finalizers = patch["metadata"]["finalizers"]


class Drained:
    """An operator, and the function that it is to let go of: one that has a live run."""

    def __init__(self, store: PostgresStore) -> None:
        self.store = store
        self.cluster = Cluster()
        self.reconciler = Reconciler(cast("Any", self.cluster), Settings("stepwell", "operator-0"), OperatorMetrics())
        self.reconciler.wells = hold_on(store, KEY)
        self.seen: Seen = seen_of(deleting=True, deleted="2026-01-01T12:00:00Z", finalizers=("example.com/other", FINALIZER))
        self.reconciler.world.functions[self.seen.key] = self.seen
        self.run_id = ulid(1)

    async def begin(self) -> None:
        """Register it, by an operator that was there before, and start its run."""
        asked = register_of(target_at(1))
        await hold_on(self.store, KEY).register(WellFacts(*KEY), NAME, asked)
        one = replace(start(self.run_id), function_id="one", revision=asked.revision, pool=asked.pool)
        await self.store.commit(Pile(starts=(one,)))

    async def going(self, after: timedelta, look: Any = None) -> float | None:
        """Reconcile it so long after its deletion."""
        return await self.reconciler.leaving.going(self.seen, ASKED + after, look or self.look)

    async def look(self) -> WellFacts:
        """Its well, which answers."""
        return await self.reconciler.wells.look(*KEY)

    async def unknown(self) -> WellFacts:
        """Its well, which was never reached."""
        return self.reconciler.wells.facts(*KEY)

    async def refused(self) -> WellFacts:
        """Its well's Secret can't be made."""
        raise ClusterError("no")

    async def status(self) -> RunStatus | None:
        """How its run is."""
        found = await self.store.run(self.run_id)
        return found.status if found is not None else None


@pytest.fixture
async def one(open_store: Open) -> Drained:
    """A function with a live run that is being deleted."""
    made = Drained(await open_store())
    await made.begin()
    return made


LONG = timedelta(minutes=59)
TOO_LONG = timedelta(minutes=61)


async def test_a_well_that_is_not_known_holds_it(one: Drained) -> None:
    """An operator that knows nothing of its well lets nothing go, nor does one to which the cluster refuses the well."""
    assert await one.going(LONG, one.unknown)
    with pytest.raises(ClusterError):
        await one.going(LONG, one.refused)
    assert one.cluster.finalizers is None


async def test_it_is_held_until_its_runs_have_ended(one: Drained) -> None:
    """Nothing of it starts any more, its runs go on; after the last one our finalizer goes, and nobody else's."""
    assert await one.going(LONG)
    assert [row.active for row in (await one.store.registry()).functions] == [False]
    assert (one.cluster.finalizers, await one.status()) == (None, RunStatus.QUEUED)
    await cancel_all(one.store, "one", "the test is over")
    assert await one.going(LONG) is None
    assert one.cluster.finalizers == ["example.com/other"]


async def test_the_hour_runs_from_the_deletion(one: Drained) -> None:
    """After an hour its runs are cancelled, though this operator has known of it for no time at all."""
    assert await one.going(TOO_LONG) is None
    assert (one.cluster.finalizers, await one.status()) == (["example.com/other"], RunStatus.CANCELLED)


@pytest.mark.parametrize("look", ["unknown", "refused"])
async def test_it_goes_after_an_hour_without_its_store(one: Drained, look: str) -> None:
    """Nothing hangs on a store that never comes back, or never was."""
    assert await one.going(TOO_LONG, getattr(one, look)) is None
    assert one.cluster.finalizers == ["example.com/other"]


@pytest.mark.parametrize("namespace", [GOING, None], ids=["going", "gone"])
async def test_it_goes_with_its_namespace(one: Drained, namespace: Document | None) -> None:
    """Where the runners go with the namespace nobody waits; its runs are cancelled."""
    one.cluster.namespace = namespace
    assert await one.going(timedelta()) is None
    assert (one.cluster.finalizers, await one.status()) == (["example.com/other"], RunStatus.CANCELLED)


async def test_another_well_holds_it_only_with_its_rows(one: Drained) -> None:
    """A store that is away and never had anything of it doesn't matter; one in which it was, does."""
    await cancel_all(one.store, "one", "the test is over")
    other = one.reconciler.wells.facts("shop", "other")
    rows = {row.function_id: row for row in (await one.store.registry()).functions}
    other.functions = rows
    assert await one.going(LONG)
    assert one.cluster.finalizers is None
    other.functions = {}
    assert await one.going(LONG) is None
    assert one.cluster.finalizers == ["example.com/other"]


async def test_of_a_function_that_is_gone_nothing_stays(one: Drained) -> None:
    """What was put off for its pool is put off no more: a pool of that name, should it come again, has its time from then on."""
    target = await one.reconciler.targets.get(one.seen)
    assert isinstance(target, Target)
    pool = Item("pool", "shop", target.pool_id)
    one.reconciler.clock = lambda: 0.0
    assert one.reconciler.put_off(pool, 2.0)
    one.reconciler.clock = lambda: 10.0
    one.reconciler.world.forget(one.seen.key, one.reconciler.world.functions)
    await one.reconciler.leaving.gone(*one.seen.key)
    assert one.reconciler.put_off(pool, 2.0)
