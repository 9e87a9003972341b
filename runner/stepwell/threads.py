"""The threads that bodies written as plain functions run in, so that one which blocks holds up nobody."""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

THREADS = 32


class Threads:
    """Call functions in threads, each in the context of whoever asks. What finds no thread free waits for one."""

    def __init__(self) -> None:
        self.busy = 0
        """How many calls are under way now, or wait for a thread."""
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="stepwell-step")

    def call(self, body: Callable[[], object]) -> Awaitable[object]:
        """Call it in a thread; what it returns or raises."""
        context = contextvars.copy_context()
        self.busy += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, context.run, body)
        future.add_done_callback(self._done)
        return future

    def stop(self) -> None:
        """Begin nothing more; what runs is left to itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _done(self, _future: object) -> None:
        self.busy -= 1
