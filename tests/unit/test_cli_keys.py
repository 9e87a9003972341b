"""`stepwell keys --store`: what is done past every gateway is written down all the same."""

import asyncio
import getpass
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from stepwell.cli import main
from stepwell.store.access import AuditFilter, AuditRow
from stepwell.store.sqlite import SqliteStore


async def make(path: Path) -> None:
    """An empty store."""
    store = SqliteStore(str(path))
    await store.migrate()
    await store.close()


async def acts(path: Path) -> Sequence[AuditRow]:
    """The audit of a store, newest first."""
    store = SqliteStore(str(path))
    await store.open()
    try:
        return await store.audit(AuditFilter())
    finally:
        await store.close()


def test_keys_made_by_hand_are_audited(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Making and revoking a key on a store itself leaves a row each, in the name of the operating system's user."""
    path = tmp_path / "well.db"
    asyncio.run(make(path))
    assert main(["keys", "create", "shop", "--store", str(path), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert main(["keys", "revoke", made["key_id"], "--store", str(path)]) == 0
    told = [(one.actor, one.verb, one.object) for one in asyncio.run(acts(path))]
    thing = f"keys/{made['key_id']}"
    assert told == [(f"store:{getpass.getuser()}", verb, thing) for verb in ("revoke key", "create key")]
