"""What an address may carry besides where the database is."""

from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import asyncpg
import pytest

from stepwell.errors import AddressRefused, StoreError
from stepwell.store.postgres import PostgresStore
from stepwell.store.postgres.connect import Address, parse_address
from stepwell.store.registry import FunctionRow


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


@pytest.mark.parametrize(
    "dsn",
    [
        "secret",
        "host=h password=secret",
        "mysql://u:secret@h/d",
        "postgresql://u:secret@h:secret/d",
        "postgresql://u:secret@[::1/d",
    ],
)
def test_what_is_no_address_is_refused_untold(dsn: str) -> None:
    """An address that can't be read is refused with its form, and with nothing out of it."""
    with pytest.raises(AddressRefused, match="USER:PASSWORD@HOST:PORT/DATABASE") as refused:
        PostgresStore(dsn)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("host", ["db..svc", "h%00", f"{'h' * 64}.svc"])
async def test_a_host_that_no_resolver_takes_is_refused_untold(host: str) -> None:
    """A host that can't be one, found out on connecting, is a refused address as well; no user has to be told of codecs."""
    with pytest.raises(AddressRefused, match="USER:PASSWORD@HOST:PORT/DATABASE") as refused:
        await PostgresStore(f"postgresql://u:secret@{host}/d").migrate()
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "dsn", ["postgresql://u:p@a:5432,b:5433/d", "postgresql://u:p@[::1]:5432/d", "postgres:///d?host=/run/x"]
)
def test_several_hosts_and_sockets_are_addresses(dsn: str) -> None:
    """What the driver can read is left to it."""
    kept, given = urlsplit(parse_address(dsn).dsn), urlsplit(dsn)
    assert (kept.netloc, kept.path, parse_qsl(kept.query)) == (given.netloc, given.path, parse_qsl(given.query))


async def test_a_stranger_is_refused_unnamed(postgres_dsn: str) -> None:
    """Who has no role here, and what is no database, hears so without being named."""
    for other in (
        f"postgresql://nobody-secret:secret@{postgres_dsn.rpartition('@')[2]}",
        f"{postgres_dsn.rpartition('/')[0]}/secret",
    ):
        with pytest.raises(AddressRefused, match=r"Postgres refuses the (user or password|database)") as refused:
            await PostgresStore(other).migrate()
        assert "secret" not in str(refused.value)


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
