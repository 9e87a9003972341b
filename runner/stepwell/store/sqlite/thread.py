"""One thread that owns one connection: work goes in by a queue, answers come back to the event loop in bundles."""

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

import apsw

from stepwell.errors import StoreError, StoreUnavailable

T = TypeVar("T")
Work = Callable[[apsw.Connection], Any]
Answer = Callable[[Any, BaseException | None], None]
BUSY = (apsw.FullError, apsw.IOError, apsw.BusyError, apsw.LockedError, apsw.ReadOnlyError, apsw.CantOpenError)


class ConnectionThread:
    """Run work on a connection, one piece after the other."""

    def __init__(self, name: str, connect: Callable[[], apsw.Connection]) -> None:
        self._connect = connect
        self._todo: SimpleQueue[tuple[Work, Answer] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._started = threading.Event()
        self._failed: BaseException | None = None

    def start(self) -> None:
        """Open the connection; raise what opening it raised."""
        self._thread.start()
        self._started.wait()
        if self._failed is not None:
            raise _told(self._failed)

    def stop(self) -> None:
        """Finish what was asked and close the connection."""
        self._todo.put(None)
        self._thread.join()

    async def run(self, work: Callable[[apsw.Connection], T]) -> T:
        """Do the work on the thread and come back to this event loop with its answer."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def answer(value: Any, error: BaseException | None) -> None:
            loop.call_soon_threadsafe(_resolve, future, value, error)

        if not self._thread.is_alive():
            raise StoreUnavailable("the store is closed")
        self._todo.put((work, answer))
        return await future

    def run_blocking(self, work: Callable[[apsw.Connection], T]) -> T:
        """Do the work on the thread and block the calling one until it is done."""
        done = threading.Event()
        result: list[Any] = [None, None]

        def answer(value: Any, error: BaseException | None) -> None:
            result[:] = [value, error]
            done.set()

        if not self._thread.is_alive():
            raise StoreUnavailable("the store is closed")
        self._todo.put((work, answer))
        done.wait()
        if result[1] is not None:
            raise _told(result[1])
        return result[0]

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
            try:
                value = work(connection)
            except BaseException as error:  # noqa: BLE001 - told to whoever asked
                answer(None, error)
            else:
                answer(value, None)
        connection.close()


def transaction(connection: apsw.Connection, work: Callable[[apsw.Cursor], T]) -> T:
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


def _resolve(future: "asyncio.Future[Any]", value: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(_told(error))
    else:
        future.set_result(value)


def _told(error: BaseException) -> BaseException:
    if isinstance(error, BUSY):
        return StoreUnavailable(f"SQLite: {error}")
    if isinstance(error, apsw.Error):
        return StoreError(f"SQLite: {error}")
    return error
