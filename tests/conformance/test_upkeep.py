"""Upkeep: what is old goes and what lives stays; the doctor is silent on a sound well and finds each planted break."""

import pytest
from conformance.build import DAY, SECOND, T0, Well, consume, done, event, park, run_id, start, step, tick, turn, wait
from conformance.conftest import Opened

from stepwell.engine.run import RunStatus
from stepwell.store.records import Decision, EventFate, Limit, Parked, StepKind, TickOutcome
from stepwell.store.registry import FunctionRow, ScheduleRow


async def test_migrating_again_changes_nothing(well: Well) -> None:
    """A schema that is up to date needs no migration."""
    assert await well.store.migrate() == []


async def old_history(well: Well) -> None:
    """An event and run 1 that ended, and run 2 that waits, both with an event of their own, thirty days ago."""
    await well.commit(
        events=(event("a"), event("b")),
        starts=(start(1, event=0, event_ids=("a",)), start(2, event=1, event_ids=("b",))),
        decisions=(Decision(0, "g", "no match", ""),),
    )
    ended, waiting = (await well.claim()).claimed
    await well.commit(
        turns=(
            turn(ended, step("one"), then=done()),
            turn(waiting, step("two"), opens=(wait("w"),), then=park()),
        )
    )
    well.later(30 * 86_400)
    await well.enrol("A")
    await well.enrol("B")


async def test_old_history_goes(well: Well) -> None:
    """What is older than is to be kept goes: runs that ended, their journals, their events."""
    await old_history(well)
    await well.store.retain(31 * DAY, well.now)
    assert await well.status(1) is RunStatus.COMPLETED
    assert await well.store.retain(7 * DAY, well.now) > 0
    assert await well.status(1) is None
    assert await well.store.steps(run_id(1)) == []


async def test_what_lives_stays(well: Well) -> None:
    """A live run keeps its journal and its input however old it is, and goes on."""
    await old_history(well)
    await well.store.retain(7 * DAY, well.now)
    assert await well.journal(2) == [("two", b"1")]
    assert await well.waits(2) == ["w"]
    claimed = (await well.claim()).claimed
    assert claimed == ()
    await well.commit(wakes=(run_id(2),))
    again = await well.resumed(2)
    assert again.input == start(2).input
    await well.commit(turns=(turn(again, step("three"), then=done()),))
    assert await well.journal(2) == [("two", b"1"), ("three", b"1")]


async def test_event_ids_are_kept_for_seven_days(well: Well) -> None:
    """An event id is remembered for seven days at least, however short history is kept."""
    await well.commit(events=(event("a"),))
    well.later(7 * 86_400 - 1)
    await well.store.retain(SECOND, well.now)
    assert (await well.commit(events=(event("a"),))).events == (EventFate.DUPLICATE,)
    well.later(2)
    await well.store.retain(SECOND, well.now)
    assert (await well.commit(events=(event("a"),))).events == (EventFate.ACCEPTED,)


async def test_new_events_after_old_ones_went(well: Well) -> None:
    """After retention new events are found by their own ids and listed in order."""
    await well.commit(events=(event("a"), event("b")))
    well.later(86_400 * 2)
    await well.store.retain(DAY, well.now)
    await well.commit(events=(event("c"), event("d")))
    assert [one.id for one in await well.store.events(None, None, 10)][:2] == ["d", "c"]
    for name in ("c", "d"):
        found = await well.store.event(name)
        assert found is not None
        assert found.id == name


async def test_the_newest_tick_stays(well: Well) -> None:
    """The newest ledger row of a schedule stays, for the next due instant is computed from it."""
    await well.commit(ticks=tuple(tick(T0 + number, TickOutcome.SKIPPED) for number in (1, 2, 3)))
    well.later(86_400 * 30)
    await well.store.retain(DAY, well.now)
    assert [row[0] for row in await well.store.ledger("s", 10)] == [T0 + 3]


async def test_retaining_twice_finds_nothing_more(well: Well) -> None:
    """What went is gone: the same retention again changes nothing."""
    await old_history(well)
    await well.store.retain(7 * DAY, well.now)
    before = await well.picture()
    await well.store.retain(7 * DAY, well.now)
    assert await well.picture() == before


# --- the doctor ---


async def lively(well: Well) -> None:
    """A well with something of everything in it: runs 1 queued, 2 held, 3 asleep, 4 waiting, 5 completed, 6 held under a key."""
    await well.store.register(
        "tests",
        [FunctionRow("f", "r1", "p", "tests", b'{"concurrency":[{"limit":1}]}')],
        [ScheduleRow("s", "f", b"{}", created=T0, last_due=T0, next_due=0)],
    )
    until = T0 + 900 * SECOND
    await well.commit(
        events=tuple(event(f"e{number}") for number in range(1, 6)),
        starts=(
            start(1, event=0, event_ids=("e1",), due=until),
            *(start(number, event=number - 1, event_ids=(f"e{number}",)) for number in range(2, 6)),
            start(6, concurrency=("k",)),
            start(7, concurrency=("k",), due=until),
        ),
        ticks=(tick(T0 + 1, run_id=run_id(5)), tick(T0 + 2, TickOutcome.SKIPPED)),
    )
    held = {one.run_id: one for one in (await well.claim(limits=(Limit("f", 1),))).claimed}
    nap = wait("nap", StepKind.SLEEP, due=until)
    await well.commit(
        turns=(
            turn(held[run_id(2)], step("a")),
            turn(held[run_id(3)], opens=(nap,), then=park(until, Parked.SLEEPING)),
            turn(held[run_id(4)], opens=(wait("w"), wait("v")), then=park()),
            turn(held[run_id(5)], step("a"), then=done()),
        )
    )
    await well.commit(consumes=(consume(held[run_id(4)], "v"),))


async def test_the_doctor_finds_a_sound_well_sound(well: Well) -> None:
    """Nothing is wrong with a well in which everything was done by its verbs."""
    await lively(well)
    assert await well.store.doctor(well.now) == []


PLANTED = {
    "I2": f"INSERT INTO run_events (event_id, run_id) VALUES ('e2', '{run_id(3)}')",
    "I6": f"UPDATE steps SET epoch = 9 WHERE run_id = '{run_id(2)}'",
    "I9": f"UPDATE queue SET runner_id = 'ghost' WHERE run_id = '{run_id(2)}'",
    "I10": f"DELETE FROM waits WHERE run_id = '{run_id(3)}'",
    "I10 late": f"UPDATE queue SET due = due + 1 WHERE run_id = '{run_id(3)}'",
    "I11": f"UPDATE waits SET run_id = '{run_id(5)}' WHERE run_id = '{run_id(3)}'",
    "I11 lost": f"DELETE FROM queue WHERE run_id = '{run_id(1)}'",
    "I12": f"UPDATE queue SET runner_id = 'A', epoch = 1 WHERE run_id = '{run_id(7)}'",
    "I14": "UPDATE schedules SET next_due = last_due WHERE schedule_id = 's'",
    "I15": f"UPDATE ticks SET run_id = '{run_id(99)}' WHERE outcome = 1",
    "I17": f"UPDATE queue SET recoveries = 6 WHERE run_id = '{run_id(1)}'",
}


@pytest.mark.parametrize("name", PLANTED)
async def test_the_doctor_finds_what_was_planted(opened: Opened, name: str) -> None:
    """Each broken invariant is found by its number, with the rows that break it."""
    well = opened.well
    await lively(well)
    await opened.tamper(PLANTED[name])
    found = {one.invariant: one for one in await well.store.doctor(well.now)}
    violation = found[name.split(maxsplit=1)[0]]
    assert violation.statement
    assert violation.offenders


async def test_the_doctor_finds_what_is_too_large(opened: Opened) -> None:
    """A run with more steps than may be is found."""
    well = opened.well
    claimed = await well.running(1)
    await well.commit(turns=(turn(claimed, *(step(f"s{number}") for number in range(1001))),))
    assert [one.invariant for one in await well.store.doctor(well.now)] == ["I20"]


async def test_the_doctor_names_ten_at_most(opened: Opened) -> None:
    """Of many offenders ten are named."""
    well = opened.well
    await well.start(*(start(number) for number in range(30)))
    await opened.tamper("DELETE FROM queue")
    (violation,) = await well.store.doctor(well.now)
    assert (violation.invariant, len(violation.offenders)) == ("I11", 10)
