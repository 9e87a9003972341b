"""A proxy between a client and the API server that breaks what a test tells it to, and counts.

    with FaultProxy(plane) as proxy:
        kubeconfig = api.as_service_account(namespace, "operator", folder, proxy.server)
        proxy.answer(429, Which(writes, times=3), retry_after=1)    # the next three writes are refused
        stop = proxy.hold(Side.AFTER, Which(writes, at=7))          # the seventh write is done, its answer is held back
        stop.wait(); operator.kill(); stop.cut()

It ends TLS with the API server's own certificate, speaks HTTP/1.1 on both sides, streams watches through, and lives in a thread with a
loop of its own, so that a test may block. Rules are asked in the order in which they came; the first whose turn it is wins.
"""

import asyncio
import ssl
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Self

import aiohttp
from aiohttp import web
from cluster.harness.control_plane import ControlPlane
from cluster.harness.faults import PATIENCE, Act, Cut, Refusal, Rule, Seen, Side, Stop, When, Which, everything
from cluster.harness.program import free_ports
from multidict import CIMultiDict
from yarl import URL

REASONS = {
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}
# What belongs to one connection and is not passed on; the length is told anew.
_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "upgrade", "te", "host"})


@dataclass(slots=True)
class _Gate:
    """Shut for the requests that `when` picks: not a byte of theirs goes through."""

    when: When
    opened: asyncio.Event = field(default_factory=asyncio.Event)


class FaultProxy:
    """Listens on a loopback port from `__enter__` to `__exit__`."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        (self._port,) = free_ports(1)
        self._rules: list[Rule] = []
        self._gate: _Gate | None = None
        self._seen: list[Seen] = []
        self._open: set[asyncio.Transport] = set()
        self._started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=self._run, name="fault-proxy")

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.result(PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        loop, ended = self._started.result()
        loop.call_soon_threadsafe(ended.set)
        self._thread.join(PATIENCE)

    @property
    def server(self) -> str:
        """The address that the client is given in the API server's place."""
        return f"https://127.0.0.1:{self._port}"

    def seen(self, when: When = everything) -> list[Seen]:
        """The requests so far, in the order in which they came."""
        return [seen for seen in list(self._seen) if when(seen)]

    def answer(self, code: int, which: Which | None = None, retry_after: int | None = None) -> None:
        """Answer with an error; the API server never hears of the request."""

        async def refuse(_: Seen) -> Refusal:
            return Refusal(code, retry_after)

        self._add(Side.BEFORE, which, refuse)

    def delay(self, seconds: float, which: Which | None = None) -> None:
        """Make the request wait on its way there."""

        async def wait(_: Seen) -> None:
            await asyncio.sleep(seconds)

        self._add(Side.BEFORE, which, wait)

    def cut(self, side: Side, which: Which | None = None) -> None:
        """End the client's connection before or after the API server has done what it was asked."""

        async def end(_: Seen) -> None:
            raise Cut

        self._add(side, which, end)

    def hold(self, side: Side, which: Which | None = None) -> Stop:
        """Hold one request before or after the API server has done it, until the test says how it goes on."""
        stop = Stop()
        self._add(side, which, stop.hold)
        return stop

    def clear(self) -> None:
        """Forget the rules; requests that are held stay held."""
        self._rules.clear()

    def freeze(self, when: When = everything) -> None:
        """Half-open: connections stay, new ones are taken, and not a byte of these requests goes through."""
        self._gate = _Gate(when)

    def thaw(self) -> None:
        """Let flow again what `freeze` stopped."""
        gate, self._gate = self._gate, None
        if gate is not None:
            self._started.result()[0].call_soon_threadsafe(gate.opened.set)

    def cut_connections(self) -> None:
        """End every client's connection that has a request under way, as a network does that goes away for a moment."""
        self._started.result()[0].call_soon_threadsafe(self._abort_all)

    def _add(self, side: Side, which: Which | None, act: Act) -> None:
        self._rules.append(Rule(which or Which(), side, act))

    def _abort_all(self) -> None:
        for transport in list(self._open):
            transport.abort()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)

    async def _serve(self) -> None:
        to_client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        to_client.load_cert_chain(self._plane.certificate, self._plane.key)
        to_server = ssl.create_default_context(cafile=str(self._plane.certificate))
        ended = asyncio.Event()
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=to_server, limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            skip_auto_headers=["User-Agent", "Accept", "Accept-Encoding", "Content-Type"],
        ) as session:

            async def handle(request: web.Request) -> web.StreamResponse:
                return await self._handle(request, session)

            app = web.Application(client_max_size=16 << 20)
            app.router.add_route("*", "/{path:.*}", handle)
            runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", self._port, ssl_context=to_client).start()
            self._started.set_result((asyncio.get_running_loop(), ended))
            await ended.wait()
            await runner.cleanup()

    async def _handle(self, request: web.Request, session: aiohttp.ClientSession) -> web.StreamResponse:
        transport = request.transport
        if not isinstance(transport, asyncio.Transport):
            return web.Response()
        self._open.add(transport)
        try:
            return await self._pass(request, session)
        except (Cut, aiohttp.ClientError):
            # An API server that is away looks to the client as it would without the proxy: the connection ends.
            transport.abort()
            return web.Response()
        finally:
            self._open.discard(transport)

    async def _pass(self, request: web.Request, session: aiohttp.ClientSession) -> web.StreamResponse:
        body = await request.read()
        agent = request.headers.get("User-Agent", "")
        seen = Seen(len(self._seen) + 1, request.method, request.path, request.query_string, agent)
        self._seen.append(seen)
        rule = next((rule for rule in list(self._rules) if rule.takes(seen)), None)
        await self._flow(seen)
        if rule is not None and rule.side is Side.BEFORE and (refusal := await rule.act(seen)) is not None:
            self._told(seen, refusal.code)
            return _refuse(refusal)
        url = URL(self._plane.server + request.raw_path, encoded=True)
        headers = _kept(request.headers)
        async with session.request(request.method, url, data=body or None, headers=headers, allow_redirects=False) as answer:
            whole = None if _is_endless(request) else await answer.read()
            if rule is not None and rule.side is Side.AFTER:
                await rule.act(seen)
            await self._flow(seen)
            self._told(seen, answer.status)
            if whole is not None:
                return web.Response(status=answer.status, body=whole, headers=_kept(answer.headers))
            return await self._stream(request, seen, answer)

    async def _stream(self, request: web.Request, seen: Seen, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=_kept(answer.headers))
        await response.prepare(request)
        async for chunk in answer.content.iter_any():
            await self._flow(seen)
            await response.write(chunk)
        await response.write_eof()
        return response

    async def _flow(self, seen: Seen) -> None:
        """Wait while what a test froze includes this request."""
        while (gate := self._gate) is not None and gate.when(seen):
            await gate.opened.wait()

    def _told(self, seen: Seen, code: int) -> None:
        self._seen[seen.number - 1] = replace(seen, code=code)


def _kept(headers: Mapping[str, str]) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _HOP)


def _is_endless(request: web.Request) -> bool:
    return "watch" in request.query or "follow" in request.query


def _refuse(refusal: Refusal) -> web.Response:
    """What the API server would say: a Status object."""
    code = refusal.code
    reason = REASONS.get(code, "Unknown")
    status: dict[str, object] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": f"the test's proxy says {reason}",
        "reason": reason,
        "code": code,
    }
    headers: dict[str, str] = {}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(refusal.retry_after)
        status["details"] = {"retryAfterSeconds": refusal.retry_after}
    return web.json_response(status, status=code, headers=headers)
