"""Logs: every line of user code carries run, function, step and attempt, and none is written twice because of a replay."""

import logging
import sys
from collections.abc import Callable, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import structlog
import structlog.tracebacks


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose code is running. `replaying` tells whether it is where it has been before."""

    run_id: str
    function_id: str
    step: str | None
    attempt: int
    replaying: Callable[[], bool]


current: ContextVar[Scope | None] = ContextVar("stepwell_scope", default=None)


class RunLogger:
    """`ctx.logger`: silent while the code replays. Fields are keywords; `%` arguments work as with the standard library."""

    __slots__ = ("_logger", "_scope")

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._logger = structlog.get_logger("stepwell.run")

    def debug(self, message: str, *args: Any, **fields: Any) -> None:
        """Log for the developer."""
        self._log("debug", message, args, fields)

    def info(self, message: str, *args: Any, **fields: Any) -> None:
        """Log what happened."""
        self._log("info", message, args, fields)

    def warning(self, message: str, *args: Any, **fields: Any) -> None:
        """Log what is odd."""
        self._log("warning", message, args, fields)

    def error(self, message: str, *args: Any, **fields: Any) -> None:
        """Log what went wrong."""
        self._log("error", message, args, fields)

    def exception(self, message: str, *args: Any, **fields: Any) -> None:
        """Log what went wrong, with the exception that is being handled."""
        self._log("error", message, args, {**fields, "exc_info": True})

    def critical(self, message: str, *args: Any, **fields: Any) -> None:
        """Log what somebody has to look at now."""
        self._log("critical", message, args, fields)

    def _log(self, level: str, message: str, args: tuple[Any, ...], fields: dict[str, Any]) -> None:
        if not self._scope.replaying():
            getattr(self._logger, level)(message % args if args else message, **_fields(self._scope), **fields)


def add_context(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: add run, function, step and attempt, and drop lines of replayed code between steps."""
    scope = current.get()
    if scope is None:
        return event
    if scope.replaying():
        raise structlog.DropEvent
    for name, value in _fields(scope).items():
        event.setdefault(name, value)
    return event


class ContextFilter(logging.Filter):
    """The same for the standard library: put it on a handler."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add run, function, step and attempt; False for lines of replayed code between steps."""
        scope = current.get()
        if scope is None:
            return True
        for name, value in _fields(scope).items():
            setattr(record, name, value)
        return not scope.replaying()


def install_context() -> None:
    """Give every record of the standard library its context, and every handler of the root logger the filter."""
    for handler in logging.getLogger().handlers:
        if not any(isinstance(one, ContextFilter) for one in handler.filters):
            handler.addFilter(ContextFilter())


def configure(*, json: bool | None = None, level: str = "INFO") -> None:
    """Write logs to standard output: for eyes on a terminal, else (or when asked) as JSON lines."""
    json = not sys.stdout.isatty() if json is None else json
    shared: list[Any] = [
        add_context,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
    ]
    last: Any = structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())
    if json:
        shared += [structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)), structlog.processors.EventRenamer("msg")]
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(processors=[*shared, last], wrapper_class=structlog.make_filtering_bound_logger(number))
    handler = logging.StreamHandler(sys.stdout)
    foreign: list[Any] = [structlog.stdlib.ExtraAdder(), *shared]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=foreign, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last]
        )
    )
    handler.addFilter(ContextFilter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(number)


def _fields(scope: Scope) -> dict[str, Any]:
    fields: dict[str, Any] = {"run_id": scope.run_id, "function": scope.function_id, "attempt": scope.attempt}
    if scope.step is not None:
        fields["step"] = scope.step
    return fields
