"""The registry: whole versions, moved only by changes; schedules keep what they have accounted for."""

from conformance.build import SECOND, T0, Well, tick

from stepwell.store.registry import FunctionRow, ScheduleRow


def function(name: str, revision: str = "r1", spec: bytes = b"{}", owner: str = "one") -> FunctionRow:
    """A function."""
    return FunctionRow(name, revision, "p", owner, spec)


def schedule(name: str, cron: bytes = b'{"cron":"@hourly"}', **more: int) -> ScheduleRow:
    """A schedule of `f`."""
    given = {"created": T0, "last_due": T0, "next_due": 0, **more}
    return ScheduleRow(name, "f", cron, **given)


async def test_a_registry_comes_back_whole(well: Well) -> None:
    """What was registered and listened on comes back, in the order of names, with the version it makes."""
    version = await well.store.register("one", [function("g"), function("f", spec=b'{"id":"\xc3\xa9"}')], [schedule("s")])
    version = await well.store.listen([("b", "event.data.x"), ("a", "event.data.y")])
    registry = await well.store.registry()
    assert registry.version == version
    assert registry.functions == (function("f", spec=b'{"id":"\xc3\xa9"}'), function("g"))
    assert registry.listens == (("a", "event.data.y"), ("b", "event.data.x"))
    assert registry.schedules == (schedule("s"),)


async def test_the_version_moves_only_with_a_change(well: Well) -> None:
    """Registering the same again leaves the version; any change, and any removal, moves it."""
    store = well.store
    first = await store.register("one", [function("f")], [schedule("s")])
    assert await store.register("one", [function("f")], [schedule("s")]) == first
    second = await store.register("one", [function("f", "r2")], [schedule("s")])
    assert second > first
    third = await store.register("one", [function("f", "r2")], [schedule("s", b"{}")])
    assert third > second
    fourth = await store.register("one", [function("f", "r2")], [])
    assert fourth > third
    assert (await store.registry()).version == await store.registry_version() == fourth


async def test_listening_twice_moves_nothing(well: Well) -> None:
    """A pair that is listened on already moves nothing; a new one among known ones does."""
    first = await well.store.listen([("a", "x"), ("a", "x")])
    assert await well.store.listen([("a", "x")]) == first
    assert await well.store.listen([]) == first
    assert await well.store.listen([("a", "x"), ("a", "y")]) > first


async def test_an_owner_replaces_its_own(well: Well) -> None:
    """An owner's new set replaces its old one and leaves those of others alone."""
    store = well.store
    await store.register("one", [function("a"), function("b")], [schedule("s1"), schedule("s2")])
    await store.register("two", [function("c", owner="two")], [schedule("s3")])
    await store.register("one", [function("b")], [schedule("s2")])
    registry = await store.registry()
    assert [one.function_id for one in registry.functions] == ["b", "c"]
    assert [one.schedule_id for one in registry.schedules] == ["s2", "s3"]


async def test_a_function_may_change_hands(well: Well) -> None:
    """A function that another owner registers is that owner's from then on."""
    await well.store.register("one", [function("a")], [])
    await well.store.register("two", [function("a", "r2", owner="two")], [])
    await well.store.register("one", [], [])
    assert (await well.store.registry()).functions == (function("a", "r2", owner="two"),)


async def test_a_schedule_that_stays_keeps_its_place(well: Well) -> None:
    """A schedule that stays, changed or not, keeps what it has accounted for and when it is due next."""
    await well.store.register("one", [function("f")], [schedule("s")])
    await well.commit(ticks=(tick(T0 + 60 * SECOND),))
    again = schedule("s", b'{"cron":"@daily"}', created=T0 + 5, last_due=T0 + 5, next_due=7)
    await well.store.register("one", [function("f", "r2")], [again])
    (row,) = (await well.store.registry()).schedules
    assert row == ScheduleRow("s", "f", again.cron, T0, T0 + 60 * SECOND, T0 + 120 * SECOND)


async def test_a_schedule_that_was_away_begins_anew(well: Well) -> None:
    """A schedule that was removed and comes back is accounted for from then on: what fell due meanwhile was nobody's."""
    await well.store.register("one", [function("f")], [schedule("s")])
    await well.commit(ticks=(tick(T0 + 60 * SECOND),))
    await well.store.register("one", [function("f")], [])
    later = schedule("s", created=T0 + 600 * SECOND, last_due=T0 + 600 * SECOND)
    well.later(600)
    await well.enrol("A")
    await well.store.register("one", [function("f")], [later])
    assert (await well.store.registry()).schedules == (later,)


async def test_a_removed_function_finishes_its_runs(well: Well) -> None:
    """Removing a function leaves its live runs claimable."""
    from conformance.build import run_id, start

    await well.store.register("one", [function("f")], [])
    await well.start(start(1))
    await well.store.register("one", [], [])
    assert await well.claimed() == [run_id(1)]


async def test_a_function_knows_since_when_it_is_as_it_is(well: Well) -> None:
    """`since` is the version that a function's last change made; what changes beside it leaves it."""
    store = well.store

    async def since() -> dict[str, int]:
        return {row.function_id: row.since for row in (await store.registry()).functions}

    first = await store.register("one", [function("f"), function("g")], [])
    assert await since() == {"f": first, "g": first}
    await store.listen([("a", "x")])
    second = await store.register("one", [function("f", "r2"), function("g")], [])
    assert await since() == {"f": second, "g": first}
    await store.register("one", [function("f", "r2")], [])
    third = await store.register("one", [function("f", "r2"), function("g")], [])
    assert await since() == {"f": second, "g": third}
