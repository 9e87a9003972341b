"""Revisions: what runs are pinned to stays as long as a run needs it, and functions that rest start nothing."""

import asyncio

import pytest
from conformance.build import SECOND, T0, Well, asking, cancel, done, park, run_id, start, turn, wait

from stepwell.engine.cancelling import cancel_all
from stepwell.engine.run import RunStatus
from stepwell.store.records import FOREVER, Limit, Parked, StepKind
from stepwell.store.registry import FunctionRow, RevisionRow, RevisionWork, ScheduleRow
from stepwell.store.views import RunnerRow

CODE = b'{"handler":"h"}'


def function(name: str = "f", revision: str = "r1", *, active: bool = True, pool: str = "p") -> FunctionRow:
    """A function of the owner `one`."""
    return FunctionRow(name, revision, pool, "one", b"{}", active)


def revision(name: str = "r1", function_id: str = "f", pool: str = "p", code: bytes = CODE, created: int = T0) -> RevisionRow:
    """A revision."""
    return RevisionRow(function_id, name, pool, code, created)


async def test_revisions_stay_until_they_are_forgotten(well: Well) -> None:
    """Each registration adds its revisions; they come back by function and age, of one pool or all."""
    store = well.store
    await store.register("one", [function()], [], [revision("r9", created=T0), revision("r1", "e", "q")])
    await store.register("one", [function(revision="r1")], [], [revision("r1", created=T0 + 1)])
    rows = [revision("r1", "e", "q"), revision("r9", created=T0), revision("r1", created=T0 + 1)]
    assert await store.revisions() == rows
    assert await store.revisions("p") == rows[1:]
    assert await store.revisions("nowhere") == []


async def test_the_version_moves_when_a_revision_changes(well: Well) -> None:
    """A new revision, other code or another pool moves the registry's version; the same again, or a later birth, does not."""
    store = well.store
    first = await store.register("one", [function()], [], [revision()])
    assert await store.register("one", [function()], [], [revision(created=T0 + 5)]) == first
    assert await store.register("one", [function()], []) == first
    second = await store.register("one", [function()], [], [revision(code=b'{"handler":"i"}')])
    third = await store.register("one", [function()], [], [revision(pool="q", code=b'{"handler":"i"}')])
    assert first < second < third
    assert await store.revisions() == [revision(pool="q", code=b'{"handler":"i"}')]


async def test_a_suspended_function_rests_and_resumes(well: Well) -> None:
    """A function registered as inactive is known as such while it has a revision; registering it as active resumes it."""
    store = well.store
    first = await store.register("one", [function(active=False)], [], [revision()])
    assert (await store.registry()).functions == (function(active=False),)
    assert await store.register("one", [function(active=False)], [], [revision()]) == first
    assert await store.register("one", [function()], [], [revision()]) > first
    assert (await store.registry()).functions == (function(),)


async def test_a_removed_function_is_known_while_it_has_a_revision(well: Well) -> None:
    """What was removed stays known, as inactive, until its last revision is forgotten, and so does what cleans up after it."""
    store = well.store
    rows = [function(), function("f-failure"), function("other")]
    await store.register("one", rows, [], [revision()])
    await store.register("one", [], [])
    assert (await store.registry()).functions == (function(active=False), function("f-failure", active=False))
    assert await store.forget_revision("f", "r1")
    assert (await store.registry()).functions == ()


async def test_schedules_rest_with_their_function(well: Well) -> None:
    """The schedules of a suspended function are gone; when it resumes they begin anew."""
    store = well.store
    due = ScheduleRow("s", "f", b"{}", T0, T0, T0 + SECOND)
    other = ScheduleRow("t", "g", b"{}", T0, T0, T0 + SECOND)
    await store.register("one", [function(), function("g")], [due, other], [revision()])
    await store.register("one", [function(active=False), function("g")], [due, other], [revision()])
    assert (await store.registry()).schedules == (other,)
    again = ScheduleRow("s", "f", b"{}", T0 + 9, T0 + 9, T0 + 10 * SECOND)
    await store.register("one", [function(), function("g")], [again, other], [revision()])
    assert (await store.registry()).schedules == (again, other)


async def test_work_counts_live_runs(well: Well) -> None:
    """`work` has one row for each function, revision and pool with live runs, and says what they do and what is due when."""
    await well.start(
        start(1),
        start(2, due=T0 + 7 * SECOND),
        start(3, revision="r2"),
        start(4, revision="r2", pool="q"),
        start(5, function="g", due=T0 + 90 * SECOND),
    )
    (running,) = (await well.commit(claim=asking(1))).claimed
    assert running.run_id == run_id(1)
    assert await well.store.work(well.now) == [
        RevisionWork("f", "r1", "p", 2, 1, 0, 1, T0 + 7 * SECOND),
        RevisionWork("f", "r2", "p", 1, 1, 1, 0, None),
        RevisionWork("f", "r2", "q", 1, 1, 1, 0, None),
        RevisionWork("g", "r1", "p", 1, 1, 0, 0, T0 + 90 * SECOND),
    ]
    asleep = turn(running, opens=(wait("nap", StepKind.SLEEP, due=T0 + 5 * SECOND),), then=park(T0 + 5 * SECOND, Parked.SLEEPING))
    await well.commit(turns=(asleep,))
    assert (await well.store.work(well.now))[0] == RevisionWork("f", "r1", "p", 2, 1, 0, 0, T0 + 5 * SECOND)
    well.later(6)
    assert (await well.store.work())[0] == RevisionWork("f", "r1", "p", 2, 2, 1, 0, T0 + 7 * SECOND)


async def test_work_of_an_ended_or_endless_run(well: Well) -> None:
    """A run that waits without an end has no next due time; one that has ended is no work."""
    await well.parked(1, wait("hear"))
    assert await well.store.work(well.now) == [RevisionWork("f", "r1", "p", 1, 0, 0, 0, None)]
    claimed = await well.running(2, function="g")
    await well.commit(turns=(turn(claimed, then=done()),))
    assert [one.function_id for one in await well.store.work(well.now)] == ["f"]
    assert (await well.store.run(run_id(1))).due == FOREVER  # type: ignore[union-attr]


async def test_blocked_runs_are_queued_but_not_due(well: Well) -> None:
    """A run that waits for a slot of its concurrency key is queued, and nothing for another runner to take."""
    await well.start(start(1, concurrency=("f",)), start(2, concurrency=("f",)))
    assert await well.claimed(limits=(Limit("f", 1),)) == [run_id(1)]
    assert await well.store.work(well.now) == [RevisionWork("f", "r1", "p", 2, 1, 0, 1, None)]


async def test_live_runs_are_listed_oldest_first(well: Well) -> None:
    """The unfinished runs of one function, oldest first, up to a limit."""
    await well.start(start(3), start(1), start(2), start(4, function="g"))
    assert await well.store.live_runs("f", 2) == [run_id(1), run_id(2)]
    assert await well.store.live_runs("f", 10) == [run_id(1), run_id(2), run_id(3)]
    assert await well.store.live_runs("h", 10) == []


async def test_a_revision_is_kept_while_a_run_is_pinned_to_it(well: Well) -> None:
    """While a run of a revision lives, asleep or not, it can't be forgotten; with its end it can, and only once."""
    store = well.store
    await store.register("one", [function(revision="r2")], [], [revision("r1"), revision("r2", created=T0 + 1)])
    nap = wait("nap", StepKind.SLEEP, due=T0 + 3600 * SECOND)
    claimed = await well.parked(1, nap, then=park(T0 + 3600 * SECOND, Parked.SLEEPING))
    before = (await store.registry()).version
    assert not await store.forget_revision("f", "r1")
    assert (await store.registry()).version == before
    await well.commit(cancels=(cancel(1),))
    assert claimed.revision == "r1"
    assert await store.forget_revision("f", "r1")
    after = (await store.registry()).version
    assert after > before
    assert await store.revisions() == [revision("r2", created=T0 + 1)]
    assert await store.forget_revision("f", "r1")
    assert (await store.registry()).version == after


async def test_what_an_active_function_starts_with_is_kept(well: Well) -> None:
    """The current revision of an active function can't be forgotten, nor one whose clean-up function starts with it."""
    store = well.store
    await store.register("one", [function()], [], [revision()])
    assert not await store.forget_revision("f", "r1")
    await store.register("one", [function(revision="r2"), function("f-failure")], [], [revision("r2")])
    assert not await store.forget_revision("f", "r1")
    await store.register("one", [function(revision="r2")], [])
    assert await store.forget_revision("f", "r1")
    await store.register("one", [function(revision="r2", active=False)], [])
    assert await store.forget_revision("f", "r2")


async def test_a_clean_up_run_keeps_the_revision(well: Well) -> None:
    """A run of `<id>-failure` needs the revision of its function."""
    await well.store.register("one", [], [], [revision()])
    await well.start(start(1, function="f-failure"))
    assert not await well.store.forget_revision("f", "r1")
    await cancel_all(well.store, "f-failure", "a test")
    assert await well.store.forget_revision("f", "r1")


async def test_a_start_and_a_forgetting_race(well: Well) -> None:
    """Of a start and the forgetting of its revision one comes first: the start is out of date, or the revision is kept."""
    store = well.store
    for number in range(1, 31):
        name = f"r{number}"
        await store.register("one", [function(revision=name)], [], [revision(name)])
        version = await store.register("one", [], [])
        result, forgotten = await asyncio.gather(
            well.commit(registry_version=version, starts=(start(number, revision=name),)), store.forget_revision("f", name)
        )
        assert result.stale is forgotten
        kept = {row.revision for row in await store.revisions()}
        assert {one.revision for one in await store.work(well.now)} == kept


@pytest.mark.parametrize("count", [3, 450])
async def test_cancelling_all_runs_of_a_function(well: Well, count: int) -> None:
    """Every live run of a function is cancelled with the reason, however many there are; others live on."""
    await well.start(*(start(number) for number in range(1, count + 1)), start(count + 1, function="g"))
    await well.claim(2)
    assert await cancel_all(well.store, "f", "the operator: DurableFunction f was deleted") == count
    assert await well.store.live_runs("f", 10) == []
    assert await well.store.live_runs("g", 10) == [run_id(count + 1)]
    row = await well.store.run(run_id(count))
    assert row is not None
    assert row.status is RunStatus.CANCELLED
    assert row.value is not None
    assert b"cancelled by the operator" in row.value
    assert await cancel_all(well.store, "f", "nobody") == 0


async def test_cancelled_runs_are_told_to_who_listens(well: Well) -> None:
    """Where a function listens to cancelled runs, each of them waits in the outbox for its event; else none does."""
    await well.start(start(1), start(2, function="g"))
    await cancel_all(well.store, "f", "a test")
    assert (await well.claim(0, sweep=True)).outbox == ()
    spec = b'{"id":"ear","triggers":[{"event":"stepwell/function.cancelled"}]}'
    await well.store.register("one", [FunctionRow("ear", "r1", "p", "one", spec)], [])
    await cancel_all(well.store, "g", "a test")
    assert (await well.claim(0, sweep=True)).outbox == (run_id(2),)


async def test_live_runs_are_moved_to_another_revision(well: Well) -> None:
    """Moved runs are claimed by the other pool; one that executes goes on where it is, and is there once it parks."""
    store = well.store
    await store.register("one", [function()], [], [revision(), revision("r2", pool="q")])
    await well.start(start(1, function_id="f"), start(2, function_id="f"), start(3, function_id="g"))
    [held] = (await well.claim(1)).claimed
    assert await store.move_runs("f", "r2", "q") == 2
    assert await store.move_runs("f", "r2", "q") == 0
    await well.commit(turns=(turn(held, then=park(0)),))
    await well.store.enrol(RunnerRow("Q", ("q",), ("f",), 10, 60 * SECOND, draining=False))
    work = {(row.function_id, row.revision, row.pool): row.live for row in await store.work(well.now)}
    assert work == {("f", "r2", "q"): 2, ("g", "r1", "p"): 1}
