"""Who may ask. Every route names its access; one that names none can't be added (see `app`)."""

import hashlib
import hmac
from enum import Enum

from starlette.requests import Request
from starlette.responses import Response

from stepwell.gateway.answers import plain_problem
from stepwell.settings import GatewaySettings, is_loopback


class Access(Enum):
    """Who may use a route."""

    ANYONE = "anyone"
    """Probes alone: they tell nothing."""
    EVENT_KEY = "event key"
    """The key stands in the path; an event key or an API key."""
    API_KEY = "API key"
    """`Authorization: Bearer KEY`, an API key."""


class Keys:
    """The keys of one gateway, kept as digests and compared in constant time."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.guarded = settings.is_guarded
        self._api = tuple(_digest(key) for key in settings.keys)
        self._event = tuple(_digest(key) for key in settings.event_keys) + self._api

    def admits(self, access: Access, request: Request) -> bool:
        """Tell whether this request may use a route of this access."""
        match access:
            case Access.ANYONE:
                return True
            case Access.EVENT_KEY:
                return not self.guarded or _matches(request.path_params.get("key", ""), self._event)
            case Access.API_KEY:
                return not self.guarded or _matches(_bearer(request), self._api)


def not_admitted(access: Access) -> Response:
    """The answer to a missing or wrong key."""
    if access is Access.EVENT_KEY:
        return plain_problem(
            401, "the key in /e/{key} is not one of this gateway's", {"WWW-Authenticate": 'Bearer realm="stepwell"'}
        )
    detail = "send the gateway's key as 'Authorization: Bearer KEY'"
    return plain_problem(401, detail, {"WWW-Authenticate": 'Bearer realm="stepwell"'})


def is_own_host(header: str) -> bool:
    """Whether a Host header names this machine: a web page that rebinds its name to 127.0.0.1 sends its own name."""
    if header.startswith("["):
        return is_loopback(header.partition("]")[0])
    return is_loopback(header.partition(":")[0])


def _bearer(request: Request) -> str:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _matches(given: str, digests: tuple[bytes, ...]) -> bool:
    offered = _digest(given)
    found = False
    for digest in digests:
        found |= hmac.compare_digest(offered, digest)
    return found and bool(given)
