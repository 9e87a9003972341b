"""C5 and C8: what the hot statements read and leave behind doesn't grow with history."""

import asyncio
from random import Random
from string import ascii_letters

import asyncpg
from postgres.piles import claim, event, start, step, ulid

from stepwell.engine.run import RunStatus
from stepwell.store.postgres import PostgresStore
from stepwell.store.records import FOREVER, End, Park, Parked, Pile, StepKind, Turn, Wait
from stepwell.store.telling import told_text
from stepwell.store.views import ProgressRow

EXPLAIN = """
    load 'auto_explain';
    set auto_explain.log_nested_statements = on; set auto_explain.log_min_duration = 0; set auto_explain.log_level = notice;
"""


async def lifecycle(store: PostgresStore, first: int, count: int) -> None:
    """Runs that are started, claimed, put away in a wait, woken by an event, and ended."""
    ids = [ulid(number) for number in range(first, first + count)]
    await store.commit(
        Pile(
            registry_version=2,
            events=tuple(event(f"e-{run_id}") for run_id in ids),
            starts=tuple(start(run_id, event=place) for place, run_id in enumerate(ids)),
            claim=claim(count, sweep=True),
        )
    )
    wait = Wait(StepKind.SLEEP, "nap", 0, FOREVER, 1)
    await store.commit(
        Pile(turns=tuple(Turn(run_id, 1, (step("a"),), opens=(wait,), then=Park(0, Parked.SLEEPING)) for run_id in ids))
    )
    claimed = (await store.commit(Pile(claim=claim(count, watch=tuple((run_id, 1, 0) for run_id in ids))))).claimed
    assert len(claimed) == count
    nap = step("nap", kind=StepKind.SLEEP)
    closes = (("nap", 0, StepKind.SLEEP),)
    ended = await store.commit(
        Pile(turns=tuple(Turn(run_id, 2, (nap,), closes, then=End(RunStatus.COMPLETED, b"1")) for run_id in ids))
    )
    assert all(turn.landed and not turn.lost for turn in ended.turns)


async def plans(store: PostgresStore) -> dict[str, str]:
    """The plan of every statement of a lifecycle, by its text, as a new session makes them."""
    await store.close()
    found: dict[str, str] = {}
    async with store._writes.use() as connection:

        def hear(_connection: object, message: asyncpg.PostgresLogMessage) -> None:
            text = message.message.partition("Query Text: ")[2]
            query, _newline, plan = text.partition("  (cost=")
            query, _newline, top = query.rpartition("\n")
            query = query.partition("\nQuery Parameters")[0]
            if "typeinfo_tree" not in query and "set_config" not in query:
                found[query] = "\n".join(line.partition("  (cost=")[0] for line in (top + "  (cost=" + plan).splitlines())

        connection.add_log_listener(hear)
        await connection.execute(EXPLAIN)
    await lifecycle(store, 900_000, 3)
    await store.close()
    return found


async def test_plans_stay_as_they_are(store: PostgresStore) -> None:
    """Every hot statement has one plan, be the store empty or the queue emptied after 10,000 runs; none scans a table."""
    empty = await plans(store)
    assert len(empty) > 15
    for number in range(20):
        await lifecycle(store, number * 500, 500)
    async with store._writes.use() as connection:
        await connection.execute(f"set search_path = {store._schema}")
        for table in ("queue", "waits", "runs", "steps", "ends", "events", "event_ids"):
            await connection.execute(f"vacuum analyze {table}")
    full = await plans(store)
    # A handful of lease rows, whose every column changes, is read as it lies.
    scans = [plan for plan in (*empty.values(), *full.values()) if "Seq Scan" in plan and "Seq Scan on runners" not in plan]
    assert not scans
    assert {query: plan for query, plan in full.items() if plan != empty.get(query)} == {}


async def test_a_beat_with_nothing_told_writes_what_it_always_did(store: PostgresStore) -> None:
    """A beat is one statement whatever it carries, and long words, which lie apart, are written only when told."""
    asked: list[str] = []
    ask = store._heart.beat

    def heard(query: str, *args: object) -> object:
        asked.append(query)
        return ask(query, *args)

    store._heart.beat = heard

    async def lying_apart(told: str | None) -> list[int]:
        await asyncio.to_thread(store.beat, "A", 60_000_000, None, told)
        async with store._writes.use() as connection:
            apart = await connection.fetchval(
                "select reltoastrelid::regclass::text from pg_class where oid = $1::regclass", runners
            )
            return [row["chunk_id"] for row in await connection.fetch(f"select distinct chunk_id from {apart}")]

    runners = f"{store._schema}.runners"
    random = Random(7)
    notes = ["".join(random.choices(ascii_letters, k=100)) for _ in range(64)]
    words = told_text([ProgressRow(ulid(place), "step", 0, 0, 0.5, note, 1) for place, note in enumerate(notes)])
    assert await lying_apart(None) == []
    (first,) = await lying_apart(words)
    assert await lying_apart(None) == [first]
    assert await lying_apart(None) == [first]
    assert await lying_apart(words) != [first]
    assert asked == [store._sql["beat"]] * 5


async def test_a_finished_run_leaves_two_dead_rows(store: PostgresStore) -> None:
    """A one-step run through the queue is inserted, updated by its claim and deleted: two dead row versions."""
    ids = [ulid(number) for number in range(50)]
    await store.commit(Pile(starts=tuple(start(run_id) for run_id in ids)))
    await store.commit(Pile(claim=claim(50)))
    await store.commit(Pile(turns=tuple(Turn(run_id, 1, (step("a"),), then=End(RunStatus.COMPLETED, b"1")) for run_id in ids)))
    async with store._writes.use() as connection:
        await connection.execute("select pg_stat_force_next_flush()")
        updated, deleted = (
            await connection.fetch(
                "select n_tup_upd, n_tup_del from pg_stat_user_tables where schemaname = $1 and relname = 'queue'", store._schema
            )
        )[0].values()
    assert (updated, deleted) == (50, 50)
