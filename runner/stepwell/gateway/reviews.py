"""Kubernetes tokens: the API server says whose a token is (TokenReview) and what they may (SubjectAccessReview).

RBAC is the policy; nothing is decided here. Answers are remembered for a minute at most, so that a gateway goes on for as long
without an API server, and then says so. Keys don't come this way.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast
from weakref import WeakValueDictionary

import aiohttp
import orjson
import structlog

from stepwell.engine.event_keys import digest
from stepwell.gateway.access import CHALLENGE, Caller, Kind, NotAdmittedError, Right
from stepwell.gateway.answers import retry_later
from stepwell.gateway.claims import is_worth_asking
from stepwell.gateway.memory import Memory
from stepwell.settings import TokenSettings

REMEMBERED = 60_000_000
"""How long (µs) the API server's answer holds."""

REFUSED = 10_000_000
"""The same for a no: a right that was just given isn't missed for long."""

MOST_REFUSED = 1000
"""Of these a few are remembered, and apart: what somebody made up doesn't push out what somebody holds."""

MOST_AT_ONCE = 8
MOST_OF_ONE = 2
"""Of one address: with more to ask it waits behind itself, not before others."""

SECONDS = 5.0
GROUP, RESOURCE = "stepwell.dev", "durablefunctions"

User = dict[str, Any]


class Away(Exception):  # what happened, not an error of ours
    """The API server could not be asked."""


class Turns:
    """Who may ask the API server now: a token once at a time, an address for two, all together for eight."""

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(MOST_AT_ONCE)
        self._addresses: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._tokens: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()

    def of_token(self, proof: bytes) -> asyncio.Lock:
        """Whoever comes with the same token meanwhile waits, and finds the answer remembered."""
        found = self._tokens.get(proof)
        if found is None:
            found = self._tokens[proof] = asyncio.Lock()
        return found

    @asynccontextmanager
    async def of_address(self, address: str) -> AsyncGenerator[None]:
        """Wait for a turn."""
        own = self._addresses.get(address)
        if own is None:
            own = self._addresses[address] = asyncio.Semaphore(MOST_OF_ONE)
        async with own, self._all:
            yield


class Reviews:
    """What the API server says of tokens and rights."""

    def __init__(self, settings: TokenSettings, now: Callable[[], int]) -> None:
        self._settings = settings
        self._users: Memory[User] = Memory(now)
        self._strangers: Memory[bool] = Memory(now, MOST_REFUSED)
        self._rights: Memory[bool] = Memory(now)
        self._now = now
        self._turns = Turns()
        self._log = structlog.get_logger("stepwell.gateway")

    async def admit(self, token: str, right: Right, address: str = "") -> Caller:
        """Who holds this token, if they have the right; NotAdmittedError 401, 403, or 503 if that can't be known now."""
        proof = digest(token)
        if self._strangers.get(proof) or not is_worth_asking(token, self._settings.audience, self._now() // 1_000_000):
            raise unknown_token()
        try:
            async with asyncio.timeout(SECONDS), self._turns.of_token(proof):
                user = await self._user(proof, token, address)
                if user is None:
                    raise unknown_token()
                caller = Caller(str(user.get("username", "")), Kind.TOKEN)
                if await self._may(proof, user, right, address):
                    return caller
        except (Away, TimeoutError) as reason:
            self._log.warning("the API server can't be asked about a token", reason=str(reason) or type(reason).__name__)
            detail = "the Kubernetes API server can't be asked who holds this token; keys go on working, tokens once it is back"
            raise NotAdmittedError(503, detail, retry_later()) from None
        part = f"{RESOURCE}/{right.part}" if right.part else RESOURCE
        where = f"{part}.{GROUP} in the namespace {self._settings.namespace}"
        detail = f"{caller.name} may not {right.verb} {where}; RBAC can give the right"
        raise NotAdmittedError(403, detail, caller=caller)

    async def _user(self, proof: bytes, token: str, address: str) -> User | None:
        """Whose token it is; None if it is nobody's."""
        known = self._users.get(proof)
        if known is not None or self._strangers.get(proof):
            return known
        asked = {"token": token, "audiences": [self._settings.audience]}
        status = await self._review("authentication.k8s.io/v1", "TokenReview", asked, address)
        audiences = cast("list[str]", status.get("audiences") or [])
        if status.get("authenticated") is not True or self._settings.audience not in audiences:
            self._strangers.keep(proof, True, REFUSED)
            return None
        user = cast("User", status.get("user") or {})
        self._users.keep(proof, user, REMEMBERED)
        return user

    async def _may(self, proof: bytes, user: User, right: Right, address: str) -> bool:
        known = self._rights.get((proof, right))
        if known is not None:
            return known
        attributes = {
            "namespace": self._settings.namespace,
            "group": GROUP,
            "resource": RESOURCE,
            "subresource": right.part,
            "verb": right.verb,
        }
        asked: dict[str, Any] = {
            "user": user.get("username", ""),
            "uid": user.get("uid", ""),
            "groups": user.get("groups") or [],
            "extra": user.get("extra") or {},
            "resourceAttributes": attributes,
        }
        status = await self._review("authorization.k8s.io/v1", "SubjectAccessReview", asked, address)
        may = status.get("allowed") is True
        self._rights.keep((proof, right), may, REMEMBERED if may else REFUSED)
        return may

    async def _review(self, version: str, kind: str, spec: dict[str, Any], address: str) -> dict[str, Any]:
        """The status that the API server gives a review; Away if it gives none."""
        settings = self._settings
        document = orjson.dumps({"apiVersion": version, "kind": kind, "spec": spec})
        url = f"{settings.url}/apis/{version}/{kind.lower()}s"
        try:
            async with self._turns.of_address(address):
                own, trusted = await asyncio.to_thread(_identity, settings)
                headers = {"Authorization": f"Bearer {own}", "Content-Type": "application/json", "User-Agent": "stepwell-gateway"}
                # A session each time: what is asked is remembered, and nothing has to be closed at the end.
                async with (
                    aiohttp.ClientSession() as session,
                    session.post(url, data=document, headers=headers, ssl=trusted, allow_redirects=False) as answer,
                ):
                    body = await answer.read()
                    if answer.status not in {200, 201}:
                        raise Away(f"{kind}: {answer.status}")
                    return cast("dict[str, Any]", orjson.loads(body).get("status") or {})
        except (aiohttp.ClientError, OSError, ValueError, AttributeError) as error:
            raise Away(f"{kind}: {type(error).__name__}") from None


def unknown_token() -> NotAdmittedError:
    """The answer to a token that the API server doesn't know, or that is for another audience."""
    return NotAdmittedError(
        401,
        "this is neither a key of the gateway's nor a valid token for its audience (kubectl create token --audience)",
        CHALLENGE,
    )


def _identity(settings: TokenSettings) -> tuple[str, ssl.SSLContext | bool]:
    """Our own token, which the kubelet renews, and whom we trust to be the API server."""
    own = settings.account / "token"
    authority = settings.account / "ca.crt"
    trusted = ssl.create_default_context(cafile=str(authority)) if settings.url.startswith("https:") else True
    return own.read_text(encoding="utf-8").strip(), trusted
