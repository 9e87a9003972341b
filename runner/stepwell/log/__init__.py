"""Logs: every line of user code carries run, function, step and attempt, and none is written twice because of a replay.

`configure` sets up the programs of this package: JSON lines on standard output, or something for eyes on a terminal, with the
keys `ts level msg component namespace logger function run_id step attempt epoch trace_id span_id version pod`. Whoever brings a
logging configuration of their own keeps it: `install_context` works beside any. The standard library needs nothing more (but a
`ContextFilter` on handlers made later, to have `%(run_id)s` and the like in their formats); structlog needs
`stepwell.log.add_context` as its first processor:

    structlog.configure(processors=[stepwell.log.add_context, structlog.processors.add_log_level, …])
"""

from stepwell.log.context import ContextFilter, add_context, install_context
from stepwell.log.level import follow_signals
from stepwell.log.lines import configure, set_level
from stepwell.log.prints import capture_prints
from stepwell.log.scope import RunLogger, Scope, current, show_replays

__all__ = [
    "ContextFilter",
    "RunLogger",
    "Scope",
    "add_context",
    "capture_prints",
    "configure",
    "current",
    "follow_signals",
    "install_context",
    "set_level",
    "show_replays",
]
