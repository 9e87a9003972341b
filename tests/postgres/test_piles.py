"""Corners of a pile that only show when its parts meet."""

from postgres.piles import claim, event, start, step, ulid

from stepwell.engine.run import RunStatus
from stepwell.store.postgres import PostgresStore
from stepwell.store.records import Cancel, End, Limit, Park, Parked, Pile, StepKind, Turn, Wait
from stepwell.store.registry import FunctionRow
from stepwell.store.results import StartResult


async def test_a_run_that_its_own_pile_cancels_records_nothing(store: PostgresStore) -> None:
    """A turn and a cancel of its run in one pile: the cancel stands, and the turn is fenced."""
    run_id = ulid(1)
    await store.commit(Pile(starts=(start(run_id),), claim=claim()))
    result = await store.commit(Pile(turns=(Turn(run_id, 1, (step("s"),)),), cancels=(Cancel(run_id, b"{}"),)))
    assert not result.turns[0].landed
    assert result.cancels == (RunStatus.CANCELLED,)
    assert await store.steps(run_id) == []


async def test_an_end_of_a_cancelled_run_has_not_landed(store: PostgresStore) -> None:
    """An end that is sent again has landed; one that comes after a cancel under the same epoch has not, nor what depends on it."""
    run_id, child = ulid(1), ulid(2)
    await store.commit(Pile(starts=(start(run_id),), claim=claim()))
    await store.commit(Pile(cancels=(Cancel(run_id, b"{}"),)))
    late = Pile(turns=(Turn(run_id, 1, then=End(RunStatus.COMPLETED, b"1")),), starts=(start(child, turn=0),))
    result = await store.commit(late)
    assert (result.turns[0].landed, result.starts[0].landed, result.fenced) == (False, False, 1)
    assert await store.run(child) is None


async def test_a_fused_start_needs_a_lease(store: PostgresStore) -> None:
    """A start for a runner without a lease becomes an ordinary queue item whose first epoch nobody holds."""
    run_id = ulid(1)
    await store.commit(Pile(starts=(start(run_id, lease_to="gone"),)))
    result = await store.commit(Pile(turns=(Turn(run_id, 1, (step("s"),)),), claim=claim()))
    assert not result.turns[0].landed
    assert [(run.run_id, run.epoch) for run in result.claimed] == [(run_id, 2)]


async def test_what_follows_a_park_in_one_pile_is_fenced(store: PostgresStore) -> None:
    """Two turns of one run in one pile land both, unless the first gives the lease back."""
    run_id = ulid(1)
    await store.commit(Pile(starts=(start(run_id),), claim=claim()))
    turns = (
        Turn(run_id, 1, (step("a"),)),
        Turn(run_id, 1, (step("b"),), then=Park(0, Parked.QUEUED)),
        Turn(run_id, 1, (step("c"),)),
    )
    result = await store.commit(Pile(turns=turns))
    assert [turn.landed for turn in result.turns] == [True, True, False]
    assert [recorded.step.step_id for recorded in await store.steps(run_id)] == ["a", "b"]


async def test_a_start_sent_again_changes_nothing(store: PostgresStore) -> None:
    """A start whose run is there has landed: no second row, no moved listener, no longer key."""
    run_id = ulid(1)

    def listener(due: int) -> tuple[Wait, ...]:
        return (Wait(StepKind.CANCEL, "", 0, due, 1, name="n", match_key="k"),)

    first = start(run_id, idempotency_key="K", idempotency_until=2**60, cancel_on=listener(100))
    again = start(run_id, idempotency_key="K", idempotency_until=2**61, cancel_on=listener(200))
    for one in (first, again):
        result = await store.commit(Pile(starts=(one,)))
        assert result.starts == (StartResult(landed=True, run_id=run_id),)
    assert [wait.due for wait in (await store.run(run_id)).waits] == [100]
    async with store._reads.use() as connection:
        assert await connection.fetchval(f"select expires from {store._schema}.idempotency") == 2**60


async def test_a_lifted_limit_lets_its_runs_go(store: PostgresStore) -> None:
    """Runs that were blocked on a key are claimable once their function has no limit any more."""
    ids = [ulid(number) for number in range(3)]
    await store.commit(Pile(starts=tuple(start(run_id, concurrency=("",)) for run_id in ids)))
    limited = await store.commit(Pile(claim=claim(limits=(Limit("f", 1),))))
    assert [run.run_id for run in limited.claimed] == ids[:1]
    assert (await store.run(ids[1])).blocked_on == ""
    freed = await store.commit(Pile(claim=claim()))
    assert [run.run_id for run in freed.claimed] == ids[1:]


async def test_an_event_between_two_registries_is_refused(store: PostgresStore) -> None:
    """A pile matched against a version that is no longer current writes nothing and says which one is."""
    before = (await store.registry()).version
    await store.register("more", [FunctionRow("g", "r1", "p", "more", b"{}")], [])
    result = await store.commit(Pile(registry_version=before, events=(event("e"),)))
    assert (result.stale, result.registry_version) == (True, before + 1)
    assert await store.event("e") is None
