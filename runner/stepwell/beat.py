"""The beat: a thread of its own renews the lease, so that code which blocks the event loop loses nothing.

What the steps under way tell of how far they are rides along, so that other processes can show it: it costs no statement of its
own, and whatever may be wrong with it costs no beat.

The same thread watches the loop: user code that holds it for over a second is named, with the line it stands at.
"""

import asyncio
import sys
import threading
import traceback
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

import structlog

from stepwell.engine.crashpoint import crashpoint
from stepwell.store.protocol import Store
from stepwell.store.telling import told_text
from stepwell.store.views import ProgressRow

LOOK = 0.5
BLOCKED_FROM = 1.0
NOTHING = told_text(())


class Leaseholder(Protocol):
    """Whom the beat tells; every call arrives on the event loop."""

    def lease_renewed(self) -> None:
        """The beat got through."""
        ...

    async def lease_gone(self) -> None:
        """The store no longer knows this runner."""
        ...

    def in_flight(self) -> tuple[str, ...]:
        """The functions whose step bodies run now; asked from the beat's thread while the loop stands still."""
        ...

    def told(self) -> Sequence[ProgressRow]:
        """What the steps under way tell of how far they are; asked from the beat's thread."""
        ...

    def blocked(self, seconds: float, functions: tuple[str, ...]) -> None:
        """User code, of one of these functions, held the event loop for so long."""
        ...


class Beat:
    """Renew a lease three times in its length, from a thread, until stopped."""

    def __init__(self, store: Store, runner_id: str, lease: timedelta, holder: Leaseholder) -> None:
        self._store = store
        self._runner_id = runner_id
        self._lease = lease
        self._holder = holder
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._stopped = threading.Event()
        self._answered = threading.Event()
        self._answered.set()
        self._silent = 0.0
        self._suspects: tuple[str, ...] = ()
        self._carries = False
        """Whether the row may hold words of steps, which are to be taken out of it when they are over."""
        self._thread = threading.Thread(target=self._run, name="stepwell-beat", daemon=True)
        self._log = structlog.get_logger("stepwell.beat")

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """Stop beating; the lease ends by itself."""
        self._stopped.set()

    def _run(self) -> None:
        every = self._lease.total_seconds() / 3
        since = 0.0
        while not self._stopped.wait(LOOK):
            self._watch_loop()
            since += LOOK
            if since >= every:
                since = 0.0
                self.beat()

    def beat(self) -> None:
        """Renew the lease once, blocking."""
        crashpoint("beat-before")
        told = self._told()
        try:
            kept = self._store.beat(self._runner_id, round(self._lease.total_seconds() * 1_000_000), told=told)
        except Exception as error:  # noqa: BLE001 - the next beat may get through, and without this thread there is none
            self._log.warning("the lease could not be renewed", error=str(error) or type(error).__name__)
            return
        crashpoint("beat-after")
        self._carries = self._carries and told != NOTHING
        if self._stopped.is_set():
            return
        if kept:
            self._loop.call_soon_threadsafe(self._holder.lease_renewed)
        else:
            self._log.error("the lease is gone; runs held by this runner are taken over")
            self._loop.call_soon_threadsafe(lambda: self._loop.create_task(self._holder.lease_gone()))

    def _told(self) -> str | None:
        """What the row is to hold of the steps' progress from now on, None for what it holds: nothing, mostly."""
        try:
            words = self._holder.told()
            if not words and not self._carries:
                return None
            told = told_text(words)
        except Exception as error:  # noqa: BLE001 - the lease is worth more than any word
            self._log.warning("what steps tell of their progress could not be sent along", error=str(error))
            return None
        self._carries = True  # from before it is tried: a beat that seems to have failed may have got there
        return told

    def _watch_loop(self) -> None:
        if self._answered.is_set():
            if self._silent >= BLOCKED_FROM:
                self._loop.call_soon_threadsafe(self._holder.blocked, self._silent, self._suspects)
            self._silent = 0.0
            self._answered.clear()
            self._loop.call_soon_threadsafe(self._answered.set)
            return
        before, self._silent = self._silent, self._silent + LOOK
        if before < BLOCKED_FROM <= self._silent:
            self._suspects = self._holder.in_flight()
            frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            where = "".join(traceback.format_stack(frame, limit=3)) if frame is not None else ""
            self._log.warning(
                "the event loop is blocked; use `def` instead of `async def` for a step that blocks, it runs in a thread",
                seconds=self._silent,
                functions=self._suspects,
                at=where,
            )
