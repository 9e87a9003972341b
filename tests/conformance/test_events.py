"""Events: accepted once, told what became of each, listed newest first; decisions; the registry's version."""

from dataclasses import replace
from typing import Any

from conformance.build import T0, Well, cancel, consume, error, event, run_id, start, wait

from stepwell.store.records import CANCELLED_RUN, ENDED_WAIT, Decision, EventFate
from stepwell.store.registry import FunctionRow
from stepwell.store.views import EndedBy, StoredEvent

ACCEPTED, DUPLICATE, CONFLICT = EventFate.ACCEPTED, EventFate.DUPLICATE, EventFate.CONFLICT


async def test_an_accepted_event_is_kept_whole(well: Well) -> None:
    """An accepted event comes back with its data, its own time, when it was received and under which registry."""
    result = await well.commit(events=(event("order/paid", b'{"n":"\xc3\xa9"}', id="e1", ts=T0 - 5),))
    assert result.events == (ACCEPTED,)
    assert await well.store.event("e1") == StoredEvent(
        "e1", "order/paid", b'{"n":"\xc3\xa9"}', T0 - 5, well.now, result.registry_version
    )
    assert await well.store.event("e2") is None


async def test_the_same_event_again_is_a_duplicate(well: Well) -> None:
    """The same id with the same body is a duplicate, and its runs are not started again."""
    first = await well.commit(events=(event("e"),), starts=(start(1, event=0, event_ids=("e",)),))
    assert (first.events, first.starts[0].landed) == ((ACCEPTED,), True)
    again = await well.commit(events=(event("e"),), starts=(start(2, event=0, event_ids=("e",)),))
    assert (again.events, again.starts[0].landed) == ((DUPLICATE,), False)
    assert again.ready == ()
    assert await well.status(2) is None
    assert len(await well.store.events(None, None, 10)) == 1


async def test_the_same_id_with_another_body_is_a_conflict(well: Well) -> None:
    """The same id with another body is a conflict: the first wins and stays as it is."""
    await well.commit(events=(event("e", b"1"),))
    result = await well.commit(events=(event("e", b"2"),), starts=(start(1, event=0),))
    assert (result.events, result.starts[0].landed) == ((CONFLICT,), False)
    stored = await well.store.event("e")
    assert stored is not None
    assert stored.data == b"1"


async def test_twins_in_one_pile(well: Well) -> None:
    """Of several events with one id in one pile the first is accepted, the others are its duplicates or conflicts."""
    result = await well.commit(
        events=(event("a", b"1"), event("a", b"1"), event("a", b"2"), event("b", b"1")),
        starts=tuple(start(number, event=number) for number in range(4)),
    )
    assert result.events == (ACCEPTED, DUPLICATE, CONFLICT, ACCEPTED)
    assert [one.landed for one in result.starts] == [True, False, False, True]


async def test_a_batch_tells_each_fate(well: Well) -> None:
    """A pile of known and new events tells the fate of each, in order."""
    await well.commit(events=(event("a"), event("b")))
    result = await well.commit(events=(event("c"), event("a"), event("d"), event("b", b"other"), event("e")))
    assert result.events == (ACCEPTED, DUPLICATE, ACCEPTED, CONFLICT, ACCEPTED)


async def test_events_are_listed_newest_first(well: Well) -> None:
    """Events come newest first, those of one pile in its order, page by page, by name or all."""
    names = ["x", "y", "x", "y", "x"]
    await well.commit(events=tuple(event(name, id=f"e{number}") for number, name in enumerate(names[:3])))
    well.later(1)
    await well.commit(events=tuple(event(name, id=f"e{number + 3}") for number, name in enumerate(names[3:])))

    async def listed(name: str | None, before: str | None, limit: int) -> list[str]:
        return [one.id for one in await well.store.events(name, before, limit)]

    assert await listed(None, None, 10) == ["e4", "e3", "e2", "e1", "e0"]
    assert await listed(None, None, 2) == ["e4", "e3"]
    assert await listed(None, "e3", 2) == ["e2", "e1"]
    assert await listed(None, "e0", 2) == []
    assert await listed("x", None, 2) == ["e4", "e2"]
    assert await listed("x", "e2", 2) == ["e0"]
    assert await listed("z", None, 2) == []
    assert await listed(None, "unknown", 2) == []


async def test_decisions_stand_with_their_event(well: Well) -> None:
    """Why an event started nothing is kept with it, unless the event was not accepted."""
    await well.commit(events=(event("old"),))
    await well.commit(
        events=(event("new"), event("old")),
        decisions=(
            Decision(0, "f", "no match", "if: false"),
            Decision(0, "g", "error", "if: no such key"),
            Decision(1, "f", "no match", "if: false"),
        ),
    )
    assert await well.store.decisions("new") == [("f", "no match", "if: false"), ("g", "error", "if: no such key")]
    assert await well.store.decisions("old") == []


async def test_what_an_event_did_to_live_runs_is_told_of_the_one_that_did_it(well: Well) -> None:
    """Of what events were to end, each names the waits it ended and the runs it cancelled, and none that another was first at."""
    claimed = await well.parked(1, wait("paid"))
    await well.start(start(2))
    gone = replace(cancel(2, event=0), value=error("event 'e' (e) cancelled it"))

    def ends(event_id: str) -> dict[str, Any]:
        return {
            "events": (event(event_id),),
            "consumes": (consume(claimed, "paid", b'{"id":"%s"}' % event_id.encode(), event=0),),
            "cancels": (gone,),
            "decisions": (Decision(0, "", ENDED_WAIT, f"{run_id(1)} paid"), Decision(0, "", CANCELLED_RUN, run_id(2))),
        }

    await well.commit(**ends("e"))
    await well.commit(**ends("late"))
    found = [EndedBy("f", run_id(1), "paid"), EndedBy("f", run_id(2), None)]
    assert await well.store.ended_by("e", 10) == found
    assert await well.store.ended_by("e", 1) == found[:1]
    assert await well.store.ended_by("late", 10) == []
    assert await well.store.decisions("e") == []


async def test_nothing_lands_under_another_registry(well: Well) -> None:
    """A pile made for another version of the registry lands nowhere and is told the current one."""
    version = await well.store.register("tests", [FunctionRow("f", "r1", "p", "tests", b"{}")], [])
    stale = await well.commit(registry_version=version - 1, events=(event("e"),), starts=(start(1, event=0),))
    assert stale.stale
    assert stale.registry_version == version
    assert (stale.events, stale.starts) == ((), ())
    assert await well.store.event("e") is None
    assert await well.status(1) is None
    fine = await well.commit(registry_version=version, events=(event("e"),), starts=(start(1, event=0),))
    assert (fine.stale, fine.registry_version, fine.events) == (False, version, (ACCEPTED,))


async def test_runs_of_an_event(well: Well) -> None:
    """The runs that an event is the input of are found by its id, newest first."""
    from stepwell.store.views import RunFilter

    await well.commit(
        events=(event("a"), event("b")),
        starts=(start(1, event_ids=("a",)), start(2, "g", event_ids=("a", "b")), start(3, event_ids=("b",))),
    )
    found = await well.store.runs(RunFilter(event_id="a"))
    assert [(one.run_id, one.function_id, one.event_ids) for one in found] == [
        (run_id(2), "g", ("a", "b")),
        (run_id(1), "f", ("a",)),
    ]
    assert [one.run_id for one in await well.store.runs(RunFilter(event_id="b", function_id="f"))] == [run_id(3)]
