"""The client sends with ids of its own making, tries again where that helps, and says clearly where it doesn't."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from stepwell import Event, client
from stepwell.client import Client, Patience, Refused
from stepwell.errors import NotReachable, ValueRefused

Answer = Callable[[int, Any], web.StreamResponse | Awaitable[web.StreamResponse]]


class Server:
    """A gateway that answers as it is told, and remembers what it was asked."""

    def __init__(self, answers: Callable[[int, Any], web.Response]) -> None:
        self.asked: list[Any] = []
        self.paths: list[str] = []
        self._answers = answers

    async def handle(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        self.asked.append(body)
        self.paths.append(request.path)
        return self._answers(len(self.asked), body)


@asynccontextmanager
async def serving(answers: Callable[[int, Any], web.Response]) -> AsyncIterator[tuple[Server, str]]:
    server = Server(answers)
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/{tail:.*}", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield server, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(client, "LONGEST_PAUSE", 0.0)


def fine(_count: int, body: Any) -> web.Response:
    events = body if isinstance(body, list) else [body]
    return web.json_response({"ids": [event["id"] for event in events], "status": 200})


async def test_one_event_is_sent_with_an_id() -> None:
    """One event goes as one document, with an id that is returned."""
    async with serving(fine) as (server, url), Client(url, "k") as sender:
        ids = await sender.send(Event("order/created", {"total": 1}))
    assert server.asked == [{"id": ids[0], "name": "order/created", "data": {"total": 1}}]
    assert server.paths == ["/e/k"]


async def test_a_list_keeps_order_and_own_ids() -> None:
    """Several events go as a list; ids of their own stay, ts and v are passed on."""
    async with serving(fine) as (server, url), Client(url) as sender:
        ids = await sender.send([Event("a", {}, id="mine", ts=1_700_000_000_000, v="2"), Event("b", {})])
    assert ids[0] == "mine"
    assert len(set(ids)) == 2
    assert server.asked[0][0] == {"id": "mine", "name": "a", "data": {}, "ts": 1_700_000_000_000, "v": "2"}


async def test_no_events_need_no_request() -> None:
    """An empty list is sent without asking anybody."""
    async with serving(fine) as (server, url), Client(url) as sender:
        assert await sender.send([]) == []
    assert server.asked == []


@pytest.mark.parametrize("status", [500, 502, 503, 408, 429])
async def test_it_tries_again_with_the_same_ids(status: int) -> None:
    """After a 5xx, 408 or 429 the very same events are sent again."""

    def flaky(count: int, body: Any) -> web.Response:
        return fine(count, body) if count > 2 else web.Response(status=status, text="no")

    async with serving(flaky) as (server, url), Client(url) as sender:
        ids = await sender.send(Event("a", {}))
    assert [asked["id"] for asked in server.asked] == ids * 3


async def test_it_gives_up_and_says_so() -> None:
    """When no try gets through, the error names the gateway and that sending again is safe."""
    async with (
        serving(lambda _count, _body: web.Response(status=503)) as (server, url),
        Client(url, None, Patience(tries=3)) as sender,
    ):
        with pytest.raises(NotReachable, match="sending them again with the same ids is safe"):
            await sender.send(Event("a", {}))
    assert len(server.asked) == 3


async def test_nobody_listens() -> None:
    """Where nothing listens the error is NotReachable too."""
    async with serving(fine) as (_server, url):
        pass
    async with Client(url, None, Patience(tries=2, seconds=2.0)) as sender:
        with pytest.raises(NotReachable):
            await sender.send(Event("a", {}))


@pytest.mark.parametrize("status", [400, 401, 404, 409, 413, 302])
async def test_a_refusal_is_told_at_once(status: int) -> None:
    """What the gateway won't take is not tried again; the error has its status, reason and each event's fate."""
    results = [{"id": "x", "status": "conflict", "error": "why"}]
    document = {"detail": "why not", "results": results}
    async with serving(lambda _count, _body: web.json_response(document, status=status)) as (server, url), Client(url) as sender:
        with pytest.raises(Refused, match="why not") as caught:
            await sender.send(Event("a", {}))
    assert (caught.value.status, list(caught.value.results)) == (status, results)
    assert len(server.asked) == 1


async def test_large_batches_are_split() -> None:
    """More than a thousand events, or more than 4 MiB, go in several requests, each within the limits."""
    async with serving(fine) as (server, url), Client(url) as sender:
        ids = await sender.send([Event("a", {"n": number}) for number in range(2500)])
        await sender.send([Event("b", {"text": "x" * 400_000}) for _ in range(25)])
    assert len(ids) == 2500
    assert [len(asked) for asked in server.asked] == [1000, 1000, 500, 10, 10, 5]


async def test_a_refused_part_doesnt_hold_up_the_rest() -> None:
    """If one request of a large batch is refused, the others are sent all the same and every fate is told."""

    def picky(count: int, body: Any) -> web.Response:
        if count == 3:
            return fine(count, body)
        return web.json_response({"detail": "one is bad", "results": [{"id": str(count), "status": "invalid"}]}, status=400)

    async with serving(picky) as (server, url), Client(url) as sender:
        with pytest.raises(Refused) as caught:
            await sender.send([Event("a", {}) for _ in range(2500)])
    assert len(server.asked) == 3
    assert [result["id"] for result in caught.value.results] == ["1", "2"]


async def test_data_that_is_no_json_never_leaves() -> None:
    """Data that can't be kept is refused here, by its path, before anything is sent."""
    async with serving(fine) as (server, url), Client(url) as sender:
        with pytest.raises(ValueRefused):
            await sender.send(Event("a", {"when": {1, 2}}))
    assert server.asked == []
