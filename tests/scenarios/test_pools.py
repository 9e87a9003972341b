"""Revisions and pools: what an operator registers, runners of pools execute; runs end on the revision they began with."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import structlog
from scenarios.pools import Pools

from stepwell import Event
from stepwell.engine.cancelling import cancel_all
from stepwell.engine.run import RunStatus
from stepwell.errors import Unknown
from stepwell.pool_code import HandlerImportFailed
from stepwell.store.records import TickOutcome
from stepwell.store.views import RunFilter
from stepwell.testing import Durable

NAPS = """
async def handle(ctx):
    before = await ctx.step.run("before", lambda: "{word}")
    await ctx.step.sleep("nap", "1h")
    return [before, await ctx.step.run("after", lambda: "{word}")]

async def other(ctx):
    return "other"
"""
GO = [{"event": "go"}]
DAY = timedelta(days=1)


@pytest.fixture
async def pools(durable: Durable, tmp_path: Path) -> AsyncIterator[Pools]:
    """A cluster on each store."""
    await durable.serve()
    made = Pools(durable, tmp_path)
    yield made
    for pod in made.pods.values():
        await pod.worker.stop()
        pod.well.abandon()
    assert await durable.store.doctor(durable.clock.now()) == []


async def send(pools: Pools, name: str = "go") -> None:
    """Send an event a second after whatever was before: the order of runs is that of their milliseconds."""
    await pools.advance(timedelta(seconds=1))
    await pools.durable.send_event(Event(name=name, data={}))
    await pools.settle()


async def test_runs_end_on_the_revision_they_began_with(pools: Pools) -> None:
    """After an edit new runs start on the new pool, those in flight end on the old one, which may then be forgotten."""
    await pools.pod("p-1", NAPS.format(word="one"))
    await pools.apply("naps", "p-1", "r1", triggers=GO)
    await send(pools)
    await pools.pod("p-2", NAPS.format(word="two"))
    await pools.apply("naps", "p-2", "r2", triggers=GO)
    await send(pools)
    assert await pools.work() == {("naps", "r1", "p-1"): 1, ("naps", "r2", "p-2"): 1}
    assert not await pools.durable.store.forget_revision("naps", "r1")
    await pools.advance(timedelta(hours=2))
    assert await pools.results("naps") == [["one", "one"], ["two", "two"]]
    assert await pools.work() == {}
    assert await pools.durable.store.forget_revision("naps", "r1")
    assert not await pools.durable.store.forget_revision("naps", "r2")
    await pools.stop("p-1")
    await send(pools)
    await pools.advance(timedelta(hours=2))
    assert (await pools.results("naps"))[2] == ["two", "two"]


async def test_a_drained_pools_runs_wait_for_its_code(pools: Pools) -> None:
    """A run whose pool has no runner waits for one, and no other pool's runner takes it."""
    await pools.pod("p-1", NAPS.format(word="one"))
    await pools.apply("naps", "p-1", "r1", triggers=GO)
    await send(pools)
    await pools.stop("p-1")
    await pools.pod("p-2", NAPS.format(word="two"))
    await pools.apply("naps", "p-2", "r2", triggers=GO)
    await pools.advance(DAY)
    assert await pools.work() == {("naps", "r1", "p-1"): 1}
    await pools.pod("p-1", NAPS.format(word="one"))
    await pools.settle()
    assert await pools.results("naps") == [["one", "one"]]


async def test_two_revisions_in_one_pool_differ_in_their_handler(pools: Pools) -> None:
    """Where only the handler changed, one runner executes both revisions, each with its own, and warm runs stay warm."""
    short = NAPS.replace("1h", "30s")
    worker = await pools.pod("p", short.format(word="first") + short.format(word="second").replace("handle", "handle2"))
    await pools.apply("naps", "p", "r1", triggers=GO)
    await send(pools)
    (warm,) = worker.warm
    await pools.apply("naps", "p", "r2", triggers=GO, handler="handle2")
    assert list(worker.warm) == [warm]
    await send(pools)
    await pools.advance(timedelta(hours=2))
    assert await pools.results("naps") == [["first", "first"], ["second", "second"]]
    assert await pools.durable.store.forget_revision("naps", "r1")
    await pools.settle()
    assert set(worker.codes.by_revision) == {("naps", "r2")}


async def test_a_suspended_function_starts_nothing_and_resumes(pools: Pools) -> None:
    """Suspended, a function starts no run by event, cron or invoke; its run in flight goes on; resumed it starts runs again."""
    await pools.pod("p", NAPS.format(word="x"))
    triggers = [*GO, {"cron": "0 * * * *"}]
    await pools.apply("naps", "p", "r1", triggers=triggers, concurrency=[{"limit": 3}])
    await send(pools)
    await pools.apply("naps", "p", "r1", triggers=triggers, concurrency=[{"limit": 3}], suspend=True)
    assert pools.durable.well.registry.limits["naps"].first == 3
    await send(pools)
    await pools.advance(timedelta(hours=3))
    with pytest.raises(Unknown, match="suspended"):
        await pools.durable.well.invoke("naps", {})
    assert await pools.results("naps") == [["x", "x"]]
    assert await pools.durable.store.ledger("naps/0 * * * *", 10) == []
    await pools.apply("naps", "p", "r1", triggers=triggers)
    await send(pools)
    await pools.advance(timedelta(minutes=60))
    outcomes = [outcome for _due, outcome, _reason, _run in await pools.durable.store.ledger("naps/0 * * * *", 10)]
    assert outcomes == [TickOutcome.FIRED]
    assert [run.status for run in await pools.durable.store.runs(RunFilter("naps"))].count(RunStatus.COMPLETED) == 2


async def test_live_options_need_no_new_revision(pools: Pools) -> None:
    """Changed retries and triggers hold for what is executed from then on, on every revision of the function."""
    fails = "async def handle(ctx):\n    raise RuntimeError('no')\n"
    await pools.pod("p", fails)
    backoff = {"strategy": "fixed", "base": "1s"}
    await pools.apply("fails", "p", "r1", triggers=GO, retries=0, backoff=backoff)
    await send(pools)
    await pools.apply("fails", "p", "r1", triggers=[{"event": "went"}], retries=2, backoff=backoff)
    await send(pools)
    await send(pools, "went")
    await pools.advance(timedelta(minutes=1))
    runs = await pools.durable.runs("fails")
    tries = [await pools.durable.store.attempts_between(run.run_id) for run in runs]
    assert [len(one.attempts) for one in tries if one is not None] == [1, 3]


async def test_a_failed_run_is_cleaned_up_after(pools: Pools) -> None:
    """`onFailure` names a handler of the same code; it runs as `<id>-failure` on the same revision."""
    code = (
        "async def handle(ctx):\n    raise RuntimeError('no')\nasync def tidy(ctx):\n    return ctx.event.data['function_id']\n"
    )
    await pools.pod("p", code)
    await pools.apply("fails", "p", "r1", triggers=GO, retries=0, onFailure="tidy")
    await send(pools)
    assert await pools.results("fails-failure") == ["fails"]
    (row,) = await pools.durable.store.runs(RunFilter("fails-failure"))
    assert (row.revision, row.pool) == ("r1", "p")


async def test_a_deleted_function_drains_or_is_cancelled(pools: Pools) -> None:
    """A deleted function starts nothing; its runs end on its runner, or are cancelled at once; then its revision goes."""
    await pools.pod("p", NAPS.format(word="x"))
    await pools.apply("naps", "p", "r1", triggers=GO)
    await send(pools)
    await pools.delete("naps")
    await send(pools)
    await pools.advance(timedelta(hours=2))
    assert await pools.results("naps") == [["x", "x"]]
    await pools.apply("naps", "p", "r1", triggers=GO)
    await send(pools)
    await pools.delete("naps")
    assert not await pools.durable.store.forget_revision("naps", "r1")
    assert await cancel_all(pools.durable.store, "naps", "the operator") == 1
    assert await pools.durable.store.forget_revision("naps", "r1")
    await pools.settle()
    assert pools.pods["p"].worker.codes.functions == ()
    assert [run.status for run in await pools.durable.store.runs(RunFilter("naps"))] == [RunStatus.CANCELLED, RunStatus.COMPLETED]


async def test_invokes_start_on_the_registered_revision(pools: Pools) -> None:
    """A run that invokes a function of another pool starts it on the revision that is registered now, not one seen earlier."""
    await pools.pod("a", "async def handle(ctx):\n    return await ctx.step.invoke('call', 'child')\n")
    await pools.apply("parent", "a", "r1", triggers=GO)
    await pools.pod("b-1", "async def handle(ctx):\n    return 1\n")
    await pools.apply("child", "b-1", "r1")
    wells = [pools.durable.well, pools.pods["a"].well]
    stale = wells[0].registry
    await pools.pod("b-2", "async def handle(ctx):\n    return 2\n")
    await pools.apply("child", "b-2", "r2")
    assert await pools.durable.store.forget_revision("child", "r1")
    for well in wells:
        well.committer.registry = stale
    await pools.durable.send_event(Event(name="go", data={}))
    await pools.still()
    pools.durable.well.committer.registry = stale
    run_id = await pools.durable.well.invoke("child", {})
    await pools.settle()
    assert await pools.results("parent") == [2]
    row = await pools.durable.store.run(run_id)
    assert row is not None
    assert (row.revision, row.pool, row.status) == ("r2", "b-2", RunStatus.COMPLETED)


async def test_an_invoke_that_meets_a_suspension(pools: Pools) -> None:
    """Asked for by a process that hasn't heard of the suspension yet, a run isn't started, and who asked is told."""
    await pools.apply("naps", "p", "r1")
    stale = pools.durable.well.registry
    await pools.apply("naps", "p", "r1", suspend=True)
    pools.durable.well.committer.registry = stale
    with pytest.raises(Unknown, match="suspended or removed"):
        await pools.durable.well.invoke("naps", {})
    assert await pools.work() == {}


async def test_a_tick_that_meets_a_suspension(pools: Pools) -> None:
    """A tick fired by a process that hasn't heard of the suspension is skipped in the ledger, and no run is named there."""
    await pools.apply("naps", "p", "r1", triggers=[{"cron": "0 * * * *"}])
    stale = pools.durable.well.registry
    await pools.apply("naps", "p", "r1", triggers=[{"cron": "0 * * * *"}], suspend=True)
    await pools.durable.clock.advance(timedelta(hours=1))
    scheduler, well = pools.durable.scheduler, pools.durable.well
    well.committer.registry = stale
    await scheduler._fire_one(stale.schedules[0], pools.durable.clock.now())
    ((_due, outcome, reason, run),) = await pools.durable.store.ledger("naps/0 * * * *", 10)
    assert (outcome, reason, run) == (TickOutcome.SKIPPED, "the function was suspended or removed", None)


async def test_a_run_that_arrives_before_its_code_waits_a_moment(pools: Pools) -> None:
    """A run of a revision that its runner hasn't heard of is put back for a second; it spends no try and loses no event."""
    worker = await pools.pod("p", NAPS.format(word="x"))
    await pools.apply("naps", "p", "r1", triggers=GO)
    known, source = worker.codes, pools.pods["p"].source
    await pools.apply("naps", "p", "r2", triggers=GO, handler="other")
    await worker.adopt(known)
    await pools.durable.send_event(Event(name="go", data={}))
    (run,) = await pools.durable.runs("naps")
    assert (await run.status(), worker.running) == (RunStatus.QUEUED, {})
    await source.look(worker)
    await pools.advance(timedelta(seconds=2))
    assert await run.result() == "other"
    assert await pools.durable.store.attempts_between(run.run_id) is None


async def test_a_handler_that_is_not_there_at_the_start(pools: Pools) -> None:
    """At the start every handler has to be there; the first that isn't is named with its function and what there is instead."""
    await pools.apply("naps", "p", "r1", handler="nothing")
    with pytest.raises(HandlerImportFailed, match=r"naps: .*there is no function 'nothing'.*it has handle, other"):
        await pools.pod("p", NAPS.format(word="x"))


async def test_code_that_can_not_be_read_fails_at_once(pools: Pools) -> None:
    """A file with a fault is told by file and line, even before anything is registered for it."""
    with pytest.raises(HandlerImportFailed, match=r"p\.py:2: ZeroDivisionError"):
        await pools.pod("p", "import sys\n1 / 0\n")
    with pytest.raises(HandlerImportFailed, match=r"q\.py:1: SyntaxError"):
        await pools.pod("q", "def\n")


async def test_a_broken_function_that_arrives_later_is_left_out(pools: Pools) -> None:
    """A function that arrives later and can't be imported is told once, its runs wait, and the others are served."""
    worker = await pools.pod("p", NAPS.format(word="x"))
    await pools.apply("naps", "p", "r1", triggers=GO)
    with structlog.testing.capture_logs() as lines:
        await pools.apply("broken", "p", "r1", triggers=GO, handler="nothing")
    assert [line["function"] for line in lines if line["log_level"] == "error"] == ["broken"]
    assert worker.codes.functions == ("naps",)
    await send(pools)
    await pools.advance(timedelta(hours=2))
    assert await pools.results("naps") == [["x", "x"]]
    assert await pools.work() == {("broken", "r1", "p"): 1}


async def test_a_broken_revision_beside_a_good_one(pools: Pools) -> None:
    """Where one revision of a function can't be imported, runs of the other go on and its own are put back, unharmed."""
    worker = await pools.pod("p", NAPS.replace("1h", "30s").format(word="x"))
    await pools.apply("naps", "p", "r1", triggers=GO)
    await send(pools)
    await pools.apply("naps", "p", "r2", triggers=GO, handler="nothing")
    await send(pools)
    await pools.advance(timedelta(minutes=2))
    assert set(worker.codes.broken) == {("naps", "r2")}
    assert await pools.work() == {("naps", "r2", "p"): 1}
    assert [run.status for run in await pools.durable.store.runs(RunFilter("naps"))] == [RunStatus.QUEUED, RunStatus.COMPLETED]


async def test_a_pool_of_nothing_but_broken_code_gives_up(pools: Pools) -> None:
    """If what arrives is all there is and can't be imported, the runner ends and says why."""
    worker = await pools.pod("p", NAPS.format(word="x"))
    pod = pools.pods.pop("p")
    await pools.apply("naps", "p", "r1", handler="nothing")
    with pytest.raises(HandlerImportFailed, match="nothing"):
        await pod.source.look(worker)
    await worker.stop()


async def test_a_decorator_that_disagrees_is_told_once(pools: Pools) -> None:
    """The manifest is the truth: a decorator that says something else is noted once, and doesn't count."""
    code = (
        "import stepwell\n"
        "@stepwell.function(id='mine', retries=9, triggers=[stepwell.on_event('other')])\n"
        "async def handle(ctx: stepwell.Context) -> str:\n    return ctx.function_id\n"
    )
    with structlog.testing.capture_logs() as lines:
        worker = await pools.pod("p", code)
        await pools.apply("theirs", "p", "r1", triggers=GO, retries=1)
        await pools.settle()
    notes = [line["where"] for line in lines if "manifest holds" in line["event"]]
    assert [note for note in notes if "retries is 9, but its manifest says 1" in note]
    assert len(notes) == len(set(notes)) == 3
    assert worker.codes.by_revision["theirs", "r1"].spec.retries == 1
    await send(pools)
    assert await pools.results("theirs") == ["theirs"]
