"""Keys for senders: how they are made, known again, and what they may send. Pure.

A send key is `swk_ID_SECRET`: its id finds the row, its secret (256 bit) is stored as a SHA-256 and is shown once. A webhook's
secret is `whsec_…` as Standard Webhooks has it; it has to be stored as it is, for it signs.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import replace

from pydantic_core import PydanticCustomError

from stepwell.engine.trigger import covers
from stepwell.errors import SpecError
from stepwell.spec.names import check_event_name
from stepwell.store.access import KeyRow

SEND, WEBHOOK = "send", "webhook"
PREFIX, WEBHOOK_PREFIX = "swk_", "whsec_"
EVERY = "*"
"""All events but ours; not a trigger's wildcard, which needs something before its `*`."""

LIVE = 2
"""Live keys of one name: the old one and the new one, while senders move from one to the other."""

MOST_NAME, MOST_EVENTS = 63, 50


def new_key(wanted: KeyRow, secret: bytes) -> tuple[KeyRow, str]:
    """The row to store, and the text to show once. `wanted` has no proof yet; SpecError if its name or events can't be."""
    _check(wanted)
    if wanted.kind == WEBHOOK:
        return replace(wanted, proof=secret), WEBHOOK_PREFIX + base64.b64encode(secret).decode()
    text = f"{PREFIX}{wanted.key_id}_{base64.urlsafe_b64encode(secret).decode().rstrip('=')}"
    return replace(wanted, proof=digest(text)), text


def key_id_of(text: str) -> str | None:
    """The id in a send key; None if this can't be one."""
    if not text.startswith(PREFIX):
        return None
    key_id, separator, secret = text.removeprefix(PREFIX).partition("_")
    return key_id if separator and secret else None


def is_proof(row: KeyRow, text: str) -> bool:
    """Whether this text is the live send key of that row, compared in constant time."""
    return row.kind == SEND and row.revoked is None and hmac.compare_digest(digest(text), row.proof)


def may_send(events: Sequence[str], name: str) -> bool:
    """Whether events of this name are among these names and wildcards."""
    return any(pattern == EVERY or covers(pattern, name) for pattern in events)


def digest(text: str) -> bytes:
    """A key as it is kept."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _check(wanted: KeyRow) -> None:
    name = wanted.name
    if not 1 <= len(name) <= MOST_NAME or not all(letter in "abcdefghijklmnopqrstuvwxyz0123456789-" for letter in name):
        raise SpecError(f"a key's name has 1 to {MOST_NAME} small letters, digits and hyphens", "name")
    if not wanted.events:
        raise SpecError(f"name the events that the key may send, or {EVERY!r} for all", "events")
    if len(wanted.events) > MOST_EVENTS:
        raise SpecError(f"a key has at most {MOST_EVENTS} names of events; a wildcard such as shop/* covers more", "events")
    for place, event in enumerate(wanted.events):
        if event == EVERY:
            continue
        try:
            check_event_name(event, wildcard=True)
        except PydanticCustomError as error:
            raise SpecError(error.message(), f"events[{place}]") from None
