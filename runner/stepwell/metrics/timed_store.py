"""A store whose verbs are timed and whose failures are counted, by verb and class."""

import functools
from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import Any, cast

from stepwell.clock import stopwatch
from stepwell.errors import StoreError, StoreUnavailable
from stepwell.metrics.process import Metrics
from stepwell.store.protocol import Store

UNTIMED = frozenset({"open", "close", "migrate", "on_hint", "hint"})
"""What is done once in a process's life, or is no question to the store."""
CONFLICTS = ("40001", "40P01", "55P03")
TIMED_OUT = "57014"
FULL = "53100"


def timed(store: Store, metrics: Metrics) -> Store:
    """The same store, watched."""
    return cast("Store", _Timed(store, metrics))


class _Timed:
    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if iscoroutinefunction(found) and name not in UNTIMED:
            found = self._watched(name, found)
            setattr(self, name, found)  # the next call finds it here
        return found

    def beat(self, runner_id: str, lease: int, now: int | None = None, told: str | None = None) -> bool:
        """Renew a lease, blocking, from the beat's thread."""
        began = stopwatch()
        try:
            return self._store.beat(runner_id, lease, now, told)
        except StoreError as error:
            self._metrics.store_failed("beat", failure_class(error))
            raise
        finally:
            self._metrics.store_done("beat", stopwatch() - began)

    def _watched(self, name: str, verb: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        metrics = self._metrics

        @functools.wraps(verb)
        async def call(*args: Any, **more: Any) -> Any:
            began = stopwatch()
            try:
                return await verb(*args, **more)
            except StoreError as error:
                metrics.store_failed(name, failure_class(error))
                raise
            finally:
                metrics.store_done(name, stopwatch() - began)

        return call


def failure_class(error: StoreError) -> str:
    """Why a verb failed, by what the driver said: conflict, timeout, unavailable, full or other."""
    cause = error.__cause__
    state = str(getattr(cause, "sqlstate", None) or "")
    driver = type(cause).__name__
    if isinstance(cause, TimeoutError) or state == TIMED_OUT:
        return "timeout"
    if state in CONFLICTS or driver in {"BusyError", "LockedError"}:
        return "conflict"
    if state == FULL or driver == "FullError":
        return "full"
    return "unavailable" if isinstance(error, StoreUnavailable) else "other"
