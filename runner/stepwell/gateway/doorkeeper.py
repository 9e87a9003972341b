"""Let a request in, or say why not: by key, by token, or because nobody is asked."""

from starlette.requests import Request

from stepwell.engine.well import Well
from stepwell.gateway.access import LOCAL, NOBODY, Access, Caller, Right, bearer, not_admitted
from stepwell.gateway.keyring import SetKeys, StoredKeys
from stepwell.gateway.reviews import Reviews
from stepwell.settings import GatewaySettings


class Doorkeeper:
    """Knows every way in. What isn't let in by one of them stays out."""

    def __init__(self, well: Well, settings: GatewaySettings) -> None:
        self.guarded = settings.is_guarded
        self.stored = StoredKeys(well.store, well.clock.now)
        self._set = SetKeys(settings)
        self._reviews = Reviews(settings.tokens, well.clock.now) if settings.tokens is not None else None

    async def admit(self, access: Access, right: Right | None, request: Request) -> Caller:
        """Who asks for a route of this access; NotAdmittedError unless they may."""
        if access is Access.ANYONE or access is Access.SIGNATURE:
            return NOBODY
        if not self.guarded:
            return LOCAL
        token = bearer(request)
        found = self._set.api(token)
        if found is None and access is Access.EVENT_KEY:
            found = await self._sender(request.path_params.get("key", "")) or await self._sender(token)
        if found is not None:
            return found
        if self._reviews is None or right is None or not token:
            raise not_admitted(access)
        return await self._reviews.admit(token, right)

    async def _sender(self, given: str) -> Caller | None:
        return self._set.api(given) or self._set.event(given) or await self.stored.event(given)
