"""Connections that can't starve others: headers within a size and a time, and when there are too many the idlest goes.

A slow sender costs a file descriptor and some memory, never a worker. What is bounded here is how many of those there are, and
for how long: a connection whose headers have not arrived owes them; it is closed when its time is up, or as the oldest of those
when a new one comes and there is no room. What follows a body counts as headers do: trailers are dropped, and have their size.
"""

import asyncio
import resource
from dataclasses import dataclass

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_CONNECTIONS = 10_000
TOO_LARGE = b"431 Request Header Fields Too Large"
SPARE = 64
"""File descriptors for everything else: the store's, logs, the API server's."""


class TooManyHeaders(Exception):  # what happened
    """More headers, or larger ones, than the limits allow."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request's head may be, and how many connections there may be."""

    header_bytes: int = 32 * 1024
    headers: int = 100
    header_seconds: float = 10.0
    linger_seconds: float = 2.0
    connections: int = MOST_CONNECTIONS


def limits_here() -> Limits:
    """The limits for this process: never more connections than it has file descriptors for."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Limits(connections=max(SPARE, min(MOST_CONNECTIONS, soft - SPARE)) if soft > 0 else MOST_CONNECTIONS)


def protocol(limits: Limits) -> "type[Careful]":
    """The protocol of uvicorn with these limits, for one server."""
    return type("Careful", (Careful,), {"limits": limits, "owed": {}})


class Careful(HttpToolsProtocol):
    """One connection; `limits` and `owed` are its server's."""

    limits: Limits
    owed: "dict[Careful, None]"

    _late: asyncio.TimerHandle | None = None
    _pending = 0
    """Bytes that came since the last header block or piece of a body was whole: of a head, of trailers, or blanks."""
    _in_head = True
    """Whether a request has begun whose headers are not all there; so it is with a new connection too."""
    _refusal = b"400 Bad Request"

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Owe a request; with too many connections, the one that has owed for longest goes."""
        super().connection_made(transport)
        self._owe()
        if len(self.connections) > self.limits.connections and self.owed:
            next(iter(self.owed)).give_up()

    def connection_lost(self, exc: Exception | None) -> None:
        """Owe nothing more."""
        self._settle()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came; unfinished headers have their time and their size, and so has what follows a body."""
        self._pending += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._pending > self.limits.header_bytes:
            self._refuse(TOO_LARGE)
            return
        if self._late is None and (self._in_head or self._is_idle):
            self._owe()  # the next request of a connection that is kept, or blanks in its place

    def on_message_begin(self) -> None:
        """A request begins with its headers."""
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header of the head. One that follows the body (a trailer) is dropped: nobody reads it, no limit holds it."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Take the headers on, if they are within the limits."""
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self.limits.header_bytes or len(self.headers) > self.limits.headers:
            self._refusal = TOO_LARGE
            raise TooManyHeaders
        super().on_headers_complete()
        self._in_head, self._pending = False, 0
        self._settle()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body on; its size is the route's matter."""
        self._pending = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The whole request is there."""
        super().on_message_complete()
        if self.cycle.response_complete:
            self.cycle.more_body = False
            self._settle()

    def on_response_complete(self) -> None:
        """Of a request that was answered before its body was there let the rest come, for a moment, and throw it away.

        Closing at once would reset the connection, and the sender might never see the answer.
        """
        unread = self.cycle.more_body
        super().on_response_complete()
        if unread and not self.transport.is_closing():
            self._owe(self.limits.linger_seconds)

    def send_400_response(self, msg: str) -> None:
        """Refuse what can't be parsed, or is too large."""
        del msg
        self._refuse(self._refusal)

    def give_up(self) -> None:
        """Close it: what it owes has not come in time, or others need the room. An answer under way is not cut off."""
        self._settle()
        if not self._is_idle:
            self._owe()
            return
        self._refuse(b"408 Request Timeout")

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete  # pyright: ignore[reportUnnecessaryComparison]

    def _refuse(self, status: bytes) -> None:
        """Close with this answer, or without one where a request has its answer and its rest is what is refused."""
        self._settle()
        is_answered = not self._in_head and self.cycle.response_started and self.cycle.more_body
        if not is_answered:
            self.transport.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()

    def _owe(self, seconds: float | None = None) -> None:
        self._settle()
        self.owed[self] = None
        self._late = self.loop.call_later(self.limits.header_seconds if seconds is None else seconds, self.give_up)

    def _settle(self) -> None:
        self.owed.pop(self, None)
        if self._late is not None:
            self._late.cancel()
            self._late = None
