"""Stepwell: durable functions in Python.

A *function* is ordinary async code cut into named *steps*; a *trigger* (an event or a cron tick) starts a *run* of it; each
step's result is recorded once in the run's *journal*, so that a run survives crashes, deploys and long waits and goes on where
it stood.
"""

from stepwell.client import Client
from stepwell.context import Context, Event, current_step
from stepwell.errors import NonRetriableError, RetryAfterError, StepError, StepwellError
from stepwell.function import Function, function, on_cron, on_event
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
