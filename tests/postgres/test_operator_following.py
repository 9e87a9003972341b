"""Wells follow the administrator's address, or stay where they are and usable; the API server's part is played by a dict of Secrets."""

import asyncio
import base64
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import orjson
import pytest
from structlog.testing import capture_logs
from unit.operator.observations import NAME, register_of, target_at

from stepwell_operator import following
from stepwell_operator.contents import UNREADABLE
from stepwell_operator.facts import WellFacts
from stepwell_operator.names import PLACE
from stepwell_operator.provision import AdministratorAway, schema_of
from stepwell_operator.settings import Settings
from stepwell_operator.settling import Owners
from stepwell_operator.wells import Wells

AWAY = "postgresql://postgres@127.0.0.1:1/postgres"
STUCK = "wells stay where they are: the administrator's new address can't be followed"
LEFT = "a well's Secret doesn't follow the administrator's address; deleted, it is made anew there"


class Secrets:
    """Secrets by namespace and name, read and written as the API server's."""

    def __init__(self) -> None:
        self.there: dict[tuple[str, str], dict[str, Any]] = {}

    def put(self, namespace: str, name: str, dsn: str | bytes, place: str = "") -> None:
        """Write a Secret by hand."""
        data = {"dsn": base64.b64encode(dsn if isinstance(dsn, bytes) else dsn.encode()).decode()}
        self.there[namespace, name] = {
            "metadata": {"name": name, "annotations": {PLACE: place} if place else {}},
            "data": data,
        }

    def dsn(self, namespace: str, name: str = "stepwell-store") -> str:
        """The address in a namespace's Secret."""
        return base64.b64decode(self.there[namespace, name]["data"]["dsn"]).decode()

    def place(self, namespace: str) -> str:
        """Where it says that its address was made from."""
        return self.there[namespace, "stepwell-store"]["metadata"].get("annotations", {}).get(PLACE, "")

    async def get(self, _kind: object, namespace: str, name: str) -> dict[str, Any] | None:
        return self.there.get((namespace, name))

    async def apply(self, document: dict[str, Any]) -> None:
        data = {name: base64.b64encode(value.encode()).decode() for name, value in document["stringData"].items()}
        metadata = document["metadata"]
        self.there[metadata["namespace"], metadata["name"]] = {"metadata": metadata, "data": data}

    def to_write(self) -> None:
        """Nobody else leads."""

    async def create(self, _kind: object, _namespace: str, document: dict[str, Any]) -> None:
        await self.apply(document)


class Operator:
    """An operator's hold on wells, an hour of its clock and the administrator's Secret."""

    def __init__(self, dsn: str) -> None:
        self.now = 1000.0
        self.secrets = Secrets()
        self.administrate(dsn)
        self.wells = Wells(cast("Any", self.secrets), Settings("sys", "operator-0", admin_secret="admin"), lambda: self.now)

    def administrate(self, dsn: str | bytes) -> None:
        """Edit the administrator's Secret."""
        self.secrets.put("sys", "admin", dsn)

    @property
    def admin(self) -> str:
        """The administrator's address."""
        return self.secrets.dsn("sys", "admin")

    async def prepare(self, namespace: str, store: str = "default") -> WellFacts:
        """Look at a namespace's well."""
        return await self.wells.prepare(namespace, store, None, Owners([]))


@pytest.fixture
async def operator(postgres_dsn: str) -> AsyncIterator[Operator]:
    """An operator that administers the session's Postgres."""
    made = Operator(postgres_dsn)
    yield made
    await made.wells.close()


@pytest.fixture
async def side(postgres_dsn: str) -> AsyncIterator[Any]:
    """A connection of the administrator's."""
    made = await asyncpg.connect(postgres_dsn)
    yield made
    await made.close()


@pytest.fixture
def shop() -> str:
    """A namespace's name of its own."""
    return f"shop-{uuid4().hex[:8]}"


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every address to which a connection was tried to see whether wells may follow."""
    made: list[str] = []
    reach = following.reach

    async def counted(admin: str) -> None:
        made.append(admin)
        await reach(admin)

    monkeypatch.setattr(following, "reach", counted)
    return made


def events(logged: list[Any], event: str) -> list[Any]:
    """The lines with this text."""
    return [one for one in logged if one["event"] == event]


async def test_wells_stay_ready_while_the_new_address_can_not_be_reached(operator: Operator, shop: str, tries: list[str]) -> None:
    """A wrong host in the administrator's Secret is told once, tried once a minute for all wells, and no well notices it."""
    places = [shop, f"{shop}-b"]
    before = {place: ((await operator.prepare(place)).reason, operator.secrets.dsn(place)) for place in places}
    good = operator.admin
    operator.administrate(AWAY)
    with capture_logs() as logged:
        for _ in range(2):
            after = {place: ((await operator.prepare(place)).reason, operator.secrets.dsn(place)) for place in places}
            assert after == before
            assert before[shop][0] == "Connected"
    assert (tries, len(events(logged, STUCK))) == ([AWAY], 1)
    operator.now += following.PAUSE
    await operator.prepare(shop)
    assert tries == [AWAY, AWAY]
    operator.administrate(good)
    assert (await operator.prepare(shop)).ready
    assert tries == [AWAY, AWAY]


@pytest.mark.parametrize("bad", ["postgresql://u:secret@[::1/d", b"\xff\xfe", "postgresql://h/d?password=secret", "h"])
async def test_wells_stay_ready_while_the_new_address_can_not_be_read(operator: Operator, shop: str, bad: str | bytes) -> None:
    """An administrator's Secret that is no address is told once, without what is in it, and no well notices it."""
    await operator.prepare(shop)
    before = operator.secrets.dsn(shop)
    operator.administrate(bad)
    with capture_logs() as logged:
        assert (await operator.prepare(shop)).ready
        assert (await operator.prepare(shop)).ready
    assert operator.secrets.dsn(shop) == before
    assert len(events(logged, STUCK)) == 1
    assert "secret" not in str(logged)


async def test_a_well_that_is_away_says_why_it_does_not_follow(operator: Operator, shop: str) -> None:
    """Where the old address is of no use either, the status names what is wrong with the new one."""
    await operator.prepare(shop)
    old = operator.secrets.dsn(shop)
    port = urlsplit(old).port
    operator.secrets.put(shop, "stepwell-store", old.replace(f":{port}/", ":1/"), following.place_of(AWAY))
    operator.administrate(AWAY.replace(":1/", ":2/"))
    told = await operator.prepare(shop)
    assert told.reason == "Unreachable"
    assert "this namespace's credentials; the administrator's Postgres can't be used" in told.message


async def test_an_answer_that_breaks_off_is_not_asked_for_again_at_once(
    operator: Operator, shop: str, tries: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Postgres that answered and is gone when the well is to be moved counts as away for all wells, too."""

    async def provision(admin: str, *_: object, **_more: object) -> None:
        asked.append(admin)
        raise AdministratorAway("gone")

    asked: list[str] = []
    await operator.prepare(shop)
    admin = operator.admin + "?sslmode=disable"
    operator.administrate(admin)
    monkeypatch.setattr(following, "provision", provision)
    assert (await operator.prepare(shop)).ready
    assert (await operator.prepare(shop)).ready
    assert (tries, asked) == ([admin], [admin])


async def test_an_address_edited_by_hand_stays_when_the_administrators_changes(operator: Operator, shop: str) -> None:
    """By way of a pooler, with our role and password and with the Secret's annotation still there: it is used and left alone."""
    await operator.prepare(shop)
    by_hand = operator.secrets.dsn(shop).replace("127.0.0.1", "localhost")
    place = operator.secrets.place(shop)
    operator.secrets.put(shop, "stepwell-store", by_hand, place)
    admin = operator.admin + "?sslmode=disable"
    operator.administrate(admin)
    with capture_logs() as logged:
        for _ in range(2):
            assert (await operator.prepare(shop)).ready
    assert (operator.secrets.dsn(shop), operator.secrets.place(shop)) == (by_hand, place)
    assert [one["why"] for one in events(logged, LEFT)] == ["edited by hand"]


async def test_an_address_of_an_earlier_release_says_that_it_stays(operator: Operator, shop: str) -> None:
    """Without a word of where it was made from it isn't known to be ours: a line in the log, once, says how it would follow."""
    await operator.prepare(shop)
    before = operator.secrets.dsn(shop)
    operator.secrets.put(shop, "stepwell-store", before)
    admin = operator.admin + "?sslmode=disable"
    operator.administrate(admin)
    with capture_logs() as logged:
        for _ in range(2):
            assert (await operator.prepare(shop)).ready
    assert (operator.secrets.dsn(shop), operator.secrets.place(shop)) == (before, "")
    assert [one["namespace"] for one in events(logged, LEFT)] == [shop]
    del operator.secrets.there[shop, "stepwell-store"]
    assert (await operator.prepare(shop)).ready
    assert "sslmode=disable" in operator.secrets.dsn(shop)


async def test_a_role_that_may_not_connect_is_not_made_again(operator: Operator, shop: str, side: Any) -> None:
    """Whoever revokes CONNECT means it: nothing is written to Postgres for that, and nothing is said of a role made again."""
    database, role = f"d_{uuid4().hex}", schema_of(shop)
    await side.execute(f"create database {database}")
    operator.administrate(f"{operator.admin.rpartition('/')[0]}/{database}")
    assert (await operator.prepare(shop)).ready
    await operator.wells.forget(shop, "default")
    await side.execute(f"revoke connect on database {database} from public")
    written = "select xmin::text from pg_authid where rolname = $1"
    before = await side.fetchval(written, role)
    with capture_logs() as logged:
        told = await operator.prepare(shop)
    assert (told.reason, told.message) == ("Unreachable", "Postgres refuses the database of this address (42501)")
    assert await side.fetchval(written, role) == before
    assert events(logged, "made a well's role and schema again") == []
    await side.execute(f"grant connect on database {database} to public")
    assert (await operator.prepare(shop)).ready


async def test_a_role_that_stays_refused_is_made_again_once_a_minute(operator: Operator, shop: str, side: Any) -> None:
    """What making the role again doesn't mend isn't done at each look: a schema of somebody else's, as an example."""
    name = schema_of(shop)
    assert (await operator.prepare(shop)).ready
    await operator.wells.forget(shop, "default")
    await side.execute(f"drop schema {name} cascade; create schema {name} authorization postgres")
    with capture_logs() as logged:
        for seconds in (0, 1, 100):
            operator.now += seconds
            assert (await operator.prepare(shop)).reason == "Unreachable"
    assert len(events(logged, "made a well's role and schema again")) == 2
    await side.execute(f"alter schema {name} owner to {name}")
    assert (await operator.prepare(shop)).ready
    await side.execute(f"drop schema {name} cascade")
    await operator.wells.look(shop, "default")
    assert (await operator.prepare(shop)).ready


async def test_no_other_store_gets_a_role_of_ours(operator: Operator, shop: str, side: Any) -> None:
    """A Secret that a namespace writes for a store `x` has no role made, and none's password changed, whatever it is named."""
    theirs, nobodys = f"{shop}--x", f"{shop}--y"
    await operator.prepare(theirs)
    old, role, other = operator.secrets.dsn(theirs), schema_of(theirs), schema_of(nobodys)
    written = "select xmin::text from pg_authid where rolname = $1"
    before = await side.fetchval(written, role)
    mine, moved = old.replace(urlsplit(old).password or "", "m" * 32), old.replace("127.0.0.1", "localhost")
    operator.secrets.put(shop, "stepwell-store-y", mine.replace(role, other))
    operator.secrets.put(shop, "stepwell-store-x", moved, following.place_of(moved))
    assert (await operator.prepare(shop, "y")).reason == "Unreachable"
    await operator.prepare(shop, "x")
    assert await side.fetchval(written, other) is None
    assert await side.fetchval(written, role) == before
    assert operator.secrets.dsn(shop, "stepwell-store-x") == moved


async def test_a_spoiled_well_is_told_of_when_it_is_prepared(operator: Operator, shop: str, side: Any) -> None:
    """What a namespace's role has made of its well is no error of the operator's: the status says that it can't be used."""
    name = schema_of(shop)
    facts = await operator.prepare(shop)
    await operator.wells.register(facts, NAME, register_of(target_at(1)))
    await side.execute(f"alter table {name}.functions alter spec drop not null; update {name}.functions set spec = null")
    await operator.wells.forget(shop, "default")
    told = await operator.prepare(shop)
    assert (told.reason, told.message) == ("Unreachable", UNREADABLE)


@pytest.mark.parametrize("schema", [None, "mine"])
@pytest.mark.parametrize(
    "address",
    [
        b"postgresql://u:secret\xff@127.0.0.1/d",
        b"postgresql://u:secret@db..svc/d",
        b"postgresql://u:secret@" + b"h" * 64 + b".svc/d",
        b"postgresql://u:secret@h%00/d",
        b"postgresql://u:secret@[::1/d",
        "postgresql://u:secret\uff20s@127.0.0.1/d".encode(),
    ],
)
async def test_an_address_of_a_users_that_can_not_be_read_is_refused_untold(
    operator: Operator, shop: str, address: bytes, schema: str | None
) -> None:
    """Whatever is wrong with it, the well says that it can't be used, and neither status nor log repeats it."""
    operator.secrets.put(shop, "mine", address)
    spec = {"secretRef": {"name": "mine"}} | ({"schema": schema} if schema else {})
    seen = SimpleNamespace(name="mine", spec=orjson.dumps(spec))
    with capture_logs() as logged:
        told = await operator.wells.prepare(shop, "mine", cast("Any", seen), Owners([]))
    assert told.reason == "Unreachable"
    assert "secret" not in f"{told.message} {logged}"
    assert "can't be told" not in str(logged)  # it is known what it is


async def test_our_secret_with_what_is_no_text_is_told(operator: Operator, shop: str) -> None:
    """Bytes that somebody has put into the Secret that we made are said so, and where; with a DurableStore they are written over."""
    operator.secrets.put(shop, "stepwell-store", b"\xff\xfe")
    told = await operator.prepare(shop)
    assert (told.reason, told.message) == ("Unreachable", "the address in Secret 'stepwell-store', key 'dsn', is no UTF-8 text")
    operator.secrets.put(shop, "mine", AWAY)
    seen = SimpleNamespace(name="default", spec=orjson.dumps({"secretRef": {"name": "mine"}}))
    await operator.wells.prepare(shop, "default", cast("Any", seen), Owners([]))
    assert operator.secrets.dsn(shop) == AWAY


async def test_a_store_that_is_slow_to_fail_is_left_alone_until_its_address_changes(operator: Operator, shop: str) -> None:
    """Of looks at such a well most ask the store nothing and say what was said before; another address is tried at once."""
    tried: list[str] = []

    async def let_wait(_reader: object, writer: asyncio.StreamWriter) -> None:
        operator.now += 5  # so long it took
        tried.append("tried")
        writer.close()

    async with await asyncio.start_server(let_wait, "127.0.0.1", 0) as server:
        [port] = {one.getsockname()[1] for one in server.sockets}
        operator.secrets.put(shop, "stepwell-store", f"postgresql://u:p@127.0.0.1:{port}/d?sslmode=disable")
        for seconds in (0, 4, 4, 4, 4, 4, 4):
            operator.now += seconds
            told = await operator.prepare(shop)
            assert told.reason == "Unreachable"
            assert "can't be reached" in told.message
        assert len(tried) == 3
        del operator.secrets.there[shop, "stepwell-store"]
        assert (await operator.prepare(shop)).ready
        assert len(tried) == 3
