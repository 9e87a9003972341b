"""One thread that owns one connection: work goes in by a queue, answers come back to the event loop in bundles."""

import asyncio
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

import apsw

from stepwell.errors import StoreError, StoreUnavailable
from stepwell.store.sqlite.driver import Connection, Cursor

T = TypeVar("T")
Work = Callable[[Connection], Any]
Answer = Callable[[Any, BaseException | None], None]
HAND_OVER = 0.0005
"""Seconds that a busy event loop may keep the interpreter's lock from this thread. With Python's 5 ms, which start anew with each
poll of the loop, a loop of many short callbacks kept a commit waiting for seconds; benchmarks are the same with both."""
AWAY = (apsw.FullError, apsw.IOError, apsw.BusyError, apsw.LockedError, apsw.ReadOnlyError, apsw.CantOpenError)


class ConnectionThread:
    """Run work on a connection, one piece after the other."""

    def __init__(self, name: str, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._todo: SimpleQueue[tuple[Work, Answer] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._started = threading.Event()
        self._failed: BaseException | None = None
        self._stopping = False
        self._bundles: dict[asyncio.AbstractEventLoop, _Bundle] = {}
        self.busy = False

    def start(self) -> None:
        """Open the connection; raise what opening it raised. The whole process hands over its lock faster from then on."""
        sys.setswitchinterval(min(sys.getswitchinterval(), HAND_OVER))
        self._thread.start()
        self._started.wait()
        if self._failed is not None:
            raise _told(self._failed)

    def stop(self) -> None:
        """Finish what was asked and close the connection."""
        self._stopping = True
        self._todo.put(None)
        self._thread.join()

    @property
    def waiting(self) -> int:
        """How many calls wait for their turn."""
        return self._todo.qsize()

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Do the work on the thread and come back to this event loop with its answer."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        bundle = self._bundles.get(loop)
        if bundle is None:
            # One loop at a time uses a store; a test's loop of before is closed and forgotten.
            self._bundles = {loop: (bundle := _Bundle(loop))}
        self._ask(work, lambda value, error: bundle.add(future, value, error))
        return await future

    def run_blocking(self, work: Callable[[Connection], T]) -> T:
        """Do the work on the thread and block the calling one until it is done."""
        done = threading.Event()
        result: list[Any] = [None, None]

        def answer(value: Any, error: BaseException | None) -> None:
            result[:] = [value, error]
            done.set()

        self._ask(work, answer)
        while not done.wait(1.0):
            if not self._thread.is_alive() and not done.is_set():
                raise StoreUnavailable("the store was closed")
        if result[1] is not None:
            raise _told(result[1])
        return result[0]

    def _ask(self, work: Work, answer: Answer) -> None:
        if self._stopping or not self._thread.is_alive():
            raise StoreUnavailable("the store is closed")
        self._todo.put((work, answer))

    def _run(self) -> None:
        try:
            connection = self._connect()
        except BaseException as error:  # noqa: BLE001 - told to whoever starts the thread
            self._failed = error
            self._started.set()
            return
        self._started.set()
        while (item := self._todo.get()) is not None:
            work, answer = item
            self.busy = True
            try:
                value = work(connection)
            except BaseException as error:  # noqa: BLE001 - told to whoever asked
                self.busy = False
                answer(None, error)
            else:
                self.busy = False
                answer(value, None)
        connection.close()


class _Bundle:
    """Answers on their way to one event loop: all that are there go in one call, for each call wakes the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._answers: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._called = False

    def add(self, future: "asyncio.Future[Any]", value: Any, error: BaseException | None) -> None:
        """Hand over one answer, from the thread."""
        self._answers.append((future, value, error))
        if not self._called:
            self._called = True
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._resolve)

    def _resolve(self) -> None:
        # The flag first: an answer that is added from here on calls again, so that none is left behind.
        self._called = False
        while self._answers:
            future, value, error = self._answers.popleft()
            if future.done():
                continue
            if error is not None:
                future.set_exception(_told(error))
            else:
                future.set_result(value)


def transaction(connection: Connection, work: Callable[[Cursor], T]) -> T:
    """Do the work in one immediate transaction: all of it is durable, or nothing of it happened."""
    cursor = connection.cursor()
    cursor.execute("BEGIN IMMEDIATE")
    try:
        value = work(cursor)
        cursor.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            cursor.execute("ROLLBACK")
        raise
    return value


def snapshot(connection: Connection, work: Callable[[Cursor], T]) -> T:
    """Do several reads on one state of the well."""
    cursor = connection.cursor()
    cursor.execute("BEGIN")
    try:
        return work(cursor)
    finally:
        cursor.execute("ROLLBACK")


def _told(error: BaseException) -> BaseException:
    told: StoreError | None = None
    if isinstance(error, AWAY):
        told = StoreUnavailable(f"SQLite: {error}")
    elif isinstance(error, apsw.Error):
        told = StoreError(f"SQLite: {error}")
    if told is None:
        return error
    told.__cause__ = error
    return told
