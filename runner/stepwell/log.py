"""Logs: every line of user code carries run, function, step and attempt, and none is written twice because of a replay.

`configure` sets up the programs of this package: JSON lines on standard output, or something for eyes on a terminal, with the
keys `ts level msg component namespace logger function run_id step attempt`. Whoever brings a logging configuration of their own
keeps it: `install_context` works beside any. The standard library needs nothing more (but a `ContextFilter` on handlers made
later, to have `%(run_id)s` and the like in their formats); structlog needs `stepwell.log.add_context` as its first processor:

    structlog.configure(processors=[stepwell.log.add_context, structlog.processors.add_log_level, …])
"""

import json as stdlib_json
import logging
import sys
from collections.abc import Callable, Iterable, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

OURS = "stepwell"
RUN_LOGGER = "stepwell.run"
UNSEEN = -1
"""Below every level: no handler takes such a record, wherever it hangs."""
ORDER = ("ts", "level", "msg", "component", "namespace", "logger", "function", "run_id", "step", "attempt")


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose code is running. `replaying` tells whether it has been there before; `attempt` may be a question, asked each time."""

    run_id: str
    function_id: str
    step: str | None
    attempt: int | Callable[[], int]
    replaying: Callable[[], bool]

    @property
    def fields(self) -> dict[str, Any]:
        """What every line of this code carries."""
        attempt = self.attempt if isinstance(self.attempt, int) else self.attempt()
        fields: dict[str, Any] = {"run_id": self.run_id, "function": self.function_id, "attempt": attempt}
        if self.step is not None:
            fields["step"] = self.step
        return fields


_NOWHERE: dict[str, Any] = {"run_id": None, "function": None, "step": None, "attempt": None}
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
        if scope.replaying():
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


def add_context(logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: add run, function, step and attempt, and drop lines of replayed code between steps."""
    scope = current.get()
    if scope is None:
        return event
    if not _is_ours(getattr(logger, "name", "")) and scope.replaying():
        raise structlog.DropEvent
    for name, value in scope.fields.items():
        event.setdefault(name, value)
    return event


class ContextFilter(logging.Filter):
    """For handlers of the standard library: give records `run_id`, `function`, `step` and `attempt`, None where there is none.

    It drops lines of replayed code between steps as well, so that it is enough by itself on a handler.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add what the record has not got from its own `extra`; False for lines of replayed code between steps."""
        made_in: Scope | None = record.__dict__.get("stepwell")
        scope = made_in or current.get()
        for name, value in {**_NOWHERE, **(scope.fields if scope else {})}.items():
            record.__dict__.setdefault(name, value)
        # One that knows where it was made was judged there and then; this may be another thread, and later.
        return made_in is not None or scope is None or _is_ours(record.name) or not scope.replaying()


def install_context() -> None:
    """Give every record of the standard library its context, drop what replayed code logs, and fit the handlers there are.

    It may be called again, after handlers were added; what is there is kept.
    """
    factory = logging.getLogRecordFactory()
    if not isinstance(factory, _ContextFactory):
        logging.setLogRecordFactory(_ContextFactory(factory))
    for handler in _handlers():
        if not any(isinstance(one, ContextFilter) for one in handler.filters):
            handler.addFilter(ContextFilter())


def configure(*, json: bool | None = None, level: str = "INFO", component: str = "", namespace: str = "") -> None:
    """Write logs to standard output: for eyes on a terminal, else (or when asked) as JSON lines. Called again, it changes that.

    Handlers that somebody else put on the root logger stay, and ours is not added beside them.
    """
    json = not sys.stdout.isatty() if json is None else json
    number = logging.getLevelNamesMapping()[level.upper()]
    always = {name: value for name, value in (("component", component), ("namespace", namespace)) if value}
    shared: list[Any] = [
        _Always(always),
        _named,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
    ]
    last = _json_tail() if json else _terminal_tail()
    structlog.configure(
        processors=[add_context, *shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=_Line,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [one for one in root.handlers if not isinstance(one, _Output)]
    if not root.handlers:
        handler = _Output(sys.stdout)
        foreign: list[Any] = [_from_record, structlog.stdlib.PositionalArgumentsFormatter(), *shared]
        remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
        handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=foreign, processors=[remove, *last]))
        root.addHandler(handler)
    root.setLevel(number)
    install_context()


# --- how records get their context ---


class _ContextFactory:
    """Makes records as the factory before did, with the scope they were made in: a handler may run in another thread."""

    def __init__(self, before: Callable[..., logging.LogRecord]) -> None:
        self._before = before

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self._before(*args, **kwargs)
        scope = current.get()
        if scope is not None and record.name:  # without a name it is a blank, into which a formatter copies a record
            # Not as run_id and so on: logging refuses an `extra` whose names the record has already.
            record.stepwell = scope  # type: ignore[attr-defined]
            if not _is_ours(record.name) and scope.replaying():
                record.levelno = UNSEEN
        return record


def _handlers() -> Iterable[logging.Handler]:
    root = logging.getLogger()
    yield from root.handlers
    for logger in list(root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            yield from logger.handlers


def _is_ours(name: str) -> bool:
    """Whether the engine itself speaks: it is never dropped. What `ctx.logger` writes was let through before."""
    return name == OURS or name.startswith(f"{OURS}.")


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


# --- how lines look ---


class _Output(logging.StreamHandler[Any]):
    """Our handler on the root logger, known by its class."""


class _Line(structlog.WriteLogger):
    """Writes whole lines to standard output, each at once, and knows its name."""

    def __init__(self, *args: Any) -> None:
        super().__init__(sys.stdout)
        self.name = str(args[0]) if args else ""


class _Always:
    """Adds what all lines of the process carry."""

    def __init__(self, fields: dict[str, str]) -> None:
        self._fields = fields

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for name, value in self._fields.items():
            event.setdefault(name, value)
        return event


def _named(logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add who speaks, if it has a name."""
    record = event.get("_record")
    name = logger.name if record is None else record.name
    return {**event, "logger": name} if name else event


def _from_record(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """What a record of the standard library carries: its scope and its `extra`."""
    structlog.stdlib.ExtraAdder()(_logger, _method, event)
    scope: Scope | None = event.pop("stepwell", None)
    for name in _NOWHERE:
        if event.get(name) is None:
            event.pop(name, None)
    if scope is not None:
        for name, value in scope.fields.items():
            event.setdefault(name, value)
    return event


def _json_tail() -> list[Any]:
    # without locals: they hold payloads and secrets
    tracebacks = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
    return [tracebacks, structlog.processors.EventRenamer("msg"), _ordered, structlog.processors.JSONRenderer(_to_json)]


def _terminal_tail() -> list[Any]:
    colours = sys.stdout.isatty()
    return [structlog.dev.ConsoleRenderer(colors=colours, timestamp_key="ts", exception_formatter=structlog.dev.plain_traceback)]


def _ordered(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {**{name: event[name] for name in ORDER if name in event}, **event}


def _to_json(event: Any, **_options: Any) -> str:
    """One line of JSON, whatever the fields hold."""
    try:
        return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
    except (TypeError, ValueError):  # a lone surrogate, a huge integer, a circle
        return stdlib_json.dumps({str(name): repr(value) for name, value in event.items()})
