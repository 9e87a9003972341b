"""Sizes, times and rates, over real sockets: who is slow, large or many can't starve others."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

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
        return await asyncio.wait_for(reader.readline(), 10)
    return b""


async def sends(port: int) -> int:
    """A good sender's request."""
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.post(f"http://127.0.0.1:{port}/e/s3cret", json={"name": "order/created"}, timeout=10)
    return answer.status_code


async def test_slow_senders_do_not_starve_others(open_gateway: Any) -> None:
    """While four hundred connections drip their headers, their bodies or nothing at all, a good sender is served at once."""
    limits = Limits(connections=300, header_seconds=30)
    async with served(open_gateway, limits) as port:
        starts = (b"", b"POST /e/", SEND, SEND + b"\r\n{")
        slow = [await connect(port, starts[number % 4]) for number in range(400)]
        began = time.monotonic()
        for _ in range(10):
            assert await sends(port) == 200
            for _reader, writer in slow:
                if not writer.is_closing():
                    writer.write(b"x")
        assert time.monotonic() - began < 5
        for _reader, writer in slow:
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
