"""Let a request in, or say why not: by key, by token, or because nobody is asked."""

from starlette.requests import Request

from stepwell.engine.well import Well
from stepwell.gateway.access import LOCAL, NOBODY, Access, Caller, Right, bearer, not_admitted
from stepwell.gateway.guesses import Guesses, address_of
from stepwell.gateway.keyring import SetKeys, StoredKeys
from stepwell.gateway.reviews import Reviews
from stepwell.settings import GatewaySettings


class Doorkeeper:
    """Knows every way in. What isn't let in by one of them stays out."""

    def __init__(self, well: Well, settings: GatewaySettings) -> None:
        self.guarded = settings.is_guarded
        self.stored = StoredKeys(well.store, well.clock.now)
        self._set = SetKeys(settings)
        self._guesses = Guesses(settings.wrong_guesses, well.clock.now)
        self._reviews = Reviews(settings.tokens, well.clock.now) if settings.tokens is not None else None

    async def admit(self, access: Access, right: Right | None, request: Request) -> Caller:
        """Who asks for a route of this access; NotAdmittedError unless they may.

        401 where nobody holds what is offered, 403 where its holder may not, 429 after too many wrong ones from one address.
        """
        if access is Access.ANYONE or access is Access.SIGNATURE:
            return NOBODY
        if not self.guarded:
            return LOCAL
        key = request.path_params.get("key", "") if access is Access.EVENT_KEY else ""
        token = bearer(request)
        if not key and not token:
            raise not_admitted(access)
        address = address_of(request)
        with self._guesses.guess(address, key, token):
            found = self._set.api(token)
            if found is None and access is Access.EVENT_KEY:
                found = await self._sender(key) or await self._sender(token)
            if found is not None:
                return found
            if self._reviews is None or right is None or not token:
                raise not_admitted(access)
            return await self._reviews.admit(token, right, address)

    async def _sender(self, given: str) -> Caller | None:
        return self._set.api(given) or self._set.event(given) or await self.stored.event(given)
