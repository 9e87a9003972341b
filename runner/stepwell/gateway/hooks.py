"""`POST /hooks/{key_id}`: events of senders that can't hold a key but sign, as standardwebhooks.com has it."""

import base64
import binascii
import hashlib
import hmac
from typing import cast

from fastapi import Request
from starlette.responses import Response

from stepwell import values
from stepwell.engine.event_keys import EVERY
from stepwell.errors import SpecError
from stepwell.gateway.access import Caller, Kind, NotAdmittedError
from stepwell.gateway.body import parse_json, read_body
from stepwell.gateway.doorkeeper import Doorkeeper
from stepwell.gateway.ingest import Given, take
from stepwell.gateway.parts import OneWell
from stepwell.store.access import KeyRow

TOLERANCE = 300
"""Seconds that a signature's timestamp may lie away from now."""

MOST_ID, MOST_SIGNATURES = 90, 10


async def receive_hook(key_id: str, request: Request, well: OneWell) -> Response:
    """Accept a signed webhook as one event, as `POST /e/{key}` does. Its id is the webhook's, so that a replay is a duplicate.

    The event's name is the key's, if that has a single one, else the payload's `type`; its data is the payload. 401 for a
    signature that isn't right, that is older than five minutes or from the future, and for a webhook that isn't known.
    """
    doorkeeper: Doorkeeper = request.app.state.doorkeeper
    row = await doorkeeper.stored.webhook(key_id)
    hook_id, timestamp = request.headers.get("webhook-id", ""), request.headers.get("webhook-timestamp", "")
    signatures = request.headers.get("webhook-signature", "")
    if row is None or "v1," not in signatures or not _is_fresh(timestamp, well.clock.now() // 1_000_000):
        # Who knows no webhook's id, or has nothing that could be its signature, has no body read.
        raise _forged()

    async def read() -> object:
        body = await read_body(request, "webhook", values.MAX_EVENT)
        if not is_signed(row.proof, (hook_id, timestamp, signatures), body):
            raise _forged()
        payload = parse_json(body, "webhook")
        return {"id": f"{row.key_id}-{hook_id}", "name": _name(row, payload), "data": payload}

    return await take(request, Caller(f"webhook:{row.name}/{row.key_id}", Kind.WEBHOOK, row.events), Given(read))


def is_signed(secret: bytes, headers: tuple[str, str, str], body: bytes) -> bool:
    """Whether one of the signatures is HMAC-SHA256 over `id.timestamp.body`; headers are id, timestamp and signatures."""
    hook_id, timestamp, signatures = headers
    if not 1 <= len(hook_id) <= MOST_ID:
        return False
    content = f"{hook_id}.{timestamp}.".encode() + body
    wanted = hmac.new(secret, content, hashlib.sha256).digest()
    found = False
    for signature in signatures.split(" ")[:MOST_SIGNATURES]:
        version, _, text = signature.partition(",")
        try:
            given = base64.b64decode(text, validate=True) if version == "v1" else b""
        except (binascii.Error, ValueError):
            given = b""
        found |= hmac.compare_digest(given, wanted)
    return found


def _forged() -> NotAdmittedError:
    return NotAdmittedError(401, "the webhook's signature, id or timestamp is not right, or there is no such webhook")


def _is_fresh(timestamp: str, now: int) -> bool:
    return timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 16 and abs(now - int(timestamp)) <= TOLERANCE


def _name(row: KeyRow, payload: object) -> str:
    if len(row.events) == 1 and row.events[0] != EVERY and not row.events[0].endswith("*"):
        return row.events[0]
    told = cast("dict[str, object]", payload).get("type") if isinstance(payload, dict) else None
    if not isinstance(told, str):
        raise SpecError("the webhook may send several events, so its payload has to name one in `type`", "type")
    return told
