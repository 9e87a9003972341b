"""What the operator knows of a well is what it read or wrote last, whichever of both ended later."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import asyncpg
import pytest
from postgres.conftest import Open
from postgres.holding import hold_on
from unit.operator.observations import NAME, register_of, target_at

from stepwell.store.postgres import PostgresStore
from stepwell.store.registry import PauseRow, RevisionWork
from stepwell_operator.contents import UNREADABLE
from stepwell_operator.opened import Opened
from stepwell_operator.plan import Forget, Register
from stepwell_operator.wells import Wells

KEY = ("shop", "default")


class Slow:
    """A store whose next look stands still before its last question until it may go on."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store
        self.there = asyncio.Event()
        self.may = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def work(self) -> Sequence[RevisionWork]:
        if not self.there.is_set():
            self.there.set()
            await self.may.wait()
        return await self._store.work()


@pytest.fixture
async def store(open_store: Open) -> Slow:
    """An empty well."""
    return Slow(await open_store())


@pytest.fixture
def wells(store: Slow) -> Wells:
    """An operator's hold on that well."""
    return hold_on(cast("PostgresStore", store), KEY)


@pytest.fixture
async def side(postgres_dsn: str) -> AsyncIterator[Any]:
    """A connection of the administrator's."""
    made = await asyncpg.connect(postgres_dsn)
    yield made
    await made.close()


def register(version: int) -> Register:
    return register_of(target_at(version))


async def test_a_look_does_not_undo_what_was_written_meanwhile(wells: Wells, store: Slow) -> None:
    """A look that began before functions were changed, paused or forgotten doesn't bring back what it read of them."""
    facts = wells.facts(*KEY)
    old, new = register(1), register(2)
    await wells.register(facts, NAME, old)
    look = asyncio.create_task(wells.look(*KEY))
    await store.there.wait()
    await wells.register(facts, NAME, new)
    await wells.hold(facts, "one", "ada")
    await wells.drop(facts, Forget("one", old.revision))
    store.may.set()
    await look
    assert facts.functions["one"].revision == new.revision
    assert [row.revision for row in facts.revisions["one"]] == [new.revision]
    assert facts.pauses["one"].paused_by == "ada"
    assert facts.by_pool == {new.pool: {"one"}}
    assert await wells.look(*KEY) == facts
    assert facts.functions["one"].revision == new.revision


async def test_a_look_does_not_bring_back_a_function_that_went_meanwhile(wells: Wells, store: Slow) -> None:
    """A look that began before a function was let go of doesn't bring its rows back."""
    facts = wells.facts(*KEY)
    await wells.register(facts, NAME, register(1))
    look = asyncio.create_task(wells.look(*KEY))
    await store.there.wait()
    assert await wells.retire(facts, NAME, cancel=True)
    store.may.set()
    await look
    assert (facts.functions, facts.revisions, facts.by_pool) == ({}, {}, {})


async def test_what_anybodys_look_found_is_told_once(wells: Wells, store: Slow) -> None:
    """What changed since the last look is kept for the round that tells the functions, whoever looked; own writes are no news."""
    store.there.set()
    await wells.look(*KEY)
    facts = wells.facts(*KEY)
    await wells.register(facts, NAME, register(1))
    await wells.look(*KEY)
    assert facts.take_changed() == set()
    await store.pause(PauseRow("one", 1, "ada", source="api"))
    await wells.look(*KEY)
    await wells.look(*KEY)
    assert facts.take_changed() == {"one"}
    assert facts.take_changed() == set()


@pytest.mark.parametrize(
    "statement",
    [
        "alter table {0}.functions alter spec drop not null; update {0}.functions set spec = null",
        "alter table {0}.functions disable trigger user, alter owner drop not null; update {0}.functions set owner = null",
        "alter table {0}.revisions alter pool drop not null; update {0}.revisions set pool = null",
        "delete from {0}.registry",
        "alter table {0}.registry rename to r; create view {0}.registry as select 'x'::text as version",
    ],
)
async def test_a_well_that_its_role_has_spoiled_is_told_of(open_store: Open, side: Any, statement: str) -> None:
    """A namespace's role owns its tables: whatever it does to them, the well can't be used, says so, and no look raises."""
    store = await open_store()
    wells = hold_on(store, KEY)
    wells._dsns[KEY] = "known"
    await wells.register(wells.facts(*KEY), NAME, register(1))
    assert (await wells.look(*KEY)).ready
    await side.execute(statement.format(store._schema))
    told = await wells.look(*KEY)
    assert (told.reason, told.message) == ("Unreachable", UNREADABLE)
    assert await wells.look_back(*KEY) is told


async def test_a_well_that_holds_too_much_is_not_read(open_store: Open, side: Any) -> None:
    """What a Postgres sends beyond a bound is not kept: the connection is cut, the well says why, and a small well is read again."""
    store = await open_store(most=200_000)
    wells = hold_on(store, KEY)
    assert (await wells.look(*KEY)).ready
    big = "insert into {0}.functions (function_id, revision, pool, owner, spec) select 'f' || n, 'r', 'p', 'o', 'x' from {1} n"
    await side.execute(big.format(store._schema, "generate_series(1, 20000)"))
    told = await wells.look(*KEY)
    assert (told.reason, told.message) == (
        "Unreachable",
        "the well holds more than the operator reads: Postgres answers with more than 200,000 bytes",
    )
    await side.execute(f"delete from {store._schema}.functions")
    wells._migrated.add(KEY)
    for _ in range(50):
        assert (await wells.look(*KEY)).ready


async def test_a_store_is_not_closed_while_it_is_used(open_store: Open, side: Any, postgres_dsn: str) -> None:
    """With more wells than may be open a question that is under way gets its answer; a store that nobody uses is closed."""
    schema = (await open_store())._schema
    opened = Opened(lambda: None, most=1)
    dsn = f"{postgres_dsn}?schema={schema}&application_name=opened"
    there = "select count(*) from pg_stat_activity where application_name = 'opened'"
    waits = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
    lock = f"(hashtext('{schema}'))"
    async with asyncio.timeout(60):
        with opened.use(("shop", "a"), dsn) as store:
            await side.execute(f"select pg_advisory_lock{lock}")
            async with store._reads.use() as connection:
                await connection.execute("set lock_timeout = 0")
                asked = asyncio.create_task(connection.fetchval(f"select 'answer' from pg_advisory_lock{lock}"))
                while not await side.fetchval(waits):
                    await asyncio.sleep(0)
                for other in ("b", "c"):
                    with opened.use(("shop", other), dsn) as another:
                        await another.registry()
                while await side.fetchval(there) > 1:
                    await asyncio.sleep(0)
                await side.execute(f"select pg_advisory_unlock{lock}")
                assert await asked == "answer"
        with opened.use(("shop", "d"), dsn):
            while await side.fetchval(there):
                await asyncio.sleep(0)
        await opened.close_all()
