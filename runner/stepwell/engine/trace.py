"""Spans of an execution and of a try: what they are called, and ids made of what they stand for. Pure; knows no OpenTelemetry.

A run's trace has one id, whatever process writes into it, and a span that is written twice is the same span: so a trace stays
whole over crashes, deploys and sleeps of days. The first execution is the trace's root and the later ones lie under it; each is
written when it ends, so none is held open over a sleep; a step that is replayed is no try, and writes nothing.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, cast

import orjson

from stepwell.store.results import Claimed

TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
"""W3C Trace Context, https://www.w3.org/TR/trace-context/#traceparent-header; version `ff` and ids of zeros are none."""
MOST_LINKS = 100
Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Place:
    """Where in which trace: what spans and log lines of user code lie under."""

    trace_id: int
    span_id: int

    def in_hex(self) -> tuple[str, str]:
        """Both ids as logs and headers have them."""
        return f"{self.trace_id:032x}", f"{self.span_id:016x}"

    @property
    def traceparent(self) -> str:
        """How a header names this place; sampled."""
        trace, span = self.in_hex()
        return f"00-{trace}-{span}-01"


@dataclass(frozen=True, slots=True)
class Span:
    """One finished span. Instants are µs since 1970; `error` is the kind of error that it ended with; links are traceparents."""

    name: str
    trace_id: int
    span_id: int
    parent_id: int | None
    started: int
    ended: int
    attributes: Mapping[str, str | int]
    error: str | None = None
    links: Sequence[str] = ()


class Tracer(Protocol):
    """Takes finished spans. It never waits and never raises: what it can't take is lost, and counted."""

    def emit(self, span: Span) -> None:
        """Take a span."""
        ...

    def inside(self, place: Place) -> AbstractContextManager[None]:
        """While this lasts, spans that user code makes lie under this one."""
        ...


def trace_id(run_id: str) -> int:
    """The id of a run's trace."""
    return _number(f"trace:{run_id}", 16)


def execution_id(run_id: str, epoch: int) -> int:
    """The id of the span of one execution."""
    return _number(f"execution:{run_id}:{epoch}", 8)


def attempt_id(run_id: str, epoch: int, key: Key, attempt: int) -> int:
    """The id of the span of one try of a step; a try that a crash tore off and another execution made anew is another."""
    return _number(f"attempt:{run_id}:{epoch}:{key[1]}:{attempt}:{key[0]}", 8)


def execution_place(run_id: str, epoch: int) -> Place:
    """Where code between steps is."""
    return Place(trace_id(run_id), execution_id(run_id, epoch))


def attempt_place(run_id: str, epoch: int, key: Key, attempt: int) -> Place:
    """Where a step's body is."""
    return Place(trace_id(run_id), attempt_id(run_id, epoch, key, attempt))


def execution_span(claimed: Claimed, started: int, ended: int, outcome: str, error: str | None) -> Span:
    """The span of one execution: from its claim until it parked or ended."""
    run_id, epoch = claimed.run_id, claimed.epoch
    attributes = {**_attributes(claimed), "stepwell.outcome": outcome, "stepwell.attempt": claimed.attempt}
    return Span(
        claimed.function_id,
        trace_id(run_id),
        execution_id(run_id, epoch),
        None if epoch <= 1 else execution_id(run_id, 1),
        started,
        ended,
        attributes,
        error,
        links(claimed.input),
    )


def attempt_span(claimed: Claimed, key: Key, attempt: int, times: tuple[int, int], error: str | None) -> Span:
    """The span of one try of a step's body."""
    run_id, epoch = claimed.run_id, claimed.epoch
    return Span(
        key[0],
        trace_id(run_id),
        attempt_id(run_id, epoch, key, attempt),
        execution_id(run_id, epoch),
        *times,
        {
            **_attributes(claimed),
            "stepwell.step": key[0],
            "stepwell.occurrence": key[1],
            "stepwell.attempt": attempt,
            "stepwell.outcome": "ok" if error is None else "error",
        },
        error,
    )


def parse_traceparent(text: str) -> tuple[int, int] | None:
    """The ids of trace and span in a header, None for what is none."""
    found = TRACEPARENT.fullmatch(text)
    if found is None or text.startswith("ff"):
        return None
    trace, span = int(found[1], 16), int(found[2], 16)
    return (trace, span) if trace and span else None


def links(run_input: bytes) -> tuple[str, ...]:
    """The traceparents of the events that a run began with."""
    if b'"traceparent"' not in run_input:
        return ()
    events = cast("list[dict[str, Any]]", orjson.loads(run_input))
    told = [one.get("traceparent") for one in events[:MOST_LINKS]]
    return tuple(one for one in told if isinstance(one, str) and parse_traceparent(one) is not None)


def _attributes(claimed: Claimed) -> dict[str, str | int]:
    return {
        "stepwell.run_id": claimed.run_id,
        "stepwell.function": claimed.function_id,
        "stepwell.revision": claimed.revision,
        "stepwell.epoch": claimed.epoch,
        "stepwell.trigger": claimed.trigger.name.lower(),
    }


def _number(text: str, size: int) -> int:
    """A number that isn't zero, which would be no id."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=size).digest(), "big") or 1
