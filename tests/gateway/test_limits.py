"""Sizes, times and rates, over real sockets: who is slow, large or many can't starve others."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest

import stepwell
from stepwell import Context
from stepwell.gateway.connections import Limits
from stepwell.gateway.rates import Rates
from stepwell.gateway.serve import listen, serving
from stepwell.settings import GatewaySettings

GUARDED = GatewaySettings(keys=("s3cret",), body_seconds=0.5)
SEND = b"POST /e/s3cret HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"


@asynccontextmanager
async def served(open_gateway: Any, limits: Limits, settings: GatewaySettings = GUARDED) -> AsyncIterator[int]:
    """A gateway on a port of loopback."""
    async with open_gateway(settings) as gateway:
        listener = listen("127.0.0.1", 0)
        async with serving(gateway.http._transport.app, listener, limits):
            yield listener.getsockname()[1]


async def connect(port: int, data: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    return reader, writer


async def said(reader: asyncio.StreamReader) -> bytes:
    """The first line of an answer, or nothing if the connection was closed."""
    with contextlib.suppress(ConnectionError):
        return await asyncio.wait_for(reader.readline(), 60)
    return b""


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what comes by itself; a bound far from what a slow machine needs."""
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.001)


async def a_hook(http: httpx.AsyncClient) -> bytes:
    """The head of a webhook's request by somebody who knows nothing but its id."""
    made = await http.post("/v1/keys", json={"name": "billing", "events": ["*"], "webhook": True})
    told = f"webhook-id: m\r\nwebhook-timestamp: {int(time.time())}\r\nwebhook-signature: v1,Zm9yZ2Vk\r\n"
    return SEND.replace(b"/e/s3cret", f"/hooks/{made.json()['data']['key_id']}".encode()) + told.encode()


async def test_slow_senders_do_not_starve_others(open_gateway: Any) -> None:
    """While many more than may be in flight drip headers, bodies or forged webhooks, good senders and probes are served."""
    most = 4
    settings = GatewaySettings(keys=("s3cret",), max_in_flight=most, body_seconds=600)
    async with open_gateway(settings) as gateway, AsyncExitStack() as at_end:
        app, listener = gateway.http._transport.app, listen("127.0.0.1", 0)
        await at_end.enter_async_context(serving(app, listener, Limits(connections=40, header_seconds=600)))
        port = listener.getsockname()[1]
        http = await at_end.enter_async_context(
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}", headers={"Authorization": "Bearer s3cret"}, trust_env=False, timeout=60
            )
        )
        hook = await a_hook(http)
        for start in (b"", b"POST /e/", SEND, SEND + b"\r\n{", hook + b"\r\n", hook + b"\r\n{"):
            slow = [await connect(port, start) for _ in range(5 * most)]
            if start.count(b"\r\n\r\n"):
                await until(lambda: app.state.places.bodies == most)
            for _ in range(3):
                for _reader, writer in slow:
                    if not writer.is_closing():
                        writer.write(b"x")
                assert (await http.post("/e/s3cret", json={"name": "order/created"})).status_code == 200
                for path in ("/ready", "/metrics", "/v1/runs"):
                    assert (await http.get(path)).status_code == 200, path
            for _reader, writer in slow:
                writer.close()
            await until(lambda: app.state.places.bodies == 0)


async def test_the_body_that_came_for_longest_makes_room(open_gateway: Any) -> None:
    """Of more bodies than there may be the oldest is given up with a 503 that says when to come back; the others arrive."""
    settings = GatewaySettings(keys=("s3cret",), max_in_flight=2, body_seconds=600)
    async with served(open_gateway, Limits(), settings) as port:
        first, second, third = [await connect(port, SEND + b"\r\n{") for _ in range(3)]
        everything = await asyncio.wait_for(first[0].read(), 60)
        assert everything.startswith(b"HTTP/1.1 503")
        assert b"retry-after" in everything
        for reader, writer in (second, third):
            writer.write(b'"name":"a"}'.ljust(99))
            assert (await said(reader)).startswith(b"HTTP/1.1 200")
        for _reader, writer in (first, second, third):
            writer.close()


async def test_who_waits_for_a_run_holds_up_nobody(open_gateway: Any) -> None:
    """Callers who wait for runs leave room for others; too many of them hear 503, and nothing was started for those."""

    @stepwell.function(id="sleeper")
    async def sleeper(ctx: Context) -> None:
        await ctx.step.wait_for_event("ever", event="never/sent", timeout="1h")

    async with open_gateway(GatewaySettings(open=True, max_in_flight=2)) as gateway:
        await gateway.serve(sleeper)
        places = gateway.http._transport.app.state.places
        waiting = [asyncio.create_task(gateway.http.post("/invoke/sleeper?wait=300", json={}, timeout=600)) for _ in range(2)]
        await until(lambda: places.waiting == 2)
        assert (await gateway.send({"name": "order/created"})).status_code == 200
        assert (await gateway.http.post("/invoke/sleeper?wait=300", json={})).status_code == 503
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert (places.taken, places.waiting) == (0, 0)
        acts = await gateway.data("/v1/audit", verb="invoke")
        assert len(acts) <= 2


@pytest.mark.parametrize("missing", ["timestamp", "signature"])
async def test_what_can_be_no_webhook_has_no_body_read(open_gateway: Any, missing: str) -> None:
    """A webhook without a fresh timestamp or a signature is refused before its body has come."""
    settings = GatewaySettings(keys=("s3cret",), body_seconds=600)
    async with open_gateway(settings) as gateway:
        listener = listen("127.0.0.1", 0)
        async with serving(gateway.http._transport.app, listener, Limits()):
            gateway.http.headers["Authorization"] = "Bearer s3cret"
            head = (await a_hook(gateway.http)).replace(f"webhook-{missing}: ".encode(), f"webhook-{missing}: 1".encode())
            head = head.replace(b"1v1,", b"v2,")
            reader, writer = await connect(listener.getsockname()[1], head + b"\r\n")
            assert (await said(reader)).startswith(b"HTTP/1.1 401")
            writer.close()


async def test_the_oldest_that_owes_a_request_makes_room(open_gateway: Any) -> None:
    """Over the limit of connections the one that has owed its headers for longest is closed, never one with a request under way."""
    async with served(open_gateway, Limits(connections=3), GatewaySettings(keys=("s3cret",), body_seconds=5)) as port:
        busy = await connect(port, SEND + b"\r\n{")
        idle = [await connect(port, b"GET") for _ in range(2)]
        await asyncio.sleep(0.05)
        newest = await connect(port, b"GET")
        assert (await said(idle[0][0])).startswith(b"HTTP/1.1 408")
        busy[1].write(b'"name":"a"}'.ljust(99))
        assert (await said(busy[0])).startswith(b"HTTP/1.1 200")
        for _reader, writer in (busy, *idle, newest):
            writer.close()


@pytest.mark.parametrize(
    "start", [b"", b"GET /v1/runs HT", b"GET /v1/runs HTTP/1.1\r\nHost: x\r\n", b"GET /health HTTP/1.1\r\n\r\nGET /"]
)
async def test_headers_have_their_time(open_gateway: Any, start: bytes) -> None:
    """Headers that don't arrive in time are a 408, those of a kept connection's second request as well."""
    async with served(open_gateway, Limits(header_seconds=0.2)) as port:
        reader, writer = await connect(port, start)
        everything = await asyncio.wait_for(reader.read(), 10)
        assert b"HTTP/1.1 408" in everything
        writer.close()


@pytest.mark.parametrize(
    "head",
    [b"GET /health HTTP/1.1\r\nX: " + b"a" * 40_000, b"GET /" + b"a" * 40_000, b"GET /health HTTP/1.1\r\n" + b"X: y\r\n" * 101],
)
@pytest.mark.parametrize("ended", [b"", b"\r\n\r\n"])
async def test_headers_have_their_size(open_gateway: Any, head: bytes, ended: bytes) -> None:
    """More than 32 KiB of headers, or more than a hundred of them, are a 431, whether they end or not."""
    if head.endswith(b"y\r\n") and not ended:
        return
    async with served(open_gateway, Limits()) as port:
        reader, writer = await connect(port, head + ended)
        assert (await said(reader)).startswith(b"HTTP/1.1 431")
        writer.close()


CHUNKED = b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b'11\r\n{"name":"a/made"}\r\n'


async def test_trailers_are_no_way_round_the_limits_of_headers(open_gateway: Any) -> None:
    """What follows a chunked body is never a header of the request, however many there are."""
    seen: list[int] = []
    async with open_gateway(GUARDED) as gateway:
        app = gateway.http._transport.app

        async def counting(scope: Any, receive: Any, send: Any) -> None:
            await app(scope, receive, send)
            seen.append(len(scope["headers"]))

        listener = listen("127.0.0.1", 0)
        async with serving(counting, listener, Limits()):
            reader, writer = await connect(listener.getsockname()[1], b"POST /e/s3cret" + CHUNKED + EVENT)
            writer.write(b"0\r\n" + b"X: y\r\n" * 200 + b"\r\n")
            assert (await said(reader)).startswith(b"HTTP/1.1 200")
            writer.close()
    assert seen == [3]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [(b"/e/s3cret", EVENT, b"HTTP/1.1 431"), (b"/e/s3cret", b"", b"HTTP/1.1 431"), (b"/e/wrong", EVENT, b"HTTP/1.1 401")],
)
@pytest.mark.parametrize("trailers", [b"X: " + b"a" * 8_000_000, b"X: y\r\n" * 1_000_000])
async def test_trailers_have_their_size(open_gateway: Any, path: bytes, body: bytes, status: bytes, trailers: bytes) -> None:
    """Large trailers are cut off, of a request that is under way and of one that has its answer."""
    settings = GatewaySettings(keys=("s3cret",), body_seconds=600)
    async with served(open_gateway, Limits(header_seconds=600, linger_seconds=600), settings) as port:
        reader, writer = await connect(port, b"POST " + path + CHUNKED + body + b"0\r\n")
        if path == b"/e/wrong":
            assert (await said(reader)).startswith(status)
        writer.write(trailers)
        with contextlib.suppress(ConnectionError):
            everything = await asyncio.wait_for(reader.read(), 60)
            assert path == b"/e/wrong" or everything.startswith(status)
            assert everything.count(b"HTTP/1.1") == (path != b"/e/wrong")
        writer.close()


async def test_bodies_have_their_time(open_gateway: Any) -> None:
    """A body that drips is a 408, and its connection is closed."""
    async with served(open_gateway, Limits()) as port:
        reader, writer = await connect(port, SEND + b"\r\n{")
        assert (await said(reader)).startswith(b"HTTP/1.1 408")
        await asyncio.wait_for(reader.read(), 5)
        writer.close()


async def test_who_is_refused_is_not_listened_to(open_gateway: Any) -> None:
    """Without a key the answer comes before the body, and the connection is closed."""
    async with served(open_gateway, Limits(), GatewaySettings(keys=("s3cret",), body_seconds=60)) as port:
        for path in (b"/e/wrong", b"/hooks/unknown"):
            reader, writer = await connect(port, SEND.replace(b"/e/s3cret", path) + b"\r\n")
            assert (await said(reader)).startswith(b"HTTP/1.1 401")
            await asyncio.wait_for(reader.read(), 5)
            writer.close()


async def test_no_http_is_a_400(open_gateway: Any) -> None:
    """What is no HTTP gets a 400 and nothing else."""
    async with served(open_gateway, Limits()) as port:
        reader, writer = await connect(port, b"\x16\x03\x01\x02\x00\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 400")
        writer.close()


async def test_each_key_has_its_rate(open_gateway: Any) -> None:
    """A key that sends more than its rate hears 429 with when to come back; another key goes on."""
    settings = GatewaySettings(keys=("one", "two"), events_per_second=2)
    async with open_gateway(settings) as gateway:
        batch = [{"name": "a"}] * 3
        assert [(await gateway.send(batch, key)).status_code for key in ("one", "one", "two")] == [200, 429, 200]
        answer = await gateway.send(batch, "one")
        assert int(answer.headers["retry-after"]) >= 1
        assert "room again" in answer.json()["detail"]


def test_a_bucket_fills_with_time() -> None:
    """Two seconds' worth may come at once; what is more than that is let in when the bucket is full, and paid for afterwards."""
    rates = Rates(10)
    assert rates.take("a", 20, 0) == 0
    assert rates.take("a", 5, 0) == 0.5
    assert rates.take("b", 5, 0) == 0
    assert rates.take("a", 5, 500_000) == 0
    assert rates.take("a", 100, 2_500_000) == 0
    assert rates.take("a", 1, 2_500_000) == 8.1
    assert Rates(0).take("a", 1_000_000, 0) == 0
