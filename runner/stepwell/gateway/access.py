"""Who may ask. Every route names its access and the right that it takes; one that names none can't be added (see `app`)."""

from dataclasses import dataclass
from enum import Enum

from starlette.requests import Request
from starlette.responses import Response

from stepwell.engine.event_keys import EVERY, may_send
from stepwell.gateway.answers import plain_problem
from stepwell.settings import is_loopback

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="stepwell"'}


class Access(Enum):
    """Who may use a route."""

    ANYONE = "anyone"
    """Probes alone: they tell nothing."""
    EVENT_KEY = "event key"
    """An event key, an API key or a token, in the path or as `Authorization: Bearer`."""
    API_KEY = "API key"
    """`Authorization: Bearer KEY`, an API key or a token."""
    SIGNATURE = "signature"
    """A body that is signed with a webhook's secret; the route itself looks at it."""


@dataclass(frozen=True, slots=True)
class Right:
    """What a route takes in Kubernetes' terms: a verb on `durablefunctions`, or on a part of it such as `runs`."""

    verb: str
    part: str = ""


class Kind(Enum):
    """How somebody was known."""

    OPEN = "open"
    """Nobody was asked: a `dev` on loopback."""
    API_KEY = "API key"
    EVENT_KEY = "event key"
    TOKEN = "token"  # noqa: S105  # a kind of credential, none itself
    WEBHOOK = "webhook"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a name that tells no secret, and the events that they may send."""

    name: str
    kind: Kind
    events: tuple[str, ...] = (EVERY,)

    def may_send(self, event: str) -> bool:
        """Whether they may send events of this name."""
        return may_send(self.events, event)

    @property
    def is_privileged(self) -> bool:
        """Whether even what they send is audited: they could do more than send."""
        return self.kind in {Kind.API_KEY, Kind.TOKEN}


NOBODY = Caller("anyone", Kind.OPEN)
LOCAL = Caller("localhost", Kind.OPEN)


class NotAdmittedError(Exception):
    """A request that is not let in; `caller` is who it was, where that much is known."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None, caller: Caller | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}
        self.caller = caller

    def response(self) -> Response:
        """What the caller hears."""
        return plain_problem(self.status, self.detail, self.headers)


def not_admitted(access: Access) -> NotAdmittedError:
    """The answer to a missing or wrong key."""
    if access is Access.EVENT_KEY:
        return NotAdmittedError(401, "the key in /e/{key} is not one of this gateway's", CHALLENGE)
    return NotAdmittedError(401, "send the gateway's key as 'Authorization: Bearer KEY'", CHALLENGE)


def bearer(request: Request) -> str:
    """What stands in `Authorization: Bearer …`; empty if nothing does."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def is_own_host(header: str) -> bool:
    """Whether a Host header names this machine: a web page that rebinds its name to 127.0.0.1 sends its own name."""
    if header.startswith("["):
        return is_loopback(header.partition("]")[0])
    return is_loopback(header.partition(":")[0])
