"""Guesses at a credential: each address may have some wrong, then it waits. Who was let in before isn't held up by others.

A guess is paid for before it is looked at, and paid back unless it was wrong: so many at once are no way around. While an
address owes, what it offers is not looked at, be it right or wrong, so there is nothing to learn from trying on. But a credential
that was let in before is one that its holder knows: it goes on, whoever else is behind the same address.
"""

import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address

from starlette.requests import Request

from stepwell.engine.event_keys import digest
from stepwell.gateway.access import NotAdmittedError
from stepwell.gateway.memory import Memory
from stepwell.gateway.rates import Rates

SECONDS_EACH = 2
"""So long after a wrong guess it is forgotten."""

REMEMBERED = 3_600_000_000
"""How long (µs) a credential that was let in is known as one."""

HOUSEHOLD = 64
"""The bits of an IPv6 address that tell one customer from another: the rest is theirs to choose."""


class Guesses:
    """What each address may still get wrong; `most` at once, and without a limit with 0."""

    def __init__(self, most: int, now: Callable[[], int]) -> None:
        self._left = Rates(1 / SECONDS_EACH if most else 0, float(most))
        self._known: Memory[bool] = Memory(now)
        self._now = now

    @contextmanager
    def guess(self, address: str, *offered: str) -> Generator[None]:
        """Look at what is offered inside this block; NotAdmittedError 429 where the address has to wait."""
        proof = digest("\n".join(offered))
        is_known = self._known.get(proof) is not None
        seconds = 0.0 if is_known else self._left.take(address, 1, self._now())
        if seconds:
            raise _too_many(seconds)
        is_wrong = False
        try:
            yield
            self._known.keep(proof, True, REMEMBERED)
        except NotAdmittedError as refused:
            is_wrong = refused.status == HTTPStatus.UNAUTHORIZED
            if is_wrong:
                self._known.forget(proof)
            raise
        finally:
            if not is_known and not is_wrong:
                self._left.give_back(address, 1, self._now())


def address_of(request: Request) -> str:
    """Who asks, as far as the network tells: an IPv4 address, or the network of an IPv6 one."""
    host = request.client.host if request.client is not None else ""
    try:
        found = ip_address(host)
    except ValueError:
        return host
    if isinstance(found, IPv6Address):
        mapped = found.ipv4_mapped
        return str(mapped) if mapped is not None else str(int(found) >> (128 - HOUSEHOLD))
    return host


def _too_many(seconds: float) -> NotAdmittedError:
    detail = (
        "too many wrong keys or tokens came from this address; what it sends now is not looked at: wait, then send a right one"
    )
    return NotAdmittedError(429, detail, {"Retry-After": str(math.ceil(seconds))})
