"""Somebody who is known asked for what they may not: that is audited too, without their keys, and not without end."""

from collections import Counter
from contextlib import suppress

from starlette.requests import Request

from stepwell.engine.well import Well
from stepwell.errors import StoreError
from stepwell.gateway.access import Access, Caller
from stepwell.gateway.audit import the_audit
from stepwell.gateway.rates import MOST_CALLERS, Rates

MOST_PATH = 200
AT_ONCE, SECONDS_EACH = 20, 60
"""Of one caller so many are written at once, then one in so many seconds: rows stay for ninety days, whoever made them."""


class Refusals:
    """What one gateway writes of refusals."""

    def __init__(self) -> None:
        self._rates = Rates(1 / SECONDS_EACH, float(AT_ONCE))
        self._unwritten: Counter[str] = Counter()

    async def note(self, request: Request, caller: Caller) -> None:
        """Write it down, where the store lets us; with how many of the caller's were not written since the last one that was."""
        well: Well = request.app.state.well
        if self._rates.take(caller.name, 1, well.clock.now()):
            if caller.name in self._unwritten or len(self._unwritten) < MOST_CALLERS:
                self._unwritten[caller.name] += 1
            return
        unwritten = self._unwritten.pop(caller.name, 0)
        request.state.caller = caller
        with suppress(StoreError):
            audit = await the_audit(request, well)
            await audit.note(
                request.method.lower(), _thing(request), decision="denied", **({"unwritten": unwritten} if unwritten else {})
            )


def _thing(request: Request) -> str:
    """The path that was asked for; of one that has a key in it the route's, for the key may be somebody's."""
    path: str = request.scope["route"].path if request.state.access is Access.EVENT_KEY else request.url.path
    return path[:MOST_PATH]
