"""One well, twice: in SQLite and in Postgres, on one clock that the test sets. What one store does, the other must do."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import fields, replace
from typing import Any, TypeVar

import asyncpg
import orjson
from conformance.build import T0
from model.picture import Picture, difference, pictured, postgres_statement, sqlite_statement

from stepwell.store.postgres import PostgresStore
from stepwell.store.protocol import Store
from stepwell.store.records import Pile
from stepwell.store.results import PileResult
from stepwell.store.sqlite import SqliteStore

T = TypeVar("T")
SCHEMA = "model"
KEPT = ("migrations", "registry", "days", "audit")
TABLES = """
select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1 and c.relkind in ('r', 'p') and not c.relispartition and c.relname <> all ($2::text[])
"""


class Pair:
    """Both stores, opened once and emptied before each example; the verbs run in both at the same time."""

    def __init__(self, dsn: str) -> None:
        self.now = T0
        self.horizon = 0
        self._recorded: dict[tuple[str, str, int], int] = {}
        self.loop = asyncio.new_event_loop()
        # Nothing here is about durability, and a disk's fsync would be most of the time.
        self._dsn = f"{dsn}?options=-c%20synchronous_commit%3Doff"
        self.loop.run_until_complete(self._open())

    async def _open(self) -> None:
        self.sqlite = SqliteStore(":memory:", lambda: self.now)
        self.postgres = PostgresStore(self._dsn, SCHEMA, lambda: self.now, unsafe=True)
        for store in (self.sqlite, self.postgres):
            await store.migrate()
            await store.open()
        self._side = await asyncpg.connect(self._dsn, server_settings={"search_path": SCHEMA})
        # The test's clock is ahead of the server's, so all rows are in the DEFAULT partitions; with the others every plan, and every
        # retention that makes and drops them, takes many times as long.
        self.postgres._sql["make_day"] = "select $1::integer is null"
        for row in await self._side.fetch("select day from days"):
            await self._side.fetchval("select drop_day($1)", row["day"])
        names = [row["relname"] for row in await self._side.fetch(TABLES, SCHEMA, KEPT)]
        self._emptying = ";".join([*(f"delete from {name}" for name in names), "update registry set version = 1"])
        self._emptying_sqlite = [*(f"DELETE FROM {name}" for name in names), "UPDATE registry SET version = 1"]
        self._looking = await self._side.prepare(postgres_statement())
        self._looking_sqlite = sqlite_statement()

    def close(self) -> None:
        """Let go of both."""

        async def work() -> None:
            await self._side.close()
            await self.postgres.close()
            await self.sqlite.close()

        self.loop.run_until_complete(work())
        self.loop.close()

    def empty(self) -> None:
        """Begin anew."""
        self.now = T0
        self.horizon = 0
        self._recorded.clear()

        async def work() -> None:
            await self._side.execute(self._emptying)
            await self.sqlite._writer.run(
                lambda connection: [connection.execute(one).fetchall() for one in self._emptying_sqlite]
            )

        self.loop.run_until_complete(work())

    def both(self, verb: Callable[[Store], Awaitable[T]], shape: Callable[[T], Any] = lambda answer: answer) -> T:
        """Do it in both stores; SQLite's answer, which is Postgres's too."""

        async def work() -> tuple[T, T]:
            return await asyncio.gather(verb(self.sqlite), verb(self.postgres))  # type: ignore[arg-type]

        one, other = self.loop.run_until_complete(work())
        assert shape(one) == shape(other), f"the answers differ\n{_told(shape(one), shape(other))}"
        return one

    def commit(self, pile: Pile) -> PileResult:
        """Commit in both at this instant, and the answers are the same but for orders that nobody promises."""
        return self.both(lambda store: store.commit(replace(pile, now=self.now)), shaped)

    def look(self) -> Picture:
        """All rows, the same in both; and the doctor of both finds nothing."""

        async def work() -> tuple[str, Any, list[Any]]:
            looking = self.sqlite._writer.run(lambda connection: connection.execute(self._looking_sqlite).fetchone()[0])
            return await asyncio.gather(looking, self._looking.fetchrow(self.now), self.sqlite.doctor(self.now))  # type: ignore[arg-type]

        text, row, ill = self.loop.run_until_complete(work())
        rows, others = self._in_order(orjson.loads(text)), self._in_order(orjson.loads(row["rows"]))
        one = self._young(pictured(rows))
        if rows != others and (found := difference(one, self._young(pictured(others)))):
            raise AssertionError("the rows differ\n" + "\n".join(found))
        assert ill == [], f"SQLite's doctor: {ill}"
        assert not any(orjson.loads(row["doctor"]).values()), f"Postgres's doctor: {row['doctor']}"
        return one

    def _in_order(self, rows: dict[str, list[list[Any]]]) -> dict[str, list[list[Any]]]:
        """Journals in the order of the piles that recorded them; nobody promises one for what a pile records at once."""
        steps = rows["steps"]
        seen = len(self._recorded)
        places = [(row[0], self._recorded.setdefault((row[0], row[1], row[2]), seen)) for row in steps]
        assert places == sorted(places), f"a journal isn't in the order in which it was recorded: {steps}"
        steps.sort(key=lambda row: row[:3])
        return rows

    def _young(self, rows: Picture) -> Picture:
        """Without events from before the horizon of retention: one store keeps those of live runs, the other goes by day."""
        if self.horizon:
            rows["events"] = [row for row in rows["events"] if row.received >= self.horizon]
        return rows


def shaped(result: PileResult) -> PileResult:
    """The answer without the orders that nobody promises."""
    return replace(
        result,
        candidates=tuple(sorted(result.candidates, key=repr)),
        claimed=tuple(sorted(result.claimed, key=repr)),
        news=tuple(sorted(result.news, key=repr)),
        overdue=tuple(sorted(result.overdue, key=repr)),
    )


def _told(one: Any, other: Any) -> str:
    """The fields that differ, or all."""
    if not isinstance(one, PileResult):
        return f"sqlite   {one}\npostgres {other}"
    differing = [field.name for field in fields(one) if getattr(one, field.name) != getattr(other, field.name)]
    return "\n".join(f"{name}: sqlite {getattr(one, name)}, postgres {getattr(other, name)}" for name in differing)
