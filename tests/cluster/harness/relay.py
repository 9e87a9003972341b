"""Reach into a network namespace from outside: loopback ports here whose connections come out there.

A socket belongs to the namespace in which it was made, whoever uses it later. The listening ones are made here; a thread that has moved into
the namespace accepts on them and makes the connecting ones. Nothing of the machine's own network is touched.
"""

import asyncio
import contextlib
import ctypes
import os
import socket
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Self

_CLONE_NEWNET = 0x40000000
_CHUNK = 1 << 16
PATIENCE = 30.0


class Relay:
    """Between `__enter__` and `__exit__`, ports of this side lead to addresses of the other."""

    def __init__(self, namespace: Path) -> None:
        self._namespace = namespace
        self._known: dict[tuple[str, int], int] = {}
        self._joined: set[asyncio.Task[None] | None] = set()
        self._started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=self._run, name="relay")

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.result(PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        loop, ended = self._started.result()
        loop.call_soon_threadsafe(ended.set)
        self._thread.join(PATIENCE)

    def reach(self, address: str, port: int, here: int = 0) -> int:
        """A port on 127.0.0.1 here that leads to this address there; `here` chooses it."""
        if (known := self._known.get((address, port))) is not None:
            return known
        listening = socket.create_server(("127.0.0.1", here))
        loop = self._started.result()[0]
        asyncio.run_coroutine_threadsafe(self._listen(listening, address, port), loop).result(PATIENCE)
        self._known[address, port] = listening.getsockname()[1]
        return self._known[address, port]

    def _run(self) -> None:
        try:
            with self._namespace.open("rb") as namespace:
                _enter(namespace.fileno())
            asyncio.run(self._serve())
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)

    async def _serve(self) -> None:
        ended = asyncio.Event()
        self._servers: list[asyncio.Server] = []
        self._started.set_result((asyncio.get_running_loop(), ended))
        await ended.wait()
        for server in self._servers:
            server.close()

    async def _listen(self, listening: socket.socket, address: str, port: int) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # Where the near side has sent its end nothing else holds on to the task, and it would be collected before it is done.
            task = asyncio.current_task()
            self._joined.add(task)
            try:
                await _join(reader, writer, address, port)
            finally:
                self._joined.discard(task)

        self._servers.append(await asyncio.start_server(serve, sock=listening))


def _enter(namespace: int) -> None:
    """Move this thread, and it alone, into a network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


async def _join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str, port: int) -> None:
    """One connection, both ways, until either side ends it."""
    with contextlib.closing(writer):
        try:
            far_reader, far_writer = await asyncio.open_connection(address, port)
        except OSError:
            # To the client it looks as it would there: a connection that comes to nothing.
            writer.transport.abort()
            return
        with contextlib.closing(far_writer):
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()
