"""What stands in for an API server here: it knows some tokens by their `sub` (tests/cluster asks a real one)."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

KNOWN = {"may", "maynot", "maynottoo"}


@dataclass
class Reviewer:
    """Its address, whose tokens it was asked about, and whether it keeps those who ask about a stranger waiting."""

    url: str = ""
    asked: list[str] = field(default_factory=list[str])
    rights: int = 0
    busy: int = 0
    answers: asyncio.Event = field(default_factory=asyncio.Event)


EXPIRES = int(time.time()) + 86400
"""One instant for all: else a token made a second later would be another one."""


def jwt(name: str, serial: int = 0, **claims: Any) -> str:
    """A token of the shape that Kubernetes gives out, of whoever it names; another one for each serial."""
    told = {
        "aud": ["stepwell"],
        "exp": EXPIRES,
        "sub": name,
        "kubernetes.io": {"namespace": "default"},
        "jti": serial,
    }
    return f"{encoded({'alg': 'RS256'})}.{encoded({**told, **claims})}.{encoded('signature')}"


def encoded(part: Any) -> str:
    """One part of a token."""
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


@asynccontextmanager
async def reviewing() -> AsyncIterator[Reviewer]:
    """An API server for the time of the block; unless told otherwise it answers at once."""
    reviewer = Reviewer()
    reviewer.answers.set()

    async def token_review(request: web.Request) -> web.Response:
        spec = (await request.json())["spec"]
        part = spec["token"].split(".")[1]
        name = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["sub"]
        reviewer.asked.append(name)
        known = name in KNOWN and spec["audiences"] == ["stepwell"]
        if not known:
            reviewer.busy += 1
            await reviewer.answers.wait()
            reviewer.busy -= 1
        user = {"username": name, "groups": ["system:authenticated"]}
        return web.json_response({"status": {"authenticated": known, "audiences": ["stepwell"], "user": user if known else {}}})

    async def access_review(request: web.Request) -> web.Response:
        reviewer.rights += 1
        spec = (await request.json())["spec"]
        return web.json_response({"status": {"allowed": spec["user"] == "may"}}, status=201)

    app = web.Application()
    app.router.add_post("/apis/authentication.k8s.io/v1/tokenreviews", token_review)
    app.router.add_post("/apis/authorization.k8s.io/v1/subjectaccessreviews", access_review)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    reviewer.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield reviewer
    finally:
        reviewer.answers.set()
        await runner.cleanup()
