"""Who did what: a row in the store before it is done, and a line in the log. No act without its row; no payload in either."""

import re
from typing import Annotated, Any

import orjson
from fastapi import Depends, Query, Request
from starlette.responses import Response

from stepwell.clock import Clock
from stepwell.engine.audit import tell
from stepwell.gateway.access import Caller
from stepwell.gateway.answers import BadCursor, make_cursor, page, read_cursor
from stepwell.gateway.parts import Cursor, Limit, OneWell
from stepwell.gateway.views import act_view
from stepwell.store.access import AuditFilter, AuditRow
from stepwell.store.protocol import Store

REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
Wanted = Annotated[str | None, Query(max_length=512)]


class Audit:
    """The audit as one request writes it. `logged`: in the log as well as in the store."""

    def __init__(self, store: Store, clock: Clock, caller: Caller, request_id: str | None = None, *, logged: bool = True) -> None:
        self.caller = caller
        self._store = store
        self._clock = clock
        self._request_id = request_id
        self._logged = logged

    async def note(self, verb: str, thing: str, *, decision: str = "allowed", **detail: Any) -> None:
        """Write down what is about to be done; StoreUnavailable, and then it must not be done."""
        act = AuditRow(
            self._clock.now(), self.caller.name, verb, thing, decision, self._request_id, orjson.dumps(detail).decode()
        )
        await self._store.note(act)
        if self._logged:
            tell(act)


async def the_audit(request: Request, well: OneWell) -> Audit:
    """The audit, as whoever asks writes it. `X-Request-Id` is taken over where it can be one."""
    given = request.headers.get("x-request-id", "")
    request_id = given if REQUEST_ID.fullmatch(given) else well.ids.ulid(well.clock.now() // 1000)
    return Audit(well.store, well.clock, request.state.caller, request_id)


Books = Annotated[Audit, Depends(the_audit)]


async def list_audit(
    well: OneWell,
    actor: Wanted = None,
    verb: Wanted = None,
    object: Wanted = None,  # the column's name
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Response:
    """List privileged acts, newest first: who did what to which thing, and whether they were let."""
    before = read_cursor(cursor)
    if before is not None and not (before.isascii() and before.isdigit() and len(before) < 19):
        raise BadCursor("this cursor is of another list: leave it out, or take metadata.cursor of the page before")
    which = AuditFilter(actor, verb, object, None if before is None else int(before), limit + 1)
    found = await well.store.audit(which)
    more = make_cursor(str(found[limit - 1].audit_id)) if len(found) > limit else None
    return page([act_view(act) for act in found[:limit]], well.clock.now(), more)
