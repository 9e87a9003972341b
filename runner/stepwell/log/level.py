"""The level of a running process changes by signal: SIGUSR1 logs everything, SIGUSR2 as configured again (docs/adr/0013)."""

import asyncio
import logging
import signal
from contextlib import suppress

from stepwell.log.lines import set_level


def follow_signals(configured: str) -> None:
    """Change the level when asked to, on the loop that runs; where there are no such signals (Windows) nothing changes."""
    loop = asyncio.get_running_loop()
    for name, level in (("SIGUSR1", "DEBUG"), ("SIGUSR2", configured)):
        number = getattr(signal, name, None)
        if number is not None:
            with suppress(NotImplementedError, RuntimeError):  # a loop that isn't the main thread's hears no signals
                loop.add_signal_handler(number, _change, level)


def _change(level: str) -> None:
    set_level(level)
    logging.getLogger("stepwell").log(max(logging.WARNING, logging.getLevelNamesMapping()[level]), "logging from %s on", level)
