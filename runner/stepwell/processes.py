"""The parts of a process: its store, its well, its signals; and the two processes that are made of few of them."""

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import structlog

from stepwell import log
from stepwell.clock import SystemClock
from stepwell.decorator import Function
from stepwell.engine.scheduler import Scheduler
from stepwell.engine.well import Well
from stepwell.errors import StepwellError, StoreError
from stepwell.gateway.app import make_app
from stepwell.gateway.serve import Doorstep, address, health_app, listen, serving
from stepwell.loading import load
from stepwell.metrics import Metrics
from stepwell.metrics.timed_store import timed
from stepwell.opening import Patience
from stepwell.pool_code import PoolCode
from stepwell.settings import GatewaySettings, RunnerSettings, StoreSettings, Upkeep
from stepwell.store.protocol import Store
from stepwell.tracing import start
from stepwell.worker import Worker, WorkerOptions

UPKEEP_SECONDS = 3600.0
MOST_LAST_WORDS = 4000


class LoadingFailed(StepwellError):
    """Functions could not be loaded; the message has a line for each reason, with file and line."""

    code = "DF0602"


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a process to its end on the fastest loop there is."""
    calm_collector()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(main())


def calm_collector() -> None:
    """Let the garbage collector look at young objects less often, and never again at what the imports made.

    A run makes some hundred objects and drops them without cycles; with Python's default of 700 the collector took a fifth of
    the CPU of a one-step run.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


async def stopped() -> None:
    """Return at SIGINT or SIGTERM; a second one ends the process as it would without us."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    def ask(number: signal.Signals) -> None:
        loop.remove_signal_handler(number)
        asked.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows: Ctrl-C raises KeyboardInterrupt
            loop.add_signal_handler(number, ask, number)
    await asked.wait()


def make_store(settings: StoreSettings, *, read_only: bool = False) -> Store:
    """The store behind an address; its library is imported only now. `read_only`: beside the process that has a SQLite file."""
    if settings.is_postgres:
        from stepwell.store.postgres import PostgresStore  # noqa: PLC0415

        return PostgresStore(settings.address)
    from stepwell.store.sqlite import SqliteStore  # noqa: PLC0415

    if settings.address != ":memory:":
        Path(settings.address).parent.mkdir(parents=True, exist_ok=True)
    return SqliteStore(settings.address, read_only=read_only)


def make_well(settings: StoreSettings, component: str, upkeep: Upkeep) -> Well:
    """A well that is not open yet; its store's verbs are timed."""
    metrics = Metrics(component, upkeep.namespace, "postgres" if settings.is_postgres else "sqlite", upkeep.metrics)
    return Well(timed(make_store(settings), metrics), SystemClock(), metrics, component)


def begin_logs(upkeep: Upkeep, component: str) -> None:
    """Log as configured, with what every line of this process carries; signals change the level from now on."""
    who = {"component": component, "namespace": upkeep.namespace, "version": version("stepwell"), "pod": upkeep.log.pod}
    log.configure(json=upkeep.log.json, level=upkeep.log.level, **who)
    log.follow_signals(upkeep.log.level)


@contextmanager
def traced(well: Well, upkeep: Upkeep, component: str) -> Generator[None]:
    """Have the well's executions send spans for as long as the block lasts, if that is switched on."""
    tracing = start(upkeep.traces, component, upkeep.namespace, upkeep.log.pod, well.metrics.spans_lost)
    well.tracer = tracing
    try:
        yield
    finally:
        if tracing is not None:
            tracing.stop()


@asynccontextmanager
async def beside(*works: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
    """Run these for as long as the block lasts."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def keep_up(well: Well, keep: timedelta) -> None:
    """Drop history past its time and make room ahead, now and every hour; each time look whether the invariants hold."""
    while True:
        with suppress(StoreError):
            await well.store.retain(round(keep.total_seconds() * 1_000_000))
        with suppress(StoreError):
            await examine(well)
        await asyncio.sleep(UPKEEP_SECONDS)


async def examine(well: Well) -> None:
    """Count and log the invariants that the rows break. Only the gateway that shows the store's figures does, so each once."""
    if not well.metrics.figures.shows:
        return
    for found in await well.store.doctor():
        well.metrics.violated(found.invariant, len(found.offenders))
        structlog.get_logger("stepwell").error(
            "an invariant is broken", invariant=found.invariant, statement=found.statement, rows=list(found.offenders)
        )


async def gateway(store: StoreSettings, settings: GatewaySettings, upkeep: Upkeep) -> None:
    """Take events in, show runs, fire cron ticks and sweep, until told to stop. Any number of these may run."""
    begin_logs(upkeep, "gateway")
    listener = listen(settings.host, settings.port)
    well = make_well(store, "gateway", upkeep)
    doorstep = Doorstep(make_app(well, settings))
    stop = asyncio.create_task(stopped())
    async with serving(doorstep, listener):
        structlog.get_logger("stepwell").info("gateway listens", url=address(listener), store=store.shown)
        if not await _unless(stop, Patience(doorstep.wait).open(well)):
            return
        try:
            doorstep.open = True
            async with beside(Scheduler(well, sweep=True).run(), keep_up(well, upkeep.keep)):
                await stop
        finally:
            doorstep.open = False
            with suppress(StoreError):
                await well.metrics.figures.resign(well.store)
            await well.close()


async def runner(store: StoreSettings, settings: RunnerSettings, upkeep: Upkeep) -> None:
    """Execute the functions of one pool until told to stop; then finish or hand back what is under way.

    What keeps it from starting is left in the termination log too, for whoever looks after the pod.
    """
    begin_logs(upkeep, "runner")
    log.capture_prints()
    try:
        await _runner(store, settings, upkeep)
    except StepwellError as error:
        leave_word(settings.termination_log, error)
        raise


async def _runner(store: StoreSettings, settings: RunnerSettings, upkeep: Upkeep) -> None:
    functions = () if settings.registered else load_or_raise(settings.functions)
    well = make_well(store, "runner", upkeep)
    stop = asyncio.create_task(stopped())
    async with AsyncExitStack() as stack:
        doorstep = Doorstep(health_app(well))
        if settings.health_port is not None:
            listener = listen(settings.health_host, settings.health_port)
            await stack.enter_async_context(serving(doorstep, listener))
            structlog.get_logger("stepwell").info("health and metrics", url=address(listener))
        patience = Patience(doorstep.wait)
        if not await _unless(stop, patience.open(well)):
            return
        stack.push_async_callback(well.close)
        stack.enter_context(traced(well, upkeep, "runner"))
        worker = Worker(well, functions, worker_options(settings))
        pool = PoolCode(well, settings.pool, Path(settings.code) if settings.code else None) if settings.registered else None
        if not await _unless(stop, patience.outlast(lambda: _begin(worker, pool))):
            return
        doorstep.open = True
        served = {"functions": list(worker.codes.functions), "store": store.shown}
        structlog.get_logger("stepwell").info("runner claims", pool=settings.pool, **served)
        try:
            await _unless(stop, pool.follow(worker) if pool is not None else stop)
        finally:
            await worker.drain(settings.grace)


async def _begin(worker: Worker, pool: PoolCode | None) -> None:
    """Load what is registered, if that is what the worker executes, and claim."""
    if pool is not None:
        await worker.adopt(await pool.load())
    await worker.start()


def leave_word(file: str | None, error: StepwellError) -> None:
    """Write why the process ends where the pod's keeper reads it: the kind of error, then what it says."""
    if file is not None:
        with suppress(OSError):
            Path(file).write_text(f"{type(error).__name__}: {error}"[:MOST_LAST_WORDS] + "\n", encoding="utf-8")


def worker_options(settings: RunnerSettings) -> WorkerOptions:
    """How this process's worker works; its pool is the owner of what it registers."""
    return WorkerOptions(
        pool=settings.pool, owner=settings.pool, slots=settings.slots, lease=settings.lease, register=not settings.registered
    )


def load_or_raise(paths: Sequence[str]) -> tuple[Function[Any, Any], ...]:
    """The functions at these paths; LoadingFailed with a line for each thing that is wrong."""
    loaded = load(paths)
    for note in loaded.notes:
        structlog.get_logger("stepwell").warning("manifest and decorator differ; the manifest holds", where=str(note))
    if loaded.errors:
        raise LoadingFailed("\n".join(str(error) for error in loaded.errors))
    if not loaded.functions:
        raise LoadingFailed(f"no durable function in {', '.join(paths) or 'nothing'}: decorate one with @stepwell.function(id=…)")
    return loaded.functions


async def _unless(stop: "asyncio.Task[None]", work: Awaitable[None]) -> bool:
    """Do the work; False if the process was told to stop before it was done."""
    task = asyncio.ensure_future(work)
    await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return False
    task.result()
    return True


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return None
    return uvloop.new_event_loop
