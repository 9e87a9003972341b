"""Traces: whole over retries, sleeps and crashes, nothing twice, linked to what sent the event; and nothing waits for them."""

import asyncio
import json
import logging
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from opentelemetry import trace as otel
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from scenarios.parts import Start

import stepwell
from stepwell import Backoff, Context, Event, tracing
from stepwell.engine.trace import Span, trace_id
from stepwell.gateway.app import make_app
from stepwell.metrics import Metrics
from stepwell.settings import GatewaySettings, SettingsError, TraceSettings, trace_settings
from stepwell.testing import Durable

GO = Event(name="go", data={"secret": "CANARY"}, id="go-1")
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ON = TraceSettings(on=True)
NAMES = {"service.name": "stepwell-test"}
HOUR = timedelta(hours=1)


class Collector:
    """A collector in this process."""

    def __init__(self, durable: Durable) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracing = durable.tracer = tracing.Tracing(self.exporter, NAMES, ON)

    def spans(self) -> list[ReadableSpan]:
        """All spans, in the order written."""
        self.tracing.stop()
        return list(self.exporter._finished_spans)


@pytest.fixture
def collector(durable: Durable) -> Iterator[Collector]:
    """Traces are on from the first run."""
    made = Collector(durable)
    yield made
    made.tracing.stop()


def told(span: ReadableSpan, *names: str) -> tuple[Any, ...]:
    assert span.attributes is not None
    return tuple(span.attributes.get(f"stepwell.{name}") for name in names)


@stepwell.function(id="pack", triggers=[stepwell.on_event("go")], backoff=Backoff(strategy="fixed", base="1m"))
async def pack(ctx: Context) -> None:
    async def flaky() -> None:
        if stepwell.current_step().attempt == 0:
            raise TimeoutError(ctx.event.data["secret"])

    await ctx.step.run("first", lambda: 1)
    await ctx.step.run("flaky", flaky)
    await ctx.step.sleep("nap", "2h")
    await ctx.step.run("last", lambda: 1)


async def test_a_trace_is_whole_and_nothing_is_in_it_twice(durable: Durable, collector: Collector) -> None:
    """Over a retry, a crash and a sleep of hours: one trace, a span for each execution and try, none over the sleep, none repeated."""
    run = await durable.send(pack, GO)
    await durable.advance(timedelta(minutes=2))
    await durable.crash()
    await durable.advance(timedelta(hours=3))
    assert (await run.status()).value == "completed"
    spans = collector.spans()
    assert {span.context.trace_id for span in spans} == {trace_id(run.run_id)}
    assert len({span.context.span_id for span in spans}) == len(spans)
    executions = {told(span, "epoch")[0]: span for span in spans if span.name == "pack"}
    tries = [span for span in spans if span.name != "pack"]
    assert sorted(told(span, "step", "attempt", "outcome") for span in tries) == [
        ("first", 0, "ok"), ("flaky", 0, "error"), ("flaky", 1, "ok"), ("last", 0, "ok"),
    ]  # fmt: skip
    assert [told(one, "outcome")[0] for _, one in sorted(executions.items())] == ["queued", "sleeping", "completed"]
    for span in tries:
        assert span.parent is not None
        assert span.parent.span_id == executions[told(span, "epoch")[0]].context.span_id
    root = executions[min(executions)]
    assert root.parent is None
    assert all(span.parent.span_id == root.context.span_id for epoch, span in executions.items() if span is not root)
    assert all(span.end_time - span.start_time < 60e9 for span in spans), "no span is held over a retry's pause or a sleep"


async def test_spans_tell_what_the_reference_names_and_no_payload(durable: Durable, collector: Collector) -> None:
    """Run, function, step, attempt, epoch and trigger are attributes; an error by its kind alone."""
    run = await durable.send(pack, GO)
    failed = next(span for span in collector.spans() if told(span, "step", "outcome") == ("flaky", "error"))
    assert told(failed, "run_id", "function", "step", "attempt", "epoch", "trigger") == (
        run.run_id,
        "pack",
        "flaky",
        0,
        1,
        "event",
    )
    assert failed.status.status_code is otel.StatusCode.ERROR
    assert failed.attributes["error.type"] == "TimeoutError"
    assert "CANARY" not in failed.to_json()


async def test_a_run_links_to_what_sent_its_event(durable: Durable, collector: Collector) -> None:
    """An execution links to the `traceparent` that came with its event; a run that another sent or invoked links to that one."""

    @stepwell.function(id="child")
    async def child(ctx: Context) -> None:
        del ctx

    @stepwell.function(id="heard", triggers=[stepwell.on_event("told")])
    async def heard(ctx: Context) -> None:
        del ctx

    @stepwell.function(id="parent", triggers=[stepwell.on_event("go")])
    async def parent(ctx: Context) -> None:
        await ctx.step.send_event("tell", Event(name="told"))
        await ctx.step.invoke("ask", child)

    await durable.serve(child, heard, parent)
    app = make_app(durable.well, GatewaySettings(open=True))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1:8288") as client:
        sent = await client.post("/e/k", json={"name": "go", "id": "e1"}, headers={"traceparent": PARENT})
        assert sent.json()["results"][0]["status"] == "accepted"
        again = await client.post("/e/k", json={"name": "go", "id": "e1", "traceparent": PARENT[:-4] + "2-01"})
        assert again.json()["results"][0]["status"] == "duplicate", "the span is no part of what was said"
        odd = await client.post("/e/k", json={"name": "odd", "id": "e2", "traceparent": 7}, headers={"traceparent": "00-0-0-00"})
        assert odd.status_code == 200, "a broken header costs no event"
        assert (await client.get("/v1/events/e1")).json()["data"]["traceparent"] == PARENT
    await durable.settle()
    (run,) = await durable.runs(parent)
    firsts = {span.name: span for span in collector.spans() if span.parent is None}
    (link,) = firsts["parent"].links
    assert (f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}") == tuple(PARENT.split("-")[1:3])
    for name in ("heard", "child"):
        (link,) = firsts[name].links
        assert link.context.trace_id == trace_id(run.run_id)
        assert link.context.span_id == firsts["parent"].context.span_id


async def test_spans_of_user_code_lie_under_the_try(durable: Durable, collector: Collector) -> None:
    """A span that user code makes in a step, in a thread as well, is the try's child; between steps the execution's."""
    theirs = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(theirs))
    tracer = provider.get_tracer("shop")

    def query() -> None:
        with tracer.start_as_current_span("query"):
            pass

    @stepwell.function(id="pack", triggers=[stepwell.on_event("go")])
    async def function(ctx: Context) -> None:
        with tracer.start_as_current_span("between"):
            pass
        await ctx.step.run("ask", query)

    await durable.send(function, GO)
    ours = {span.name: span.context.span_id for span in collector.spans()}
    parents = {span.name: span.parent.span_id for span in theirs.get_finished_spans()}
    assert parents == {"query": ours["ask"], "between": ours["pack"]}


async def test_log_lines_name_their_span(durable: Durable, collector: Collector) -> None:
    """A line in a step carries the ids of its trace and of its try's span, one between steps those of the execution."""

    @stepwell.function(id="pack", triggers=[stepwell.on_event("go")])
    async def function(ctx: Context) -> None:
        ctx.logger.info("between")
        await ctx.step.run("ask", lambda: stepwell.current_step().logger.info("within"))

    with structlog.testing.capture_logs() as lines:
        await durable.send(function, GO)
    ids = {span.name: (f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}") for span in collector.spans()}
    found = {line["event"]: (line["trace_id"], line["span_id"]) for line in lines if "trace_id" in line}
    assert found == {"between": ids["pack"], "within": ids["ask"]}


async def test_without_traces_nothing_of_them_is_there(durable: Durable) -> None:
    """Off, no line has ids of a trace and no event of a step a `traceparent`."""

    @stepwell.function(id="pack", triggers=[stepwell.on_event("go")])
    async def function(ctx: Context) -> None:
        ctx.logger.info("between")
        await ctx.step.send_event("tell", Event(name="told", id="t"))

    with structlog.testing.capture_logs() as lines:
        await durable.send(function, GO)
    assert all("trace_id" not in line for line in lines)
    event = await durable.store.event("t")
    assert event is not None
    assert b"traceparent" not in event.data


def span(number: int, name: str = "s", run: str = "R") -> Span:
    return Span(name, trace_id(run), number + 1, None, 1_000_000, 2_000_000, {"stepwell.step": name}, None, (PARENT,))


@contextmanager
def server(answer: threading.Event) -> Iterator[tuple[str, list[bytes]]]:
    """A collector's OTLP/HTTP endpoint that answers once `answer` is set; what was posted to it."""
    posted: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer.wait(30)
            posted.append(body)
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads = True
    thread = threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{made.server_address[1]}", posted
    finally:
        answer.set()
        made.shutdown()
        made.server_close()
        thread.join()


def test_a_real_collector_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switched on by OpenTelemetry's own variables, spans arrive over OTLP/HTTP with their ids, names, links and resource."""
    answer = threading.Event()
    answer.set()
    with server(answer) as (url, posted):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        lost: list[tuple[str, int]] = []
        settings = trace_settings({"OTEL_TRACES_EXPORTER": "otlp"})
        made = tracing.start(settings, "runner", "shop", "pod-1", lambda *one: lost.append(one))
        assert lost == [("dropped", 0), ("failed", 0)]
        assert made is not None
        for number in range(3):
            made.emit(span(number))
        made.stop(10)
    assert (made.counts.sent, made.counts.dropped, made.counts.failed) == (3, 0, 0)
    (batch,) = [ExportTraceServiceRequest.FromString(body).resource_spans for body in posted]
    resource = {one.key: one.value.string_value for one in batch[0].resource.attributes}
    assert (resource["service.name"], resource["service.namespace"], resource["k8s.pod.name"]) == (
        "stepwell-runner",
        "shop",
        "pod-1",
    )
    spans = batch[0].scope_spans[0].spans
    assert [int.from_bytes(one.span_id, "big") for one in spans] == [1, 2, 3]
    assert spans[0].trace_id.hex() == f"{trace_id('R'):032x}"
    assert spans[0].links[0].trace_id.hex() == PARENT.split("-")[1]


async def test_a_collector_that_hangs_slows_nothing(durable: Durable) -> None:
    """While the collector takes a batch and never answers, runs end as ever; what has no room is dropped and counted; the end is soon."""
    answer = threading.Event()
    with server(answer) as (url, _posted):
        exporter = OTLPSpanExporter(endpoint=f"{url}/v1/traces", timeout=20)
        made = durable.tracer = tracing.Tracing(exporter, NAMES, TraceSettings(on=True, queue=10), durable.metrics.spans_lost)
        run = await durable.send(pack, GO)
        while made._in_hand == 0:
            await asyncio.sleep(0.01)
        began = time.monotonic()
        for number in range(10_000):
            made.emit(span(number))
        assert time.monotonic() - began < 1.0
        await durable.advance(timedelta(hours=3))
        assert (await run.status()).value == "completed"
        assert made.counts.dropped >= 9_990
        with structlog.testing.capture_logs() as lines:
            began = time.monotonic()
            made.stop(0.2)
        assert time.monotonic() - began < 5.0
        assert made.counts.sent == 0
        assert [line["event"] for line in lines] == ["spans were lost; runs are not touched by it"]
        assert lines[0]["dropped"] == made.counts.dropped
        told = durable.metrics.render()[0].decode()
        assert f'stepwell_spans_lost_total{{namespace="default",reason="dropped"}} {made.counts.dropped}.0\n' in told


def test_a_collector_that_is_not_there_costs_spans_alone() -> None:
    """Nothing listens: spans count as failed, in the metrics too, and the process goes on."""
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    metrics = Metrics("runner")
    exporter = OTLPSpanExporter(endpoint="http://127.0.0.1:9/v1/traces", timeout=1)
    made = tracing.Tracing(exporter, NAMES, ON, metrics.spans_lost)
    made.emit(span(1))
    made.stop(20)
    assert (made.counts.sent, made.counts.failed) == (0, 1)
    assert b'stepwell_spans_lost_total{namespace="default",reason="failed"} 1.0\n' in metrics.render()[0]


def test_a_hook_may_change_or_hide_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each span passes the hooks: they change its attributes or drop it, and one that fails drops it too."""
    monkeypatch.setattr(tracing, "_redactors", [])

    @tracing.redact_spans
    def hide(name: str, attributes: Any) -> Any:
        if name == "broken":
            raise KeyError(name)
        return None if name == "secret" else {**attributes, "stepwell.step": "…"}

    exporter = InMemorySpanExporter()
    made = tracing.Tracing(exporter, NAMES, ON)
    for number, name in enumerate(("plain", "secret", "broken")):
        made.emit(span(number, name))
    made.stop(10)
    (left,) = exporter._finished_spans
    assert (left.name, left.attributes["stepwell.step"]) == ("plain", "…")
    assert (made.counts.sent, made.counts.redacted) == (1, 2)
    del hide


def test_whole_runs_are_sampled() -> None:
    """Of a part of the runs every span is sent, of the others none."""
    exporter = InMemorySpanExporter()
    made = tracing.Tracing(exporter, NAMES, TraceSettings(on=True, ratio=0.5, queue=10_000))
    for number in range(400):
        made.emit(span(2 * number, run=f"R{number}"))
        made.emit(span(2 * number + 1, run=f"R{number}"))
    made.stop(10)
    by_run: dict[int, int] = {}
    for one in exporter._finished_spans:
        by_run[one.context.trace_id] = by_run.get(one.context.trace_id, 0) + 1
    assert set(by_run.values()) == {2}
    assert 120 < len(by_run) < 280


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        ("stepwell, stepwell.worker, stepwell.invoke, stepwell.testing, stepwell.tracing, stepwell.log", "opentelemetry"),
        # fastapi itself looks for OpenTelemetry's API
        ("stepwell.dev, stepwell.processes, stepwell.gateway.app", "opentelemetry.sdk"),
        ("stepwell.dev, stepwell.processes, stepwell.gateway.app", "opentelemetry.exporter"),
    ],
)
def test_switched_off_opentelemetry_is_not_imported(modules: str, unwanted: str) -> None:
    """What executes runs imports nothing of OpenTelemetry while traces are off, and no process imports its SDK or exporter."""
    code = (
        f"import json, sys, {modules}, stepwell.tracing as t, stepwell.settings as s;"
        "assert t.start(s.trace_settings({}), 'runner', 'n', '') is None;"
        f"print(json.dumps([name for name in sys.modules if name.startswith({unwanted!r})]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


async def test_a_process_sends_its_traces(start: Start, tmp_path: Path) -> None:
    """`stepwell dev`, told by the environment alone, sends what its runs did; told of a collector that isn't there it starts as well."""
    code = tmp_path / "traced_orders.py"
    code.write_text(
        "import stepwell\n"
        "@stepwell.function(id='greet', triggers=[stepwell.on_event('go')])\n"
        "async def greet(ctx):\n    return await ctx.step.run('say', lambda: 'hello')\n"
    )
    answer = threading.Event()
    answer.set()
    with server(answer) as (url, posted):
        for endpoint in ("http://127.0.0.1:9", url):
            dev = start(
                "dev", str(code), "--port", "0", "--ephemeral", OTEL_TRACES_EXPORTER="otlp", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint
            )
            at = re.search(r"http://127.0.0.1:\d+", dev.wait_for("Stepwell serves"))
            assert at is not None
            done = start("send", "go", "--wait", "--url", at[0])
            assert await asyncio.to_thread(done.process.wait, 30) == 0
            dev.process.send_signal(signal.SIGINT)
            assert await asyncio.to_thread(dev.process.wait, 30) == 0
    told = [one for body in posted for one in ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0].spans]
    assert sorted(one.name for one in told) == ["greet", "say"]


def test_without_the_extra_there_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switched on where OpenTelemetry isn't installed, a process starts without traces and says what to install."""
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with structlog.testing.capture_logs() as lines:
        assert tracing.start(ON, "runner", "shop", "") is None
    assert "stepwell[otel]" in lines[0]["event"]


@pytest.mark.parametrize(
    ("env", "wanted"),
    [
        ({}, TraceSettings()),
        ({"OTEL_TRACES_EXPORTER": "none"}, TraceSettings()),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, TraceSettings(on=True)),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"}, TraceSettings()),
        (
            {"OTEL_TRACES_EXPORTER": "OTLP", "OTEL_TRACES_SAMPLER_ARG": "0.25", "OTEL_BSP_MAX_QUEUE_SIZE": "9"},
            TraceSettings(on=True, ratio=0.25, queue=9),
        ),
    ],
)
def test_settings_are_opentelemetrys_own(env: dict[str, str], wanted: TraceSettings) -> None:
    """The variables that every OpenTelemetry program knows switch traces on and size them."""
    assert trace_settings(env) == wanted


@pytest.mark.parametrize(
    "env",
    [{"OTEL_TRACES_EXPORTER": "zipkin"}, {"OTEL_TRACES_SAMPLER_ARG": "2"}, {"OTEL_TRACES_SAMPLER_ARG": "x"}, {"OTEL_BSP_MAX_QUEUE_SIZE": "0"}],
)  # fmt: skip
def test_wrong_settings_are_told(env: dict[str, str]) -> None:
    """A value that can't be meant names its variable."""
    with pytest.raises(SettingsError, match=next(iter(env))):
        trace_settings(env)
