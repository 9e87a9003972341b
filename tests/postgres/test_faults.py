"""A Postgres that is away, hangs, dies, or speaks up for itself."""

import asyncio
import time
import traceback

import asyncpg
import pytest
from postgres.conftest import Open
from postgres.piles import claim, event, start, step, ulid
from postgres_server import server

from stepwell.engine.run import RunStatus
from stepwell.errors import StoreError, StoreUnavailable
from stepwell.store.postgres import PostgresStore, connect
from stepwell.store.records import End, EventFate, Pile, Turn
from stepwell.store.registry import FunctionRow
from stepwell.store.results import PileResult
from stepwell.store.views import RunnerRow


async def test_nothing_that_was_acknowledged_is_lost_in_a_crash() -> None:
    """Postgres is killed under load and started again: what was accepted is there, and the store comes back by itself."""
    with server() as postgres:
        store = PostgresStore(postgres.dsn)
        await store.migrate()
        await store.open()
        await store.register("tests", [FunctionRow("f", "r1", "p", "tests", b"{}")], [])
        accepted: list[str] = []
        killed = False

        async def send(worker: int) -> None:
            number = 0
            while not killed or number % 10:
                number += 1
                event_id = f"{worker}-{number}"
                try:
                    await store.commit(Pile(events=(event(event_id),), starts=(start(ulid(worker * 100_000 + number), event=0),)))
                except StoreUnavailable:
                    return
                accepted.append(event_id)

        senders = [asyncio.create_task(send(worker)) for worker in range(4)]
        while len(accepted) < 200:
            await asyncio.wait(senders, timeout=0.01)
        postgres.kill()
        killed = True
        await asyncio.gather(*senders)
        with pytest.raises(StoreUnavailable):
            await store.commit(Pile(events=(event("while-away"),)))
        postgres.start()
        deadline = time.monotonic() + 20
        while True:
            try:
                again = await store.commit(Pile(events=tuple(event(event_id) for event_id in accepted)))
                break
            except StoreUnavailable:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
        assert set(again.events) == {EventFate.DUPLICATE}
        assert await store.doctor() == []
        await store.close()


async def test_a_hanging_server_is_given_up_and_what_it_did_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that times out is StoreUnavailable; sent again after the pause, it has landed once."""
    monkeypatch.setattr(connect, "COMMAND_TIMEOUT", 0.5)
    with server() as postgres:
        store = PostgresStore(postgres.dsn)
        await store.migrate()
        await store.open()
        await store.register("tests", [FunctionRow("f", "r1", "p", "tests", b"{}")], [])
        await store.enrol(RunnerRow("A", ("p",), ("f",), 10, 60_000_000, draining=False))
        run_id = ulid(1)
        await store.commit(Pile(starts=(start(run_id),), claim=claim()))
        pile = Pile(events=(event("e"),), turns=(Turn(run_id, 1, (step("s"),), then=End(RunStatus.COMPLETED, b"1")),))
        postgres.pause()
        with pytest.raises(StoreUnavailable):
            await store.commit(pile)
        postgres.resume()
        result = await store.commit(pile)
        assert result.turns[0].landed
        assert len(await store.steps(run_id)) == 1
        assert (await store.run(run_id)).status is RunStatus.COMPLETED
        await store.close()


async def test_a_lost_connection_is_replaced(store: PostgresStore) -> None:
    """A backend that was ended costs one StoreUnavailable, and the next pile goes through."""
    async with store._writes.use() as connection:
        pid = connection.get_server_pid()
    async with store._reads.use() as connection:
        await connection.fetchval("select pg_terminate_backend($1, 5000)", pid)
    for _ in range(2):
        try:
            await store.commit(Pile(events=(event("e"),)))
        except StoreUnavailable:
            continue
        break
    else:
        pytest.fail("the store did not come back")
    assert await store.event("e") is not None


async def test_who_was_let_in_and_is_refused_now_finds_the_store_away(postgres_dsn: str, open_store: Open) -> None:
    """A role that may not log in for a while (a restore, a new password) costs no pile and no read: they are asked again."""
    first = await open_store()
    side = await asyncpg.connect(postgres_dsn)
    role = f"guest_{first._schema}"
    await side.execute(f"create role {role} login superuser")
    guest = await open_store(postgres_dsn.replace("postgres@", f"{role}@"))
    await side.execute(f"alter role {role} nologin")
    await side.execute("select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = $1", role)
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await guest.commit(Pile(events=(event("e"),)))
        with pytest.raises(StoreUnavailable):
            await guest.event("e")
        with pytest.raises(StoreUnavailable):
            await asyncio.to_thread(guest.beat, "A", 1_000_000)
    await side.execute(f"alter role {role} login")
    assert (await patiently(guest, Pile(events=(event("e"),)))).events == (EventFate.ACCEPTED,)
    await side.close()


async def test_a_well_that_is_being_restored_is_away(store: PostgresStore, postgres_dsn: str) -> None:
    """While its schema isn't there, or isn't its role's yet, a well that was good is away, for writing and for reading."""
    side = await asyncpg.connect(postgres_dsn)
    await side.execute(f"alter schema {store._schema} rename to aside")
    await side.execute(f"create schema {store._schema}")
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="the well is away"):
            await store.commit(Pile(events=(event("e"),)))
        with pytest.raises(StoreUnavailable, match="the well is away"):
            await store.event("e")
    await side.execute(f"drop schema {store._schema}")
    await side.execute(f"alter schema aside rename to {store._schema}")
    await side.close()
    assert (await patiently(store, Pile(events=(event("e"),)))).events == (EventFate.ACCEPTED,)


async def patiently(store: PostgresStore, pile: Pile) -> PileResult:
    """Commit as soon as the store is there."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await store.commit(pile)
            except StoreUnavailable:
                await asyncio.sleep(0.05)


async def test_a_read_only_server_is_unavailable(open_store: Open, postgres_dsn: str) -> None:
    """A server that takes no writes is as one that is away: nothing is invented, and asking again may help."""
    await open_store()
    store = await open_store(f"{postgres_dsn}?options=-cdefault_transaction_read_only%3Don")
    with pytest.raises(StoreUnavailable, match="read-only"):
        await store.commit(Pile(events=(event("e"),)))


async def test_a_bad_row_is_an_error_of_its_pile(store: PostgresStore) -> None:
    """What Postgres can't hold (a NUL in an id) is a StoreError, so that the pile is split; nothing of the pile has landed."""
    with pytest.raises(StoreError) as caught:
        await store.commit(Pile(events=(event("good"), event("b\0d"))))
    assert not isinstance(caught.value, StoreUnavailable)
    assert await store.event("good") is None
    await store.commit(Pile(events=(event("good"),)))


async def test_a_beat_needs_no_event_loop(store: PostgresStore, open_store: Open) -> None:
    """A lease is renewed from another thread while the event loop is held up."""
    other = await open_store()
    assert await asyncio.to_thread(other.beat, "A", 1_000_000)
    before = (await store.stats()).runners[0].expires
    assert store.beat("A", 90_000_000)
    assert (await store.stats()).runners[0].expires > before + 60_000_000
    assert not store.beat("nobody", 1)


async def test_hints_reach_others_and_not_oneself(store: PostgresStore, open_store: Open) -> None:
    """A hint is heard by other processes, together with those of the same moment, and not by its sender."""
    other = await open_store()
    heard: asyncio.Queue[str] = asyncio.Queue()
    own: list[str] = []
    assert await other.on_hint(heard.put_nowait)
    assert await store.on_hint(own.append)
    assert await other.on_hint(heard.put_nowait)  # a process that begins anew asks again: it still hears each hint once
    await store.hint("p")
    await store.hint("q,p")
    assert await asyncio.wait_for(heard.get(), 5) == "p,q"
    assert heard.empty()
    assert own == []


async def test_hints_come_back_after_the_connection_broke(store: PostgresStore, open_store: Open) -> None:
    """A listener whose backend was ended listens again within two seconds."""
    other = await open_store()
    heard: asyncio.Queue[str] = asyncio.Queue()
    await other.on_hint(heard.put_nowait)
    async with store._reads.use() as connection:
        assert await connection.fetchval("select pg_terminate_backend($1, 5000)", other._heart._own)
    deadline = time.monotonic() + 5
    while heard.empty():
        assert time.monotonic() < deadline
        await store.hint("p")
        await asyncio.sleep(0.1)


async def test_an_idle_store_holds_few_connections(postgres_dsn: str, open_store: Open) -> None:
    """At most four connections under load (two that write, one that reads, one that beats)."""
    store = await open_store(postgres_dsn + "?application_name=counted")
    await store.on_hint(lambda _payload: None)
    await asyncio.gather(
        *(store.commit(Pile(events=(event(f"e{number}"),))) for number in range(20)), *(store.registry() for _ in range(20))
    )
    async with store._writes.use() as connection:
        many = await connection.fetchval("select count(*) from pg_stat_activity where application_name = 'counted'")
    assert many <= 4


async def test_a_refusal_quotes_no_row(store: PostgresStore, postgres_dsn: str) -> None:
    """A row that a constraint refuses isn't told with the error, nor with its cause: what it says is logged, and stored with the run."""
    (held,) = (await store.commit(Pile(starts=(start(ulid(1)),), claim=claim()))).claimed
    side = await asyncpg.connect(postgres_dsn)
    await side.execute(f"alter table {store._schema}.steps add constraint plain check (step_id <> 'pay')")
    await side.close()
    with pytest.raises(StoreError, match=r"constraint .*plain.* \(23514\)") as caught:
        await store.commit(Pile(turns=(Turn(held.run_id, held.epoch, (step("pay", b'"4111-1111"'),)),)))
    told = "".join(traceback.format_exception(caught.value))
    assert "plain" in told
    assert "Failing row" not in told
    assert b"4111-1111".hex() not in told
