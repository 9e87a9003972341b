"""What people look at: runs by any filter with cursors, journals, live figures."""

from conformance.build import SECOND, T0, Well, cancel, consume, done, failed, park, run_id, start, step, turn, wait

from stepwell.engine.run import RunStatus
from stepwell.store.records import Limit, Parked, StepKind
from stepwell.store.registry import FunctionRow, ScheduleRow
from stepwell.store.views import FunctionStats, LimitStats, OverdueTimers, RunFilter


async def listed(well: Well, **which: object) -> list[int]:
    """The numbers of the runs that a filter finds."""
    return [int(one.run_id[10:]) for one in await well.store.runs(RunFilter(**which))]  # type: ignore[arg-type]


async def test_runs_by_filter(well: Well) -> None:
    """Runs come newest first, by function, status, event, time and cursor, in any combination."""
    for number in range(1, 8):
        await well.start(
            start(
                number,
                "g" if number % 2 == 0 else "f",
                created=T0 + number,
                event_ids=("e",) if number < 5 else (),
                due=T0 + 500 * SECOND if number == 1 else T0,
                rerun_of=run_id(number - 2) if number > 2 else None,
            )
        )
    held = {one.run_id: one for one in (await well.claim()).claimed}
    nap = wait("nap", StepKind.SLEEP, due=T0 + 900 * SECOND)
    await well.commit(
        turns=(
            turn(held[run_id(3)], opens=(nap,), then=park(T0 + 900 * SECOND, Parked.SLEEPING)),
            turn(held[run_id(4)], opens=(wait("paid"),), then=park()),
            turn(held[run_id(5)], then=done()),
            turn(held[run_id(6)], then=failed()),
        ),
        cancels=(cancel(7),),
    )
    assert await listed(well) == [7, 6, 5, 4, 3, 2, 1]
    assert await listed(well, limit=3) == [7, 6, 5]
    assert await listed(well, limit=3, before=run_id(5)) == [4, 3, 2]
    assert await listed(well, function_id="g") == [6, 4, 2]
    assert await listed(well, function_id="g", before=run_id(6), limit=1) == [4]
    assert await listed(well, function_id="h") == []
    statuses = [await listed(well, status=status) for status in RunStatus]
    assert dict(zip(RunStatus, statuses, strict=True)) == {
        RunStatus.QUEUED: [1],
        RunStatus.RUNNING: [2],
        RunStatus.SLEEPING: [3],
        RunStatus.WAITING: [4],
        RunStatus.COMPLETED: [5],
        RunStatus.FAILED: [6],
        RunStatus.CANCELLED: [7],
        RunStatus.SKIPPED: [],
    }
    assert await listed(well, status=RunStatus.FAILED, function_id="g") == [6]
    assert await listed(well, status=RunStatus.FAILED, function_id="f") == []
    assert await listed(well, status=RunStatus.RUNNING, function_id="g", before=run_id(2)) == []
    assert await listed(well, event_id="e") == [4, 3, 2, 1]
    assert await listed(well, event_id="e", status=RunStatus.WAITING) == [4]
    assert await listed(well, event_id="e", function_id="f", before=run_id(3)) == [1]
    assert await listed(well, created_after=T0 + 3, created_before=T0 + 6) == [5, 4, 3]
    assert await listed(well, created_after=T0 + 3, status=RunStatus.SLEEPING) == [3]
    assert await listed(well, created_before=T0 + 5, status=RunStatus.COMPLETED) == []
    assert await listed(well, created_before=T0 + 5, function_id="f") == [3, 1]


async def test_a_run_whose_time_has_come_is_queued(well: Well) -> None:
    """What slept, waited or was to be tried again is queued once its time has come, be it blocked by a limit yet or not.

    Its row, every list, the live figures and the work of its revision tell so, with nothing written meanwhile.
    """
    limits, soon = (Limit("f", 1),), T0 + 5 * SECOND
    more = {"concurrency": ("k",), "event_ids": ("e",)}
    await well.start(start(1, **more), *(start(number, rerun_of=run_id(1), **more) for number in range(2, 7)))
    held = {one.run_id: one for one in (await well.claim()).claimed}
    parks = {
        1: (wait("nap", StepKind.SLEEP, due=soon), park(soon, Parked.SLEEPING)),
        2: (wait("paid", due=soon), park(soon)),
        3: (wait("told"), park()),
        4: (wait("again", StepKind.RUN, due=soon, attempt=1), park(soon, Parked.QUEUED)),
        5: (wait("long", StepKind.SLEEP, due=soon + 1), park(soon + 1, Parked.SLEEPING)),
    }
    await well.commit(
        turns=tuple(turn(held[run_id(number)], opens=(opened,), then=then) for number, (opened, then) in parks.items())
    )

    async def seen() -> dict[str, list[int]]:
        live = [RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.SLEEPING, RunStatus.WAITING]
        listings = [{}, {"function_id": "f"}, {"event_id": "e"}]
        found = [{str(one): await listed(well, status=one, **more) for one in live} for more in listings]
        rows = [await well.store.run(run_id(number)) for number in range(6, 0, -1)]
        rows += await well.store.runs(RunFilter())
        told = {str(one): [int(row.run_id[10:]) for row in rows if row is not None and row.status is one] for one in live}
        assert all(one == found[0] for one in found)
        assert told == {status: numbers * 2 for status, numbers in found[0].items()}
        (figures,) = (await well.store.stats(well.now)).functions
        counted = {"queued": figures.queued, "running": figures.running, "sleeping": figures.sleeping, "waiting": figures.waiting}
        assert counted == {status: len(numbers) for status, numbers in found[0].items()}
        assert [one.queued for one in await well.store.work(well.now)] == [figures.queued]
        return found[0]

    well.later(4.999999)
    assert await seen() == {"queued": [4], "running": [6], "sleeping": [5, 1], "waiting": [3, 2]}
    await well.commit(consumes=(consume(held[run_id(3)], "told"),))
    assert await seen() == {"queued": [4, 3], "running": [6], "sleeping": [5, 1], "waiting": [2]}
    well.later(0.000001)
    assert await seen() == {"queued": [4, 3, 2, 1], "running": [6], "sleeping": [5], "waiting": []}
    (figures,) = (await well.store.stats(well.now)).functions
    assert (figures.queued_due, figures.queued_later, figures.blocked) == (4, 0, 0)
    assert await well.claimed(limits=limits) == []
    assert await seen() == {"queued": [4, 3, 2, 1], "running": [6], "sleeping": [5], "waiting": []}
    (figures,) = (await well.store.stats(well.now)).functions
    assert (figures.queued_due, figures.queued_later, figures.blocked) == (0, 0, 4)


async def test_skipped_runs_are_listed(well: Well) -> None:
    """Skipped starts are found by their status."""
    key = {"idempotency_key": "k", "idempotency_until": T0 + SECOND}
    await well.commit(starts=(start(1, **key), start(2, **key), start(3, **key)))
    assert await listed(well, status=RunStatus.SKIPPED) == [3, 2]
    assert await listed(well, status=RunStatus.SKIPPED, before=run_id(3), limit=5) == [2]


async def test_an_unknown_run(well: Well) -> None:
    """There is nothing to tell of a run that never was."""
    assert await well.store.run(run_id(1)) is None
    assert await well.store.steps(run_id(1)) == []
    assert await well.store.journals([run_id(1)]) == {}
    assert await well.store.journals([]) == {}


async def test_journals_of_several_runs(well: Well) -> None:
    """Journals of many runs come in one read, each with its own steps and waits; ended runs have none."""
    one, two, three = [await well.running(number) for number in (1, 2, 3)]
    await well.commit(
        turns=(
            turn(one, step("b"), step("a"), opens=(wait("w"),)),
            turn(two, step("c")),
            turn(three, step("d"), then=done()),
        )
    )
    found = await well.store.journals([run_id(2), run_id(1), run_id(3)])
    assert {key: ([s.step_id for s in journal.steps], [w.step_id for w in journal.waits]) for key, journal in found.items()} == {
        run_id(1): (["b", "a"], ["w"]),
        run_id(2): (["c"], []),
    }


async def test_the_live_figures(well: Well) -> None:
    """The figures count each live run of a function by what it does, with the ages of the oldest due and blocked."""
    limits = (Limit("f", 1),)
    await well.start(
        start(1, concurrency=("k",)),
        start(2, concurrency=("k",), due=T0 + 2 * SECOND),
        start(3, due=T0 + 900 * SECOND),
        start(4, "g", revision="r2"),
        start(5, "g"),
    )
    well.later(3)
    held = {one.run_id: one for one in (await well.claim(limits=limits)).claimed}
    nap = wait("nap", StepKind.SLEEP, due=T0 + 5 * SECOND)
    await well.commit(
        turns=(
            turn(held[run_id(4)], opens=(nap,), then=park(T0 + 5 * SECOND, Parked.SLEEPING)),
            turn(held[run_id(5)], opens=(wait("a"),), then=park()),
        )
    )
    await well.start(start(6, due=T0 + SECOND))
    well.later(4)
    stats = await well.store.stats(well.now)
    assert stats.now == well.now
    assert stats.functions == (
        FunctionStats(
            "f", 3, 1, 0, 0, 6 * SECOND, (LimitStats(1, 1, 1, 5 * SECOND),), (("r1", 2, 1),), queued_due=1, queued_later=1
        ),
        FunctionStats("g", 1, 0, 0, 1, 2 * SECOND, (), (("r1", 0, 1), ("r2", 1, 0)), queued_due=1),
    )
    assert stats.overdue == (OverdueTimers("g", (0, 0), 1),)
    assert [one.runner_id for one in stats.runners] == ["A", "B"]


async def test_overdue_timers_tell_how_full_their_keys_are(well: Well) -> None:
    """Timers past due by more than a second are counted with the leases under their keys, until a claim blocks them."""
    limits, soon = (Limit("f", 2, 2), Limit("g", 2)), T0 + 5 * SECOND
    keys: list[tuple[str, ...]] = [("k", "x"), ("k", "x"), ("k",), ("l",), ()]
    await well.start(*(start(number, "f", concurrency=own) for number, own in enumerate(keys, 1)))
    asleep = (await well.claim()).claimed
    nap = wait("nap", StepKind.SLEEP, due=soon)
    await well.commit(turns=tuple(turn(one, opens=(nap,), then=park(soon, Parked.SLEEPING)) for one in asleep))
    await well.start(start(6, "g", concurrency=("k",)), start(7, "f", concurrency=("k", "x")), start(8, "g"))
    assert len(await well.claimed(limits=limits)) == 3
    well.later(5.999999)
    assert (await well.store.stats(well.now)).overdue == ()
    well.later(0.000001)
    found = (OverdueTimers("f", (0, 0), 2), OverdueTimers("f", (2, 0), 1), OverdueTimers("f", (2, 1), 2))
    assert (await well.store.stats(well.now)).overdue == found
    assert await well.claimed(limits=limits) == [run_id(4), run_id(5)]
    assert (await well.store.stats(well.now)).overdue == ()


async def test_figures_of_an_empty_well(well: Well) -> None:
    """An empty well has no figures but its live runners."""
    stats = await well.store.stats(well.now)
    assert (stats.functions, stats.overdue) == ((), ())
    well.later(60)
    assert (await well.store.stats(well.now)).runners == ()


async def test_figures_by_concurrency_rule(well: Well) -> None:
    """Each of two rules has its own figures; what other functions hold under a shared key counts, what waits for room is told."""
    limits = (Limit("f", 5, 1), Limit("g", 9))
    await well.start(start(1, "g", concurrency=(":mail",)))
    await well.claim(limits=limits)
    await well.start(
        start(2, concurrency=("f", ":mail")),
        start(3, concurrency=("f", ":post")),
        start(4, concurrency=("f", ":post")),
    )
    await well.claim(limits=limits)
    well.later(3)
    stats = await well.store.stats(well.now)
    assert {one.function_id: one.limits for one in stats.functions} == {
        "f": (LimitStats(1, 1, 0, 0), LimitStats(2, 1, 2, 3 * SECOND)),
        "g": (LimitStats(1, 1, 0, 0),),
    }


async def test_the_next_ticks(well: Well) -> None:
    """The next due instant of each function with a schedule is told; a schedule that is gone has none."""
    row = FunctionRow("f", "r1", "p", "p", b"{}")
    schedules = [ScheduleRow(f"f/{number}", "f", b"{}", T0, T0, T0 + number * SECOND) for number in (7, 5)]
    await well.store.register("p", [row], schedules)
    assert (await well.store.stats(well.now)).next_ticks == (("f", T0 + 5 * SECOND),)
    await well.store.register("p", [row], [])
    assert (await well.store.stats(well.now)).next_ticks == ()


async def test_live_runners_alone_are_listed(well: Well) -> None:
    """`runners` lists the runners whose lease holds as the figures do, and none whose lease is over."""
    listed_now = await well.store.runners(well.now)
    assert tuple(listed_now) == (await well.store.stats(well.now)).runners
    assert [one.runner_id for one in listed_now] == ["A", "B"]
    await well.store.leave("A", well.now)
    assert [one.runner_id for one in await well.store.runners(well.now)] == ["B"]
    assert await well.store.runners(well.now + 61 * SECOND) == []
