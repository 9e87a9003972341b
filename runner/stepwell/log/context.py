"""Context on every line of user code, whichever library it logs with; nothing twice because of a replay."""

import logging
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any

import structlog

from stepwell.log.scope import Scope, current, is_ours

UNSEEN = -1
"""Below every level: no handler takes such a record, wherever it hangs."""
NOWHERE: dict[str, Any] = dict.fromkeys(("run_id", "function", "step", "attempt", "epoch", "trace_id", "span_id"))


def add_context(logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: add run, function, step and attempt, and drop lines of replayed code between steps."""
    scope = current.get()
    if scope is None:
        return event
    if not is_ours(getattr(logger, "name", "")) and scope.is_silent:
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
        for name, value in {**NOWHERE, **(scope.fields if scope else {})}.items():
            record.__dict__.setdefault(name, value)
        # One that knows where it was made was judged there and then; this may be another thread, and later.
        return made_in is not None or scope is None or is_ours(record.name) or not scope.is_silent


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
            if not is_ours(record.name) and scope.is_silent:
                record.levelno = UNSEEN
        return record


def _handlers() -> Iterable[logging.Handler]:
    root = logging.getLogger()
    yield from root.handlers
    for logger in list(root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            yield from logger.handlers
