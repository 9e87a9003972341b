"""Keys made, listed, revoked: by a route, or by hand on a store. A secret is shown once, when it is made, and never again."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fastapi import Request
from starlette.responses import Response

from stepwell.clock import Clock, SystemClock
from stepwell.engine.event_keys import LIVE, SEND, WEBHOOK, new_key
from stepwell.errors import Unknown
from stepwell.gateway.access import Caller, Kind
from stepwell.gateway.answers import KeyLimit, answer
from stepwell.gateway.audit import Audit, Books
from stepwell.gateway.body import read_json
from stepwell.gateway.doorkeeper import Doorkeeper
from stepwell.gateway.parts import OneWell, read_model
from stepwell.gateway.requests import KeyRequest
from stepwell.gateway.views import key_view
from stepwell.ids import Ids
from stepwell.store.access import KeyRow
from stepwell.store.protocol import Store
from stepwell.values import MAX_EVENT


class Keyring:
    """The keys of a well, as somebody named changes them; what they do is audited."""

    def __init__(self, store: Store, clock: Clock, ids: Ids, audit: Audit) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._audit = audit

    @classmethod
    def by_hand(cls, store: Store, name: str) -> "Keyring":
        """For whoever holds the store's address, and so may do everything."""
        clock = SystemClock()
        return cls(store, clock, Ids(), Audit(store, clock, Caller(name, Kind.API_KEY), logged=False))

    async def create(self, name: str, events: Sequence[str], *, webhook: bool = False) -> dict[str, Any]:
        """A new key, with its text in `key`; SpecError if it can't be, KeyLimit if its name has two live ones."""
        now, key_id = self._clock.now(), self._ids.ulid(0)[10:].lower()
        wanted = KeyRow(key_id, name, WEBHOOK if webhook else SEND, b"", tuple(events), now, self._audit.caller.name)
        row, text = new_key(wanted, self._ids.secret())
        await self._audit.note("create key", f"keys/{row.key_id}", name=row.name, kind=row.kind, events=row.events)
        if not await self._store.add_key(row, LIVE):
            raise KeyLimit(
                f"{name!r} has {LIVE} live keys; revoke one of them first (`stepwell keys list`, `stepwell keys revoke ID`)"
            )
        return {**key_view(row), "key": text}

    async def all(self) -> list[dict[str, Any]]:
        """Every key that was given out, newest first, without what is secret in it."""
        return [key_view(replace(row, proof=b"")) for row in await self._store.keys()]

    async def revoke(self, key_id: str) -> dict[str, Any]:
        """End a key; Unknown if there is no live one of this id."""
        await self._audit.note("revoke key", f"keys/{key_id}")
        if not await self._store.revoke_key(key_id, self._audit.caller.name, self._clock.now()):
            raise Unknown(f"there is no live key {key_id!r}")
        return {"key_id": key_id, "revoked": True}


async def create_key(request: Request, well: OneWell, audit: Books) -> Response:
    """Make a key that may send the named events and nothing else. 201 shows it, once; 409 if its name has two live ones."""
    told = read_model(KeyRequest, await read_json(request, "request", MAX_EVENT))
    made = await _ring(well, audit).create(told.name, told.events, webhook=told.webhook)
    _forget(request)
    return answer(made, well.clock.now(), status=201)


async def list_keys(well: OneWell, audit: Books) -> Response:
    """List every key that was given out, newest first, without what is secret in it."""
    return answer(await _ring(well, audit).all(), well.clock.now())


async def revoke_key(key_id: str, request: Request, well: OneWell, audit: Books) -> Response:
    """End a key: it is shut out within five seconds everywhere. 404 if there is no live one of this id."""
    done = await _ring(well, audit).revoke(key_id)
    _forget(request)
    return answer(done, well.clock.now())


def _ring(well: OneWell, audit: Audit) -> Keyring:
    return Keyring(well.store, well.clock, well.ids, audit)


def _forget(request: Request) -> None:
    doorkeeper: Doorkeeper = request.app.state.doorkeeper
    doorkeeper.stored.forget()
