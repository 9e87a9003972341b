"""The keys that open this gateway: those of its settings, and those in the store, looked up and remembered for a while."""

import hmac
from collections.abc import Callable, Sequence

from stepwell.engine.event_keys import WEBHOOK, digest, is_proof, key_id_of
from stepwell.gateway.access import Caller, Kind
from stepwell.settings import GatewaySettings
from stepwell.store.access import KeyRow
from stepwell.store.protocol import Store

REMEMBERED = 5_000_000
"""How long (µs) keys of the store are remembered: a revoked one is shut out everywhere by then."""

UNKNOWN = 1_000_000
"""How often (µs) a key that isn't known yet may have the store asked."""


class SetKeys:
    """The keys of the settings, kept as digests and compared in constant time."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._api = tuple(digest(key) for key in settings.keys)
        self._event = tuple(digest(key) for key in settings.event_keys)

    def api(self, given: str) -> Caller | None:
        """Who holds this API key."""
        return Caller(_shown(given), Kind.API_KEY) if _matches(given, self._api) else None

    def event(self, given: str) -> Caller | None:
        """Who holds this event key."""
        return Caller(_shown(given), Kind.EVENT_KEY) if _matches(given, self._event) else None


class StoredKeys:
    """The keys in the store, by id."""

    def __init__(self, store: Store, now: Callable[[], int]) -> None:
        self._store = store
        self._now = now
        self._rows: dict[str, KeyRow] = {}
        self._read: int | None = None

    async def event(self, given: str) -> Caller | None:
        """Who holds this event key; StoreUnavailable where that can't be known now."""
        key_id = key_id_of(given)
        row = await self._row(key_id) if key_id is not None else None
        if row is None or not is_proof(row, given):
            return None
        return Caller(f"event-key:{row.name}/{row.key_id}", Kind.EVENT_KEY, row.events)

    async def webhook(self, key_id: str) -> KeyRow | None:
        """The live webhook of this id."""
        row = await self._row(key_id)
        return row if row is not None and row.kind == WEBHOOK and row.revoked is None else None

    def forget(self) -> None:
        """Ask the store anew next time: a key has changed here."""
        self._read = None

    async def _row(self, key_id: str) -> KeyRow | None:
        age = REMEMBERED if self._read is None else self._now() - self._read
        if age >= (REMEMBERED if key_id in self._rows else UNKNOWN) or age < 0:
            self._rows = {row.key_id: row for row in await self._store.keys()}
            self._read = self._now()
        return self._rows.get(key_id)


def _shown(key: str) -> str:
    """A key's name: enough to tell two apart, nothing to guess one by."""
    return f"key:{digest(key).hex()[:8]}"


def _matches(given: str, digests: Sequence[bytes]) -> bool:
    offered = digest(given)
    found = False
    for known in digests:
        found |= hmac.compare_digest(offered, known)
    return found and bool(given)
