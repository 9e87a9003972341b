"""Whose code is running: what a line says of its run, and `ctx.logger`."""

import logging
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import structlog

OURS = "stepwell"
RUN_LOGGER = "stepwell.run"


class Replays:
    """Whether this process shows what replayed code logs; it is dropped unless somebody looks for it."""

    shown = False


def show_replays() -> None:
    """From now on write what replayed code logs, with `replay=true`, for as long as the level is DEBUG: so `dev` does."""
    Replays.shown = True


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose code is running. `replaying` tells whether it has been there before.

    `attempt` and `epoch` may be questions, asked for each line; `trace` gives the ids of trace and span, in hex.
    """

    run_id: str
    function_id: str
    step: str | None
    attempt: int | Callable[[], int]
    replaying: Callable[[], bool]
    epoch: int | Callable[[], int] | None = None
    trace: Callable[[], tuple[str, str]] | None = None

    @property
    def is_silent(self) -> bool:
        """Whether what is logged here is dropped: the code has been here before, and nobody looks for that."""
        return self.replaying() and not _shows_replays()

    @property
    def fields(self) -> dict[str, Any]:
        """What every line of this code carries."""
        attempt = self.attempt if isinstance(self.attempt, int) else self.attempt()
        fields: dict[str, Any] = {"run_id": self.run_id, "function": self.function_id, "attempt": attempt}
        if self.step is not None:
            fields["step"] = self.step
        if self.epoch is not None:
            fields["epoch"] = self.epoch if isinstance(self.epoch, int) else self.epoch()
        if self.trace is not None:
            fields["trace_id"], fields["span_id"] = self.trace()
        if _shows_replays() and self.replaying():
            fields["replay"] = True
        return fields


current: ContextVar[Scope | None] = ContextVar("stepwell_scope", default=None)


class RunLogger:
    """`ctx.logger`: silent while the code replays. Fields are keywords; `%` arguments work as with the standard library.

    It writes through structlog where that is configured, else through the standard library's logger `stepwell.run`.
    """

    __slots__ = ("_scope",)

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def debug(self, message: str, *args: Any, **fields: Any) -> None:
        """Log for the developer."""
        self._log(logging.DEBUG, message, args, fields)

    def info(self, message: str, *args: Any, **fields: Any) -> None:
        """Log what happened."""
        self._log(logging.INFO, message, args, fields)

    def warning(self, message: str, *args: Any, **fields: Any) -> None:
        """Log what is odd."""
        self._log(logging.WARNING, message, args, fields)

    def error(self, message: str, *args: Any, **fields: Any) -> None:
        """Log what went wrong."""
        self._log(logging.ERROR, message, args, fields)

    def exception(self, message: str, *args: Any, **fields: Any) -> None:
        """Log what went wrong, with the exception that is being handled."""
        self._log(logging.ERROR, message, args, {"exc_info": True, **fields})

    def critical(self, message: str, *args: Any, **fields: Any) -> None:
        """Log what somebody has to look at now."""
        self._log(logging.CRITICAL, message, args, fields)

    def _log(self, level: int, message: str, args: tuple[Any, ...], fields: dict[str, Any]) -> None:
        scope = current.get()
        if scope is None or scope.run_id != self._scope.run_id:
            scope = self._scope
        if scope.is_silent:
            return
        entered = current.set(scope)
        try:
            if structlog.is_configured():
                write = getattr(structlog.get_logger(RUN_LOGGER), logging.getLevelName(level).lower())
                write(_filled(message, args), **{**scope.fields, **fields})
            else:
                _to_stdlib(level, _filled(message, args), fields)
        finally:
            current.reset(entered)


def is_ours(name: str) -> bool:
    """Whether the engine itself speaks: it is never dropped. What `ctx.logger` writes was let through before."""
    return name == OURS or name.startswith(f"{OURS}.")


def _shows_replays() -> bool:
    return Replays.shown and logging.getLogger().isEnabledFor(logging.DEBUG)


def _to_stdlib(level: int, message: str, fields: dict[str, Any]) -> None:
    logger = logging.getLogger(RUN_LOGGER)
    if logger.isEnabledFor(level):
        exc_info = fields.pop("exc_info", None)
        told = "".join(f" {name}={value!r}" for name, value in fields.items())
        logger.log(level, "%s%s", message, told, exc_info=exc_info, stacklevel=4)


def _filled(message: str, args: tuple[Any, ...]) -> str:
    """The message with its `%` arguments; one that doesn't fit them is told as it is, for logging never fails a run."""
    try:
        return message % args if args else message
    except (TypeError, ValueError, KeyError):
        return f"{message} {args!r}"
