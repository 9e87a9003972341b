"""What several processes do to one well at the same time."""

import asyncio
import random

from postgres.conftest import Open
from postgres.piles import claim, event, start, step, ulid

from stepwell.engine.run import RunStatus
from stepwell.store.postgres import PostgresStore
from stepwell.store.records import (
    FOREVER,
    Cancel,
    Consume,
    End,
    EventFate,
    Limit,
    Park,
    Parked,
    Pile,
    StepKind,
    TriggerKind,
    Turn,
    Wait,
)
from stepwell.store.views import RunnerRow


async def test_a_zombie_that_waited_for_the_lock_is_fenced(store: PostgresStore, open_store: Open) -> None:
    """A write that began before a takeover, and waited for its row lock, lands nowhere once the takeover is committed."""
    run_id = ulid(1)
    await store.commit(Pile(starts=(start(run_id),), claim=claim()))
    zombie = await open_store()
    async with store._writes.use() as connection, connection.transaction():
        await connection.execute(f"update {store._schema}.queue set epoch = 2 where run_id = $1", run_id)
        late = asyncio.create_task(
            zombie.commit(Pile(turns=(Turn(run_id, 1, (step("x"),), then=End(RunStatus.COMPLETED, b"1")),)))
        )
        async with store._reads.use() as watcher:
            while not await watcher.fetchval("select exists (select from pg_locks where not granted)"):
                assert not late.done()
    result = await late
    assert not result.turns[0].landed
    assert result.fenced == 1
    assert await store.steps(run_id) == []
    assert (await store.run(run_id)).status is RunStatus.RUNNING


async def test_two_claimers_never_get_the_same_run(store: PostgresStore, open_store: Open) -> None:
    """Claims of two runners at the same time share out the runs, each once, all of them."""
    other = await open_store()
    await other.enrol(RunnerRow("B", ("p",), ("f",), 10, 60_000_000, draining=False))
    ids = [ulid(number) for number in range(300)]
    await store.commit(Pile(starts=tuple(start(run_id) for run_id in ids)))

    async def take(mine: PostgresStore, runner_id: str) -> list[str]:
        got: list[str] = []
        while claimed := (await mine.commit(Pile(claim=claim(7, runner_id)))).claimed:
            got.extend(run.run_id for run in claimed)
        return got

    one, two, three = await asyncio.gather(take(store, "A"), take(other, "B"), take(other, "B"))
    assert sorted(one + two + three) == ids


async def test_an_event_accepted_by_two_gateways_counts_once(store: PostgresStore, open_store: Open) -> None:
    """The same events offered to two processes at once, in another order each, are accepted once and deadlock nobody."""
    other = await open_store()
    ids = [f"event-{number}" for number in range(200)]
    for _ in range(5):
        shuffled = random.sample(ids, len(ids))
        first, second = await asyncio.gather(
            store.commit(Pile(events=tuple(event(one) for one in ids))),
            other.commit(Pile(events=tuple(event(one) for one in shuffled))),
        )
        fates = [*first.events, *second.events]
        assert fates.count(EventFate.ACCEPTED) in {0, len(ids)}
    assert fates.count(EventFate.DUPLICATE) == 2 * len(ids)
    assert len(await store.events(None, None, 1000)) == len(ids)


async def test_a_limit_holds_while_runners_race(store: PostgresStore, open_store: Open) -> None:
    """With three claimers at once a key never has more leases than its limit, and all its runs get done."""
    others = [await open_store(), await open_store()]
    for number, other in enumerate(others):
        await other.enrol(RunnerRow(f"B{number}", ("p",), ("f",), 10, 60_000_000, draining=False))
    ids = [ulid(number) for number in range(60)]
    await store.commit(Pile(starts=tuple(start(run_id, concurrency=("K",)) for run_id in ids)))
    ended: list[str] = []
    most = 0

    async def work(mine: PostgresStore, runner_id: str) -> None:
        nonlocal most
        turns: tuple[Turn, ...] = ()
        while len(ended) < len(ids):
            result = await mine.commit(Pile(turns=turns, claim=claim(3, runner_id, limits=(Limit("f", 4),), sweep=not turns)))
            ended.extend(turn.run_id for turn in turns)
            most = max(most, len(await mine.key_holders("K")))
            turns = tuple(Turn(run.run_id, run.epoch, then=End(RunStatus.COMPLETED, b"1")) for run in result.claimed)

    await asyncio.gather(work(store, "A"), work(others[0], "B0"), work(others[1], "B1"))
    assert sorted(ended) == ids
    assert 1 < most <= 4
    assert await store.doctor() == []


async def test_parents_and_children_end_crosswise_without_deadlock(store: PostgresStore, open_store: Open) -> None:
    """Two processes that end each other's children in one pile with their own parents' turns wait for each other, and don't die."""
    other = await open_store()
    before = await deadlocks(store)
    for round_ in range(10):
        parents = [ulid(round_ * 10 + place) for place in (1, 2)]
        children = [ulid(round_ * 10 + place) for place in (3, 4)]
        claimed = await store.commit(Pile(starts=tuple(start(run_id) for run_id in parents), claim=claim()))
        assert len(claimed.claimed) == 2
        invoke = [Wait(StepKind.INVOKE, "child", 0, FOREVER, 1, target_run=child) for child in children]
        await store.commit(
            Pile(
                turns=tuple(Turn(parent, 1, opens=(wait,)) for parent, wait in zip(parents, invoke, strict=True)),
                starts=tuple(start(child, turn=place, trigger=TriggerKind.INVOKE) for place, child in enumerate(children)),
                claim=claim(),
            )
        )
        end = End(RunStatus.COMPLETED, b'"done"')
        await asyncio.gather(
            store.commit(Pile(turns=(Turn(parents[0], 1, (step("own"),)), Turn(children[1], 1, then=end)))),
            other.commit(Pile(turns=(Turn(parents[1], 1, (step("own"),)), Turn(children[0], 1, then=end)))),
        )
        for parent in parents:
            assert sorted(recorded.step.step_id for recorded in await store.steps(parent)) == ["child", "own"]
        assert await deadlocks(store) == before


async def deadlocks(store: PostgresStore) -> int:
    """How many this database has seen; other tests may have had theirs in it."""
    async with store._reads.use() as connection:
        await connection.execute("select pg_stat_clear_snapshot()")
        return await connection.fetchval("select deadlocks from pg_stat_database where datname = current_database()")


async def test_a_child_that_ends_while_its_parent_begins_to_wait_is_heard(store: PostgresStore, open_store: Open) -> None:
    """Whichever commits first, the invoke's wait or the child's end, the parent gets the result."""
    other = await open_store()
    for round_ in range(20):
        parent, child = ulid(round_ * 10 + 1), ulid(round_ * 10 + 2)
        await store.commit(Pile(starts=(start(parent), start(child)), claim=claim()))
        wait = Wait(StepKind.INVOKE, "child", 0, FOREVER, 1, target_run=child)
        await asyncio.gather(
            store.commit(Pile(turns=(Turn(parent, 1, opens=(wait,), then=Park(FOREVER, Parked.WAITING)),))),
            other.commit(Pile(turns=(Turn(child, 1, then=End(RunStatus.COMPLETED, b'"done"')),))),
        )
        assert [recorded.step.value for recorded in await store.steps(parent)] == [b'"done"']
        claimed = (await store.commit(Pile(claim=claim()))).claimed
        assert [run.run_id for run in claimed] == [parent]
        await store.commit(Pile(cancels=(Cancel(parent, b"{}"),)))


async def test_an_event_and_a_timeout_race_for_a_wait(store: PostgresStore, open_store: Open) -> None:
    """Exactly one of an event and the wait's own timeout is recorded."""
    other = await open_store()
    for round_ in range(20):
        run_id = ulid(round_)
        await store.commit(Pile(starts=(start(run_id),), claim=claim()))
        wait = Wait(StepKind.EVENT, "w", 0, 1, 1, name="n", match_key="k")
        await store.commit(Pile(turns=(Turn(run_id, 1, opens=(wait,)),)))
        timeout = Turn(run_id, 1, (step("w", b"null", StepKind.EVENT),), (("w", 0, StepKind.EVENT),))
        consume = Consume(0, run_id, StepKind.EVENT, "w", 0, b"{}")
        timed_out, _accepted = await asyncio.gather(
            store.commit(Pile(turns=(timeout,))),
            other.commit(Pile(events=(event(f"e{round_}"),), consumes=(consume,))),
        )
        (recorded,) = await store.steps(run_id)
        assert recorded.step.value == (b"{}" if timed_out.turns[0].lost else b"null")
        await store.commit(Pile(cancels=(Cancel(run_id, b"{}"),)))


async def test_a_runner_that_leaves_while_it_claims_keeps_nothing(store: PostgresStore, open_store: Open) -> None:
    """A claim that meets its own runner's leave ends up free or not claimed, never leased to nobody."""
    other = await open_store()
    for round_ in range(20):
        await store.enrol(RunnerRow("A", ("p",), ("f",), 10, 60_000_000, draining=False))
        await store.commit(Pile(starts=(start(ulid(round_)),)))
        await asyncio.gather(store.commit(Pile(claim=claim())), other.leave("A"))
        assert await store.held("A") == []
        assert await store.doctor() == []
