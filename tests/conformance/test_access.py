"""Keys and the audit: two live keys a name, and what happened can't be made undone."""

import pytest
from conformance.build import T0, Well
from conformance.conftest import Opened

from stepwell.store.access import AuditFilter, AuditRow, KeyRow
from stepwell.store.registry import FunctionRow


def key(number: int, name: str = "shop", *, created: int = T0) -> KeyRow:
    """A send-only key."""
    return KeyRow(f"k{number}", name, "send", bytes([number]) * 32, ("order/*", "paid"), created, "ada")


async def test_a_name_has_two_live_keys_at_most(well: Well) -> None:
    """A key can be rotated: a second one of its name is let in beside it, a third only after one was revoked."""
    store = well.store
    assert await store.add_key(key(1), 2)
    assert await store.add_key(key(2, created=T0 + 1), 2)
    assert not await store.add_key(key(3), 2)
    assert await store.add_key(key(4, "other"), 2)
    assert await store.revoke_key("k1", "bob", T0 + 5)
    assert await store.add_key(key(3, created=T0 + 2), 2)
    assert [one.key_id for one in await store.keys()] == ["k3", "k2", "k1", "k4"]


async def test_a_key_comes_back_as_it_was_given(well: Well) -> None:
    """What is stored of a key is its digest, its events and who made it; revoking it adds by whom and when, once."""
    store = well.store
    await store.add_key(key(1), 2)
    assert await store.keys() == [key(1)]
    assert await store.revoke_key("k1", "bob", T0 + 5)
    assert not await store.revoke_key("k1", "eve", T0 + 6)
    assert not await store.revoke_key("k9", "eve", T0 + 6)
    (row,) = await store.keys()
    assert (row.revoked, row.revoked_by) == (T0 + 5, "bob")


async def test_the_audit_is_listed_newest_first(well: Well) -> None:
    """Acts come back newest first, by actor, verb or object, page by page."""
    store = well.store
    for number, actor in enumerate(("ada", "bob", "ada")):
        await store.note(AuditRow(T0 + number, actor, "cancel", f"runs/{number}", "allowed", "r1", '{"n":1}'))
    rows = await store.audit(AuditFilter())
    assert [(row.at, row.actor, row.object) for row in rows] == [
        (T0 + 2, "ada", "runs/2"),
        (T0 + 1, "bob", "runs/1"),
        (T0, "ada", "runs/0"),
    ]
    assert rows[0] == AuditRow(T0 + 2, "ada", "cancel", "runs/2", "allowed", "r1", '{"n":1}', rows[0].audit_id)
    assert [row.object for row in await store.audit(AuditFilter(actor="ada", limit=1))] == ["runs/2"]
    assert [row.object for row in await store.audit(AuditFilter(actor="ada", before=rows[0].audit_id))] == ["runs/0"]
    assert await store.audit(AuditFilter(verb="rerun")) == []
    assert [row.actor for row in await store.audit(AuditFilter(object="runs/1"))] == ["bob"]


@pytest.mark.parametrize("statement", ["update audit set actor = 'eve'", "delete from audit"])
async def test_what_happened_stays(opened: Opened, statement: str) -> None:
    """No statement changes or removes an act of the last ninety days."""
    store = opened.well.store
    await store.note(AuditRow(T0, "ada", "cancel", "runs/1", "allowed"))
    with pytest.raises(Exception, match="only added to"):
        await opened.tamper(statement)
    assert len(await store.audit(AuditFilter())) == 1


async def test_old_acts_go_with_time(well: Well) -> None:
    """Upkeep drops acts that are older than ninety days, however short history is kept, and no others."""
    store = well.store
    await store.note(AuditRow(1, "ada", "cancel", "runs/1", "allowed"))
    await store.note(AuditRow(T0, "ada", "cancel", "runs/2", "allowed"))
    await store.retain(3_600_000_000, T0)
    assert [row.object for row in await store.audit(AuditFilter())] == ["runs/2"]


async def test_a_changed_function_is_an_act(well: Well) -> None:
    """Registering, changing and retiring a function is audited in the same transaction; registering the same again is not."""
    store = well.store
    for revision in ("r1", "r1", "r2"):
        await store.register("one", [FunctionRow("f", revision, "p", "one", b"{}")], [])
    await store.register("one", [], [])
    rows = await store.audit(AuditFilter(object="functions/f"))
    assert [(row.actor, row.verb) for row in rows] == [("one", "retire"), ("one", "change"), ("one", "register")]
    assert [row.detail.replace(" ", "") for row in rows[:2]] == ['{"revision":"r2"}', '{"revision":"r2"}']
