"""Stepwell: durable functions in Python.

A *function* is ordinary async code cut into named *steps*; a *trigger* (an event or a cron tick) starts a *run* of it; each
step's result is recorded once in the run's *journal*, so that a run survives crashes, deploys and long waits and goes on where
it stood.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepwell.client import Client
    from stepwell.context import Context, current_step
    from stepwell.decorator import Function, function, on_cron, on_event
    from stepwell.errors import NonRetriableError, RetryAfterError, StepError, StepwellError
    from stepwell.event import Event
    from stepwell.spec.function import Backoff, CancelOn, Checkpointing, Concurrency, Timeouts

__all__ = [
    "Backoff",
    "CancelOn",
    "Checkpointing",
    "Client",
    "Concurrency",
    "Context",
    "Event",
    "Function",
    "NonRetriableError",
    "RetryAfterError",
    "StepError",
    "StepwellError",
    "Timeouts",
    "current_step",
    "function",
    "on_cron",
    "on_event",
]

_HOMES = {
    "Client": "client",
    "Context": "context",
    "Event": "event",
    "current_step": "context",
    "NonRetriableError": "errors",
    "RetryAfterError": "errors",
    "StepError": "errors",
    "StepwellError": "errors",
    "Function": "decorator",
    "function": "decorator",
    "on_cron": "decorator",
    "on_event": "decorator",
    "Backoff": "spec.function",
    "CancelOn": "spec.function",
    "Checkpointing": "spec.function",
    "Concurrency": "spec.function",
    "Timeouts": "spec.function",
}
"""Where each public name lives. It is imported at its first use, so that the command line is there at once."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'stepwell' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"stepwell.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
