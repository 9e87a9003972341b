"""`/ready`: anybody may ask, so asking costs next to nothing."""

import asyncio
from typing import Any

import pytest

from stepwell.errors import StoreUnavailable


class Asked:
    """A store's verb that answers when it is let."""

    def __init__(self) -> None:
        self.times = 0
        self.may_answer = asyncio.Event()
        self.away = False

    async def __call__(self) -> int:
        self.times += 1
        await self.may_answer.wait()
        if self.away:
            raise StoreUnavailable("away")
        return 7


@pytest.fixture
def asked(gateway: Any, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """The one question to the store; any other fails."""
    verb = Asked()

    async def dear(*_: Any) -> None:
        raise AssertionError("the whole registry was read")

    monkeypatch.setattr(gateway.well.store, "registry", dear)
    monkeypatch.setattr(gateway.well.store, "registry_version", verb)
    return verb


async def test_those_who_ask_at_once_share_one_small_look(gateway: Any, asked: Asked) -> None:
    """A hundred who ask at once cost the store one question, however many functions there are."""
    asking = [asyncio.create_task(gateway.http.get("/ready")) for _ in range(100)]
    while not asked.times:
        await asyncio.sleep(0)
    asking.pop().cancel()
    asked.may_answer.set()
    answers = await asyncio.gather(*asking)
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["data"]["registry_version"] for answer in answers} == {7}
    assert asked.times == 1


async def test_a_good_answer_holds_for_a_second(gateway: Any, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a second of a good look nobody looks again; after it a store that is away is told."""
    asked.may_answer.set()
    now = gateway.well.clock.now()
    monkeypatch.setattr(gateway.well.clock, "now", lambda: now)
    statuses = [(await gateway.http.get("/ready")).status_code]
    asked.away = True
    now += 999_999
    statuses.append((await gateway.http.get("/ready")).status_code)
    now += 1
    statuses.append((await gateway.http.get("/ready")).status_code)
    assert (statuses, asked.times) == ([200, 200, 503], 2)


async def test_a_bad_answer_does_not_hold(gateway: Any, asked: Asked) -> None:
    """The store's return is told at once."""
    asked.may_answer.set()
    asked.away = True
    assert (await gateway.http.get("/ready")).status_code == 503
    asked.away = False
    assert (await gateway.http.get("/ready")).status_code == 200
