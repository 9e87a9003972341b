"""How the programs of this package write lines: JSON, or something for eyes, on standard output, from a level that may change."""

import json as stdlib_json
import logging
from collections.abc import MutableMapping
from typing import Any

import orjson
import structlog

from stepwell.log.context import NOWHERE, add_context, install_context
from stepwell.log.prints import real_stdout
from stepwell.log.scope import Scope

ORDER = (
    "ts", "level", "msg", "component", "namespace", "logger", "function", "run_id", "step", "attempt", "epoch", "trace_id",
    "span_id", "version", "pod",
)  # fmt: skip
FORMATTED = ("message", "asctime")
"""What a formatter of somebody else's leaves on a record; `extra` can't have these names."""
TALKATIVE = (
    "kubernetes",
    "kopf",
    "aiohttp",
    "asyncio",
    "asyncpg",
    "uvicorn",
    "urllib3",
    "requests",
    "opentelemetry",
    "watchfiles",
)


def configure(*, json: bool | None = None, level: str = "INFO", **always: str) -> None:
    """Write logs to standard output: for eyes on a terminal, else (or when asked) as JSON lines. Called again, it changes that.

    `always` are fields of every line (`component`, `namespace`, `version`, `pod`); for eyes the component alone.

    Handlers that somebody else put on the root logger stay, and ours is not added beside them.
    """
    out = real_stdout()
    json = not out.isatty() if json is None else json
    number = logging.getLevelNamesMapping()[level.upper()]
    told = {name: value for name, value in always.items() if value and (json or name == "component")}
    shared: list[Any] = [
        _Always(told),
        _named,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
    ]
    last = _json_tail() if json else _terminal_tail(colours=out.isatty())
    structlog.configure(
        processors=[add_context, *shared, *last],
        wrapper_class=_wrapper(number),
        logger_factory=_Line,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [one for one in root.handlers if not isinstance(one, _Output)]
    if not root.handlers:
        handler = _Output(out)
        foreign: list[Any] = [_from_record, structlog.stdlib.PositionalArgumentsFormatter(), *shared]
        remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
        handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=foreign, processors=[remove, *last]))
        root.addHandler(handler)
    root.setLevel(number)
    _quieten(number)
    install_context()


def set_level(level: str) -> None:
    """Log from this level on, from now on; whoever configured structlog otherwise keeps what they have."""
    number = logging.getLevelNamesMapping()[level.upper()]
    if structlog.get_config()["wrapper_class"] in _wrappers.values():
        structlog.configure(wrapper_class=_wrapper(number))
    logging.getLogger().setLevel(number)
    _quieten(number)


_wrappers: dict[int, Any] = {}
_quiet: dict[str, int] = {}


def _wrapper(number: int) -> Any:
    """The class of loggers that write from this level on; the same one each time, so that ours is known from others'."""
    return _wrappers.setdefault(number, structlog.make_filtering_bound_logger(number))


def _quieten(number: int) -> None:
    """Libraries that Stepwell itself uses never log for developers: they would write bodies, headers and addresses.

    Where somebody has set a level of their own it stays.
    """
    for name in TALKATIVE:
        logger = logging.getLogger(name)
        if logger.level in {logging.NOTSET, _quiet.get(name, logging.NOTSET)}:
            _quiet[name] = max(number, logging.INFO)
            logger.setLevel(_quiet[name])


# --- how lines look ---


class _Output(logging.StreamHandler[Any]):
    """Our handler on the root logger, known by its class."""


class _Line(structlog.WriteLogger):
    """Writes whole lines to standard output, each at once, and knows its name."""

    def __init__(self, *args: Any) -> None:
        super().__init__(real_stdout())
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
    for name in FORMATTED:
        event.pop(name, None)
    for name in NOWHERE:
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


def _terminal_tail(*, colours: bool) -> list[Any]:
    return [structlog.dev.ConsoleRenderer(colors=colours, timestamp_key="ts", exception_formatter=structlog.dev.plain_traceback)]


def _ordered(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {**{name: event[name] for name in ORDER if name in event}, **event}


def _to_json(event: Any, **_options: Any) -> str:
    """One line of JSON, whatever the fields hold."""
    try:
        return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
    except (TypeError, ValueError):  # a lone surrogate, a huge integer, a circle
        return stdlib_json.dumps({str(name): repr(value) for name, value in event.items()})
