"""What an address may carry besides where the database is."""

from uuid import uuid4

import asyncpg
import pytest

from stepwell.errors import StoreError
from stepwell.store.postgres import PostgresStore
from stepwell.store.postgres.connect import Address, parse_address
from stepwell.store.records import FunctionRow


@pytest.mark.parametrize(
    ("dsn", "address"),
    [
        ("postgresql://h/d", Address("postgresql://h/d")),
        ("postgresql://h/d?schema=shop", Address("postgresql://h/d", schema="shop")),
        ("postgresql://h/d?schema=a%22b%20c", Address("postgresql://h/d", schema='a"b c')),
        ("postgresql://h/d?sslmode=require&schema=s&reads=3", Address("postgresql://h/d?sslmode=require", reads=3, schema="s")),
        ("postgresql://h/d?pooler=1", Address("postgresql://h/d", pooler=True)),
    ],
)
def test_what_is_ours_is_taken_out(dsn: str, address: Address) -> None:
    """`schema`, `pooler` and `reads` are ours; the rest goes to the driver."""
    assert parse_address(dsn) == address


@pytest.mark.parametrize("query", ["schema=", f"schema={'x' * 64}", "schema=a%00b", "reads=0"])
def test_what_can_not_be_is_refused(query: str) -> None:
    """A schema's name has 1 to 63 bytes, and somebody has to read."""
    with pytest.raises(StoreError, match=query.partition("=")[0]):
        parse_address(f"postgresql://h/d?{query}")


async def test_the_address_alone_names_a_well(postgres_dsn: str) -> None:
    """Two addresses that differ in their schema are two wells; the schema that a caller names wins over the address's."""
    one, other = f"one_{uuid4().hex}", f"other_{uuid4().hex}"
    stores = [PostgresStore(f"{postgres_dsn}?schema={name}") for name in (one, other)]
    for store in stores:
        await store.migrate()
        await store.open()
    await stores[0].register("tests", [FunctionRow("f", "r1", "p", "tests", b"{}")], [])
    assert [len((await store.registry()).functions) for store in stores] == [1, 0]
    named = PostgresStore(f"{postgres_dsn}?schema={other}", schema=one)
    await named.open()
    assert len((await named.registry()).functions) == 1
    for store in (*stores, named):
        await store.close()
    side = await asyncpg.connect(postgres_dsn)
    assert await side.fetchval("select count(*) from pg_namespace where nspname in ($1, $2)", one, other) == 2
    await side.close()
