"""`stepwell dev`: gateway, runner and cron in one process, on one store, reloading code that changes."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watchfiles import Change, DefaultFilter, awatch  # pyright: ignore[reportUnknownVariableType]

from stepwell import log
from stepwell.decorator import Function
from stepwell.engine.scheduler import Scheduler
from stepwell.engine.well import Well
from stepwell.gateway.app import make_app
from stepwell.gateway.serve import Doorstep, address, listen, serving
from stepwell.loading import load
from stepwell.opening import Patience
from stepwell.processes import (
    begin_logs,
    beside,
    keep_up,
    load_or_raise,
    make_well,
    stopped,
    traced,
    worker_options,
)
from stepwell.settings import DevSettings, StoreSettings
from stepwell.spec.function import CronTrigger, EventTrigger
from stepwell.store.registry import ScheduleRow
from stepwell.why import clock_time, span
from stepwell.worker import Worker

WATCHED = (".py", ".yaml", ".yml")


@dataclass(slots=True)
class Dev:
    """The parts of a running `stepwell dev`."""

    settings: DevSettings
    well: Well
    worker: Worker
    scheduler: Scheduler
    url: str
    say: Callable[[str], None]


async def dev(settings: DevSettings, say: Callable[[str], None]) -> None:
    """Serve until told to stop, saying what goes on; then finish or hand back what is under way.

    LoadingFailed if the code is broken from the start; once it runs, broken code is told and the old one goes on.
    """
    begin_logs(settings.upkeep, "dev")
    log.capture_prints()
    log.show_replays()
    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # what changed is told by name
    functions = load_or_raise(settings.runner.functions)
    listener = listen(settings.gateway.host, settings.gateway.port)
    async with AsyncExitStack() as stack:
        well = make_well(settings.store, "dev", settings.upkeep)
        doorstep = Doorstep(make_app(well, settings.gateway))
        await stack.enter_async_context(serving(doorstep, listener))
        await _open(well, settings.store, Patience(doorstep.wait))
        stack.push_async_callback(well.close)
        stack.enter_context(traced(well, settings.upkeep, "dev"))
        worker = Worker(well, functions, worker_options(settings.runner))
        await worker.start()
        one = Dev(settings, well, worker, Scheduler(well), address(listener), say)
        await one.scheduler.fire()
        doorstep.open = True
        _tell(one, worker.functions)
        async with beside(one.scheduler.run(), keep_up(well, settings.upkeep.keep), _reload(one)):
            await stopped()
        say("stopping: running steps may finish, everything else goes on at the next start")
        doorstep.open = False
        await worker.drain(settings.runner.grace)


async def _open(well: Well, store: StoreSettings, patience: Patience) -> None:
    """Make the schema if need be, open, and on a file that is ours alone end the leases of a process that was killed."""
    await well.store.migrate()
    await patience.open(well)
    if not store.is_postgres:
        await well.store.expire_all()


async def _reload(one: Dev) -> None:
    """Load changed code and go on with it; broken code is told and the old one stays."""
    paths = [path for given in one.settings.runner.functions if (path := Path(given)).exists()]
    if not paths:
        return
    async for changes in awatch(*paths, watch_filter=_Filter(), step=100, debounce=400):
        names = sorted({Path(name).name for _, name in changes})
        await _reload_once(one, names)


async def _reload_once(one: Dev, names: Sequence[str]) -> None:
    # On the loop's own thread: imports that run beside user code would see half of the modules exchanged.
    loaded = load(one.settings.runner.functions)
    if loaded.errors or not loaded.functions:
        one.say(f"{', '.join(names)} changed, but can't be used; the code from before goes on:")
        for error in loaded.errors or ("no durable function is left",):
            one.say(f"  {error}")
        return
    await one.worker.replace(loaded.functions)
    await one.scheduler.fire()
    live = await _live_runs(one.well)
    one.say(
        f"{', '.join(names)} changed: reloaded {_count(len(loaded.functions), 'function')}; live runs that go on with it: {live}"
    )


async def _live_runs(well: Well) -> int:
    figures = (await well.store.stats()).functions
    return sum(one.queued + one.running + one.sleeping + one.waiting for one in figures)


class _Filter(DefaultFilter):
    def __call__(self, change: Change, path: str) -> bool:
        return path.endswith(WATCHED) and super().__call__(change, path)


def _tell(one: Dev, functions: Sequence[Function[Any, Any]]) -> None:
    """What is served, and how to try it."""
    one.say(f"Stepwell serves {_count(len(functions), 'function')} at {one.url} on {one.settings.store.shown}")
    one.say("")
    now = one.well.clock.now()
    for function in functions:
        triggers = _triggers(function, one.well.registry.schedules, now) or ["by invoke alone"]
        one.say(f"  {function.id}")
        for trigger in triggers:
            one.say(f"    {trigger}")
    one.say("")
    one.say(f"Try it: {_example(functions, one.url)}")


def _triggers(function: Function[Any, Any], schedules: Sequence[ScheduleRow], now: int) -> list[str]:
    due = {row.schedule_id: row.next_due for row in schedules if row.function_id == function.id}
    told: list[str] = []
    for trigger in function.spec.triggers:
        match trigger:
            case EventTrigger():
                told.append(f"event {trigger.event}" + (f" if {trigger.if_}" if trigger.if_ else ""))
            case CronTrigger():
                following = due.get(f"{function.id}/{trigger.cron}", 0)
                when = f", next at {clock_time(following, now)} (in {span(following - now)})" if following > now else ""
                told.append(f"cron {trigger.cron}{when}")
    return told


def _example(functions: Sequence[Function[Any, Any]], url: str) -> str:
    option = "" if url.endswith(":8288") else f" --url {url}"
    for function in functions:
        for trigger in function.spec.triggers:
            if (
                isinstance(trigger, EventTrigger)
                and "*" not in trigger.event
                and not trigger.event.startswith(("stepwell/", "inngest/"))
            ):
                return f"stepwell send {trigger.event} --data '{{}}' --wait{option}"
    return f"stepwell invoke {functions[0].id} --wait{option}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")
