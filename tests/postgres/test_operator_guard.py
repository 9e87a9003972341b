"""An operator that may not lead any more leaves wells as they are."""

import pytest
from postgres.conftest import Open
from postgres.holding import hold_on
from unit.operator.observations import NAME, register_of, target_at

from stepwell.engine.cancelling import cancel_all
from stepwell.store.postgres import PostgresStore
from stepwell.store.registry import FunctionRow, RevisionRow
from stepwell_operator.cluster import ClusterError
from stepwell_operator.plan import Forget, Move

KEY = ("shop", "default")


class Lease:
    """Lets writes through while it is held."""

    held = True

    def __call__(self) -> None:
        if not self.held:
            raise ClusterError("not any more")


async def read(store: PostgresStore) -> tuple[list[FunctionRow], list[RevisionRow]]:
    """What is registered."""
    return list((await store.registry()).functions), list(await store.revisions())


async def test_whoever_does_not_lead_writes_nothing_to_a_well(open_store: Open, postgres_dsn: str) -> None:
    """Each write asks first: registering, holding, moving, dropping, retiring and cancelling, and migrating. Looking goes on."""
    lease = Lease()
    store = await open_store(postgres_dsn, guard=lease)
    wells = hold_on(store, KEY)
    facts = wells.facts(*KEY)
    await wells.register(facts, NAME, register_of(target_at(1)))
    before, target = await read(store), target_at(2)
    lease.held = False
    for write in (
        wells.register(facts, NAME, register_of(target)),
        wells.hold(facts, target.function.id, "somebody"),
        wells.move(facts, Move(target.function.id, target.revision, target.pool_id)),
        wells.drop(facts, Forget(target.function.id, before[1][0].revision)),
        wells.retire(facts, NAME, cancel=True),
        store.migrate(),
    ):
        with pytest.raises(ClusterError):
            await write
    assert await cancel_all(store, target.function.id, "nobody") == 0
    assert (await wells.look(*KEY)).ready
    assert await read(store) == before
    lease.held = True
    await wells.register(facts, NAME, register_of(target))
    assert await read(store) != before
