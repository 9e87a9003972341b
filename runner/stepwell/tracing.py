"""Spans on their way to a collector: a bounded queue, a thread of its own, and OpenTelemetry only once it is switched on.

    execution ──emit──▶ queue (bounded) ──thread──▶ redact ──▶ exporter ──▶ collector
                          └ full: dropped, counted             └ refused, hanging: failed, counted

Nothing waits for any of it: not a step, not the start of a process, and its end for two seconds at most. Traces are on where
`OTEL_TRACES_EXPORTER` is `otlp`; where to, and how, is told by OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_ENDPOINT`, …).
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import structlog

from stepwell.engine.trace import Place, Span, parse_traceparent
from stepwell.settings import TraceSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

BATCH = 512
PAUSE = 1.0
FAREWELL = 2.0
TELL_EVERY = 60.0
WHOLE = 2**128

Redact = Callable[[str, Mapping[str, str | int]], Mapping[str, str | int] | None]
"""Given a span's name and attributes: the attributes to send, or None for not to send the span."""
_redactors: list[Redact] = []


def redact_spans(hook: Redact) -> Redact:
    """Have every span pass this function before it leaves the process, as a decorator too. A hook that raises drops the span."""
    _redactors.append(hook)
    return hook


@dataclass(slots=True)
class Counts:
    """What became of spans, since the process began."""

    sent: int = 0
    dropped: int = 0
    """The queue was full, or the process ended."""
    failed: int = 0
    """The collector refused them, or did not answer in time."""
    redacted: int = 0


Lost = Callable[[str, int], None]
"""Told why spans were lost, dropped or failed, and how many."""


class Tracing:
    """A `Tracer` that hands finished spans to an exporter. `names` say who this process is; `lost` is told what is lost."""

    def __init__(
        self, exporter: "SpanExporter", names: Mapping[str, str], settings: TraceSettings, lost: Lost | None = None
    ) -> None:
        self.counts = Counts()
        self._lost = lost
        self._exporter = exporter
        self._names = names
        self._most = settings.queue
        self._sampled = int(settings.ratio * WHOLE)
        self._queue: deque[Span] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._told = 0
        self._in_hand = 0
        self._thread = threading.Thread(target=self._run, name="stepwell-traces", daemon=True)
        self._thread.start()

    def emit(self, span: Span) -> None:
        """Queue a span, or drop it where the queue is full; a run's trace is sampled whole."""
        if span.trace_id >= self._sampled:
            return
        if len(self._queue) >= self._most or self._stopping:
            self._drop(1)
            return
        self._queue.append(span)
        if len(self._queue) >= BATCH:
            self._wake.set()

    @contextlib.contextmanager
    def inside(self, place: Place) -> Generator[None]:
        """While this lasts, spans that user code makes lie under this one."""
        from opentelemetry import context, trace  # noqa: PLC0415  # imported when traces are on, and cached by then

        flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if place.trace_id < self._sampled else trace.TraceFlags.DEFAULT)
        here = trace.SpanContext(place.trace_id, place.span_id, is_remote=False, trace_flags=flags)
        token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(here)))
        try:
            yield
        finally:
            # Code that is put away may be closed in another context than it began in.
            with contextlib.suppress(ValueError):
                context.detach(token)

    def stop(self, seconds: float = FAREWELL) -> None:
        """Send what is queued, for so long; what is left then is dropped."""
        self._stopping = True
        self._wake.set()
        self._thread.join(seconds)
        self._drop(len(self._queue) + self._in_hand)
        self._queue.clear()
        if not self._thread.is_alive():
            self._exporter.shutdown()
        self._tell()

    def _run(self) -> None:
        quiet = 0.0
        while not self._stopping or self._queue:
            self._wake.wait(PAUSE)
            self._wake.clear()
            while self._queue:
                self._send([self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))])
            quiet += PAUSE
            if quiet >= TELL_EVERY:
                quiet = 0.0
                self._tell()

    def _send(self, batch: Sequence[Span]) -> None:
        spans = [made for span in batch if (made := self._made(span)) is not None]
        self.counts.redacted += len(batch) - len(spans)
        self._in_hand = len(spans)
        try:
            done = not spans or self._exporter.export(spans).name == "SUCCESS"
        except Exception:  # noqa: BLE001 - whatever an exporter throws costs spans, and nothing else
            done = False
        self._in_hand = 0
        if done:
            self.counts.sent += len(spans)
        else:
            self.counts.failed += len(spans)
            if self._lost is not None:
                self._lost("failed", len(spans))

    def _drop(self, spans: int) -> None:
        self.counts.dropped += spans
        if self._lost is not None:
            self._lost("dropped", spans)

    def _made(self, span: Span) -> "ReadableSpan | None":
        attributes = dict(span.attributes)
        for hook in _redactors:
            try:
                left = hook(span.name, attributes)
            except Exception:  # noqa: BLE001 - a hook that fails may have meant to hide it
                return None
            if left is None:
                return None
            attributes = dict(left)
        return readable(replace(span, attributes=attributes), self._names)

    def _tell(self) -> None:
        """Say what was lost, where more was since the last time."""
        lost = self.counts.dropped + self.counts.failed
        if lost > self._told:
            self._told = lost
            structlog.get_logger("stepwell.tracing").warning(
                "spans were lost; runs are not touched by it", dropped=self.counts.dropped, failed=self.counts.failed
            )


def start(settings: TraceSettings, component: str, namespace: str, pod: str, lost: Lost | None = None) -> Tracing | None:
    """Begin to send spans, if that is switched on; None if it isn't, or OpenTelemetry isn't installed, which is told.

    `lost` hears from the beginning that none is lost, so that its figures begin at zero.
    """
    if not settings.on:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    except ImportError:
        structlog.get_logger("stepwell.tracing").warning(
            "OTEL_TRACES_EXPORTER is otlp, but OpenTelemetry isn't installed: no traces; install stepwell[otel]"
        )
        return None
    names = {
        "service.name": f"stepwell-{component}",
        "service.namespace": namespace,
        "service.version": version("stepwell"),
        **({"k8s.pod.name": pod} if pod else {}),
    }
    if lost is not None:
        for reason in ("dropped", "failed"):
            lost(reason, 0)
    return Tracing(OTLPSpanExporter(), names, settings, lost)


def readable(span: Span, names: Mapping[str, str]) -> "ReadableSpan":
    """The span as OpenTelemetry's exporters take it."""
    from opentelemetry import trace  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415

    def context(trace_id: int, span_id: int, *, remote: bool = False) -> trace.SpanContext:
        return trace.SpanContext(trace_id, span_id, is_remote=remote, trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED))

    attributes: dict[str, Any] = dict(span.attributes)
    if span.error is not None:
        attributes["error.type"] = span.error
    sources = [found for one in span.links if (found := parse_traceparent(one)) is not None]
    return ReadableSpan(
        span.name,
        context=context(span.trace_id, span.span_id),
        parent=context(span.trace_id, span.parent_id) if span.parent_id is not None else None,
        resource=Resource(names),
        attributes=attributes,
        links=[trace.Link(context(*source, remote=True)) for source in sources],
        kind=trace.SpanKind.INTERNAL if span.parent_id is not None else trace.SpanKind.CONSUMER,
        status=trace.Status(trace.StatusCode.UNSET if span.error is None else trace.StatusCode.ERROR),
        start_time=span.started * 1000,
        end_time=span.ended * 1000,
        instrumentation_scope=InstrumentationScope("stepwell", names.get("service.version", "")),
    )
