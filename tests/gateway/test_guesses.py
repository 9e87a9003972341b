"""Wrong keys and forged tokens: who sends them can't keep others out, and learns nothing by going on."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from gateway.reviewing import Reviewer, encoded, jwt, reviewing
from gateway.signing import signed

from stepwell.gateway import reviews
from stepwell.gateway.access import NotAdmittedError
from stepwell.gateway.claims import is_worth_asking
from stepwell.gateway.guesses import Guesses
from stepwell.gateway.serve import listen, serving
from stepwell.settings import GatewaySettings, TokenSettings

NOW = 1_000_000
ADMIN = {"Authorization": "Bearer s3cret"}
FORGED_SECRET = "whsec_bm90aGluZw=="
FORGED = {
    "no token": "abc",
    "two parts": "a.b",
    "no JSON": "a.b.c",
    "an empty part": f"{encoded({'alg': 'RS256'})}.{encoded({})}.",
    "no algorithm": f"{encoded({})}.{encoded({})}.{encoded('')}",
    "the algorithm none": f"{encoded({'alg': 'none'})}.{encoded({})}.{encoded('')}",
    "claims that are a list": f"{encoded({'alg': 'RS256'})}.{encoded([])}.{encoded('')}",
    "over": jwt("may", exp=NOW - 61),
    "of a ServiceAccount, for others": jwt("may", aud=["vault"]),
    "of a ServiceAccount, for nobody": jwt("may", aud=None),
    "too long": jwt("may", more="a" * 16_000),
}


@pytest.fixture
async def reviewer() -> AsyncIterator[Reviewer]:
    """What stands in for an API server."""
    async with reviewing() as one:
        yield one


@pytest.fixture
async def door(open_gateway: Any, reviewer: Reviewer, tmp_path: Path) -> AsyncIterator[Any]:
    """A gateway on a real socket, and a client whose requests come from the address that `X-Forwarded-For` names.

    The clock of its guesses stands still: none comes back, however long a test takes.
    """
    (tmp_path / "token").write_text("own", encoding="utf-8")
    settings = GatewaySettings(keys=("s3cret",), tokens=TokenSettings(reviewer.url, tmp_path, "default"))
    async with open_gateway(settings) as gateway:
        now = gateway.well.clock.now()
        doorkeeper = gateway.http._transport.app.state.doorkeeper
        assert isinstance(doorkeeper._guesses, Guesses)
        doorkeeper._guesses = Guesses(settings.wrong_guesses, lambda: now)
        listener = listen("127.0.0.1", 0)
        limits = httpx.Limits(max_connections=None)
        async with serving(gateway.http._transport.app, listener), httpx.AsyncClient(trust_env=False, limits=limits) as http:
            http.base_url = httpx.URL(f"http://127.0.0.1:{listener.getsockname()[1]}")
            gateway.wire = http
            yield gateway


async def ask(door: Any, given: str, address: str, method: str = "GET", path: str = "/v1/runs") -> httpx.Response:
    headers = {"X-Forwarded-For": address} | ({"Authorization": f"Bearer {given}"} if given else {})
    body = {"json": {"name": "order/created"}} if path.startswith("/e/") else {}
    return await door.wire.request(method, path, headers=headers, timeout=20, **body)


async def test_forgers_cannot_crowd_out_the_honest(door: Any, reviewer: Reviewer, monkeypatch: pytest.MonkeyPatch) -> None:
    """While three hundred forged tokens of three addresses keep the API server busy, whoever is honest is let in with each new token."""
    monkeypatch.setattr(reviews, "SECONDS", 60.0)
    reviewer.answers.clear()
    forgers = [asyncio.create_task(ask(door, jwt("forger", number), f"10.0.0.{number % 3}")) for number in range(300)]
    while reviewer.busy < 6:
        await asyncio.sleep(0.01)  # until they are there; nothing tells
    honest = [await ask(door, jwt("may", number), "10.0.0.9") for number in range(20)]
    assert [one.status_code for one in honest] == [200] * 20
    assert reviewer.busy == 6
    reviewer.answers.set()
    refused = [one for one in await asyncio.gather(*forgers) if one.status_code == 429]
    assert len(refused) > 300 - 3 * 40
    assert all(int(one.headers["retry-after"]) >= 1 for one in refused)
    assert reviewer.asked.count("forger") < 3 * 40


async def test_who_was_let_in_is_not_held_up_by_neighbours(door: Any, reviewer: Reviewer) -> None:
    """Behind one address with forgers a token and a key that were let in before go on; a token that is new waits."""
    held = [jwt("may"), "s3cret"]
    for given in held:
        assert (await ask(door, given, "10.0.0.1")).status_code == 200
    for number in range(60):
        last = await ask(door, jwt("forger", number), "10.0.0.1")
    assert (last.status_code, last.headers["retry-after"]) in {(429, "1"), (429, "2")}
    assert "from this address" in last.json()["detail"]
    for given in held:
        assert (await ask(door, given, "10.0.0.1")).status_code == 200
    asked = len(reviewer.asked)
    assert (await ask(door, jwt("may", 2), "10.0.0.1")).status_code == 429
    assert len(reviewer.asked) == asked


@pytest.mark.parametrize("given", FORGED.values(), ids=FORGED)
async def test_what_cannot_be_a_token_costs_no_review(door: Any, reviewer: Reviewer, given: str) -> None:
    """What has no token's shape, is over or is for another audience is a 401 without a word to the API server."""
    assert (await ask(door, given, "10.0.0.1")).status_code == 401
    assert reviewer.asked == []


async def test_a_forged_token_is_asked_about_once(door: Any, reviewer: Reviewer) -> None:
    """What the API server said no to is remembered for ten seconds."""
    for _ in range(5):
        assert (await ask(door, jwt("forger"), "10.0.0.1")).status_code == 401
    assert reviewer.asked == ["forger"]


async def test_one_token_is_asked_about_once_however_many_bring_it(door: Any, reviewer: Reviewer) -> None:
    """Twenty-five requests at once with a new token are one review, and none of them is taken for a guess."""
    heard = await asyncio.gather(*(ask(door, jwt("may"), "10.0.0.1") for _ in range(25)))
    assert [one.status_code for one in heard] == [200] * 25
    assert (reviewer.asked, reviewer.rights) == (["may"], 1)
    other = await asyncio.gather(*(ask(door, jwt("may", number), "10.0.0.1") for number in range(1, 26)))
    assert [one.status_code for one in other] == [200] * 25


async def test_a_key_is_not_found_by_trying(door: Any) -> None:
    """After thirty wrong event keys an address isn't told of a right one either; elsewhere that one sends."""
    made = await door.http.post("/v1/keys", json={"name": "shop"}, headers={"Authorization": "Bearer s3cret"})
    key = made.json()["data"]["key"]
    wrong = [await ask(door, "", "10.0.0.1", "POST", f"/e/swk_{number:016}_{'A' * 43}") for number in range(60)]
    assert [one.status_code for one in wrong[:30]] == [401] * 30
    assert wrong[-1].status_code == 429
    assert (await ask(door, "", "10.0.0.1", "POST", f"/e/{key}")).status_code == 429
    assert (await ask(door, "", "10.0.0.2", "POST", f"/e/{key}")).status_code == 200
    assert (await ask(door, "", "10.0.0.1", "POST", f"/e/{key}")).status_code == 200
    assert (await ask(door, "x", "10.0.0.1", "POST", "/e/-")).status_code == 429


async def hook_of(door: Any, name: str) -> dict[str, Any]:
    """A webhook."""
    made = await door.http.post("/v1/keys", json={"name": name, "webhook": True, "events": ["paid"]}, headers=ADMIN)
    return made.json()["data"]


async def sign(door: Any, hook: dict[str, Any], address: str, secret: str = "") -> int:
    """What a webhook from this address hears."""
    at = door.well.clock.now() // 1_000_000
    headers = {**signed(hook, b"{}", uuid4().hex, at, secret), "X-Forwarded-For": address}
    return (await door.wire.post(f"/hooks/{hook['key_id']}", content=b"{}", headers=headers, timeout=20)).status_code


async def test_forged_signatures_hold_up_nobody(door: Any) -> None:
    """A signature can't be found by trying: forgeries, however many, shut out neither a right webhook of that address nor a key."""
    hook = await hook_of(door, "billing")
    forged = [await sign(door, one, "10.0.0.1", FORGED_SECRET) for one in [hook, {"key_id": "unknown"}] * 20]
    assert forged == [401] * 40
    assert await sign(door, hook, "10.0.0.1") == 200
    assert (await ask(door, "x", "10.0.0.1", "POST", "/e/-")).status_code == 401


async def test_who_may_not_is_no_guesser(door: Any) -> None:
    """A known caller who asks for what they may not hears 403 each time, never 429; nor does one who offers nothing."""
    heard = [(await ask(door, jwt("maynot", number), "10.0.0.1")).status_code for number in range(40)]
    assert heard == [403] * 40
    heard = [(await door.wire.get("/v1/runs")).status_code for _ in range(40)]
    assert heard == [401] * 40


def guessed(guesses: Guesses, address: str, given: str, status: int | None) -> int:
    """What one hears whose credential would be answered with this status; None lets them in."""
    try:
        with guesses.guess(address, given):
            if status is not None:
                raise NotAdmittedError(status, "no")
    except NotAdmittedError as refused:
        return refused.status
    return 200


def test_guesses_come_back_with_time() -> None:
    """An address has its guesses; one comes back every two seconds, and a credential that is refused later counts again."""
    now = 0
    guesses = Guesses(2, lambda: now)
    assert [guessed(guesses, "a", "x", 401) for _ in range(3)] == [401, 401, 429]
    assert [guessed(guesses, "b", "mine", None) for _ in range(5)] == [200] * 5
    now = 2_000_000
    assert [guessed(guesses, "a", "x", 401) for _ in range(2)] == [401, 429]
    assert [guessed(guesses, "a", "mine", None), guessed(guesses, "a", "yours", None)] == [200, 429]
    assert [guessed(guesses, "a", "mine", 401), guessed(guesses, "a", "mine", 401)] == [401, 429]
    assert [guessed(guesses, "c", "x", status) for status in (403, 503, 403, 503)] == [403, 503, 403, 503]
    assert [guessed(Guesses(0, lambda: now), "a", "x", 401) for _ in range(99)] == [401] * 99


@pytest.mark.parametrize("given", FORGED.values(), ids=FORGED)
def test_claims_tell_what_is_not_worth_asking(given: str) -> None:
    """The same, of the claims alone."""
    assert not is_worth_asking(given, "stepwell", NOW)


@pytest.mark.parametrize(
    "claims", [{}, {"exp": NOW - 30}, {"exp": "soon"}, {"aud": "stepwell"}, {"aud": ["a", "stepwell"]}, {"sub": "ä" * 100}]
)
def test_claims_in_doubt_are_asked_about(claims: dict[str, Any]) -> None:
    """A token that may be good, or that another issuer made in its own way, is for the API server to judge."""
    assert is_worth_asking(jwt("ada", **claims), "stepwell", NOW)
    theirs = f"{encoded({'alg': 'RS256'})}.{encoded({'iss': 'https://id.example', 'aud': 'kubectl'})}.{encoded('x')}"
    assert is_worth_asking(theirs, "stepwell", NOW)
