"""Kubernetes tokens: the API server says whose a token is (TokenReview) and what they may (SubjectAccessReview).

RBAC is the policy; nothing is decided here. Answers are remembered for a minute at most, so that a gateway goes on for as long
without an API server, and then says so. Keys don't come this way.
"""

import asyncio
import ssl
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import aiohttp
import orjson
import structlog

from stepwell.engine.event_keys import digest
from stepwell.gateway.access import CHALLENGE, Caller, Kind, NotAdmittedError, Right
from stepwell.gateway.answers import retry_later
from stepwell.settings import TOKEN_DOTS, TokenSettings

REMEMBERED = 60_000_000
"""How long (µs) the API server's answer holds."""

REFUSED = 10_000_000
"""The same for a no: a right that was just given isn't missed for long."""

MOST_REMEMBERED = 10_000
MOST_AT_ONCE = 8
SECONDS = 5.0
LONGEST_TOKEN = 16 * 1024
GROUP, RESOURCE = "stepwell.dev", "durablefunctions"

V = TypeVar("V")
User = dict[str, Any]


class Away(Exception):  # what happened, not an error of ours
    """The API server could not be asked."""


@dataclass(frozen=True, slots=True)
class Review:
    """Whose token it is; None if it is nobody's."""

    user: User | None


class Reviews:
    """What the API server says of tokens and rights."""

    def __init__(self, settings: TokenSettings, now: Callable[[], int]) -> None:
        self._settings = settings
        self._users: Memory[Review] = Memory(now)
        self._rights: Memory[bool] = Memory(now)
        self._asking = asyncio.Semaphore(MOST_AT_ONCE)
        self._log = structlog.get_logger("stepwell.gateway")

    async def admit(self, token: str, right: Right) -> Caller:
        """Who holds this token, if they have the right; NotAdmittedError 401, 403, or 503 if that can't be known now."""
        if token.count(".") != TOKEN_DOTS or len(token) > LONGEST_TOKEN:
            raise unknown_token()
        proof = digest(token)
        try:
            user = (await self._user(proof, token)).user
            if user is None:
                raise unknown_token()
            caller = Caller(str(user.get("username", "")), Kind.TOKEN)
            if await self._may(proof, user, right):
                return caller
        except Away as reason:
            self._log.warning("the API server can't be asked about a token", reason=str(reason))
            detail = "the Kubernetes API server can't be asked who holds this token; keys go on working, tokens once it is back"
            raise NotAdmittedError(503, detail, retry_later()) from None
        part = f"{RESOURCE}/{right.part}" if right.part else RESOURCE
        where = f"{part}.{GROUP} in the namespace {self._settings.namespace}"
        detail = f"{caller.name} may not {right.verb} {where}; RBAC can give the right"
        raise NotAdmittedError(403, detail, caller=caller)

    async def _user(self, proof: bytes, token: str) -> Review:
        known = self._users.get(proof)
        if known is not None:
            return known
        asked = {"token": token, "audiences": [self._settings.audience]}
        status = await self._review("authentication.k8s.io/v1", "TokenReview", asked)
        audiences = cast("list[str]", status.get("audiences") or [])
        is_known = status.get("authenticated") is True and self._settings.audience in audiences
        found = Review(cast("User", status.get("user") or {}) if is_known else None)
        self._users.keep(proof, found, REMEMBERED if is_known else REFUSED)
        return found

    async def _may(self, proof: bytes, user: User, right: Right) -> bool:
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
        status = await self._review("authorization.k8s.io/v1", "SubjectAccessReview", asked)
        may = status.get("allowed") is True
        self._rights.keep((proof, right), may, REMEMBERED if may else REFUSED)
        return may

    async def _review(self, version: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
        """The status that the API server gives a review; Away if it gives none."""
        settings = self._settings
        document = orjson.dumps({"apiVersion": version, "kind": kind, "spec": spec})
        url = f"{settings.url}/apis/{version}/{kind.lower()}s"
        try:
            async with asyncio.timeout(SECONDS), self._asking:
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
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, AttributeError) as error:
            raise Away(f"{kind}: {type(error).__name__}") from None


class Memory(Generic[V]):
    """Answers that hold for a while; the oldest goes when there are too many."""

    def __init__(self, now: Callable[[], int], most: int = MOST_REMEMBERED) -> None:
        self._now = now
        self._most = most
        self._kept: OrderedDict[Hashable, tuple[int, V]] = OrderedDict()

    def get(self, key: Hashable) -> V | None:
        """What is remembered, if it still holds."""
        until, value = self._kept.get(key, (0, None))
        return value if self._now() < until else None

    def keep(self, key: Hashable, value: V, length: int) -> None:
        """Remember this for so many µs."""
        self._kept[key] = (self._now() + length, value)
        self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)


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
