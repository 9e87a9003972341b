"""The connection that beats and listens: on a thread and an event loop of its own, so that busy user code costs no lease.

Made at first use. NOTIFY goes out from here, at most one per 10 ms, and never in a write transaction: at its commit it takes
a lock of the whole server.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError
from typing import Any

import asyncpg

from stepwell.errors import AddressRefused, StoreUnavailable
from stepwell.store.postgres.connect import COMMAND_TIMEOUT, Address, connect, translated
from stepwell.store.postgres.driver import Connection

HINT_EVERY = 0.01
RELISTEN = 1.0
LONGEST_HINT = 7900
"""NOTIFY takes payloads below 8,000 bytes."""


class Heart:
    """One connection on one thread. `beat` may be called from any thread and blocks it; hints are put down and forgotten."""

    def __init__(self, address: Address, channel: str) -> None:
        self._address = address
        self._channel = channel
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()
        self._hears: dict[Callable[[str], None], Callable[[str], None]] = {}
        self._hints: set[str] = set()
        self._hinting = False
        self._own: int | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._closed = False

    def open(self) -> None:
        """Allow a thread to be made, again after a close."""
        self._closed = False

    def beat(self, query: str, *args: object) -> Any:
        """Run one statement and return its one value; StoreUnavailable if that can't be done in time."""
        loop = self._started()
        future = asyncio.run_coroutine_threadsafe(self._fetchval(query, *args), loop)
        try:
            return future.result(COMMAND_TIMEOUT * 2)
        except TimeoutError as error:
            future.cancel()
            raise StoreUnavailable("Postgres did not answer the beat in time") from error
        except CancelledError as error:
            raise StoreUnavailable("the store is being closed") from error

    def hint(self, payload: str) -> None:
        """Send a hint soon, together with the others of the same 10 ms."""
        self._started().call_soon_threadsafe(self._put, payload)

    async def listen(self, hear: Callable[[str], None]) -> None:
        """Call `hear` on the calling loop for every hint of another process, from now on and after every reconnect."""
        home = asyncio.get_running_loop()
        loop = self._started()

        def tell(payload: str) -> None:
            if not home.is_closed():
                home.call_soon_threadsafe(hear, payload)

        self._hears[hear] = tell  # asked again, after a failure to connect, it is the same listener
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._listen(), loop))

    async def close(self) -> None:
        """End the thread and its connection."""
        with self._lock:
            self._closed = True
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        self._hears.clear()
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._end(), loop))
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.to_thread(thread.join)

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._closed:
                raise StoreUnavailable("the store is closed")
            if self._loop is None:
                loop = asyncio.new_event_loop()
                self._turn = asyncio.Lock()  # one belongs to one loop
                self._thread = threading.Thread(target=_run, args=(loop,), name="stepwell-heart", daemon=True)
                self._thread.start()
                self._loop = loop
            return self._loop

    async def _fetchval(self, query: str, *args: object) -> Any:
        async def ask(connection: Connection) -> Any:
            return await connection.fetchval(query, *args)

        return await self._with(ask)

    async def _with(self, act: Callable[[Connection], Awaitable[Any]]) -> Any:
        """Use the connection, alone; make it anew, once, where it has broken meanwhile."""
        async with self._turn:
            known = self._connection is not None and not self._connection.is_closed()
            try:
                return await act(await self._connected())
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
                self._drop()
                if not known or isinstance(error, TimeoutError):
                    raise translated(error) from error
            try:
                return await act(await self._connected())
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
                self._drop()
                raise translated(error) from error

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            try:
                self._connection = await connect(self._address)
            except AddressRefused as error:  # it was let in when the store was opened, so it is refused for a while
                raise StoreUnavailable(str(error)) from error
            if self._hears and not self._address.pooler:
                self._own = self._connection.get_server_pid()
                await self._connection.add_listener(self._channel, self._heard)
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _listen(self) -> None:
        """Listen, and look once a second whether the connection is still there: hints are lost silently otherwise."""

        async def add(connection: Connection) -> None:
            if self._own != connection.get_server_pid():
                self._own = connection.get_server_pid()
                await connection.add_listener(self._channel, self._heard)

        await self._with(add)
        if self._watch is None:
            self._watch = asyncio.get_running_loop().call_later(RELISTEN, self._look)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._watch = loop.call_later(RELISTEN, self._look)
        if self._connection is None or self._connection.is_closed():
            _in_background(self._listen)

    def _heard(self, _connection: object, pid: int, _channel: str, payload: object) -> None:
        if pid != self._own:
            for tell in self._hears.values():
                tell(str(payload))

    def _put(self, payload: str) -> None:
        self._hints.update(payload.split(","))
        if not self._hinting:
            self._hinting = True
            asyncio.get_running_loop().call_later(HINT_EVERY, self._send)

    def _send(self) -> None:
        self._hinting = False
        hints, self._hints = self._hints, set()
        payload = ",".join(sorted(hints))
        # A hint that doesn't fit says that there is news, and not where.
        payload = payload if len(payload.encode()) < LONGEST_HINT else ""
        _in_background(lambda: self._fetchval("select pg_notify($1, $2)", self._channel, payload))

    async def _end(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._drop()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()


_tasks: set[asyncio.Task[None]] = set()


def _in_background(work: Callable[[], Awaitable[Any]]) -> None:
    """Best effort: a hint that can't be sent is no error, for polling is the guarantee."""

    async def attempt() -> None:
        try:
            await work()
        except StoreUnavailable:
            return

    task = asyncio.get_running_loop().create_task(attempt())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
