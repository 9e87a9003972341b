"""Starts: one run for each, its guards, idempotency keys, and fused claims."""

import asyncio
from typing import Any

import orjson
from conformance.build import SECOND, T0, Well, asking, done, event, run_id, start, step, turn, wait

from stepwell.engine.run import RunStatus
from stepwell.store.records import EventFate, StepKind, TriggerKind
from stepwell.store.results import StartResult
from stepwell.store.views import RunFilter, RunRow


def keyed(number: int, key: str = "k", until: int = T0 + 60 * SECOND, **more: Any) -> Any:
    """A start with an idempotency key."""
    return start(number, idempotency_key=key, idempotency_until=until, **more)


async def test_a_started_run_can_be_looked_at(well: Well) -> None:
    """A started run is queued, with all that it was started with."""
    well.later(1)
    made = start(
        1, event_ids=("e1", "e2"), created=T0 + 5, due=T0 + 9, rerun_of=run_id(7), trigger=TriggerKind.RERUN, revision="r2"
    )
    result = await well.commit(starts=(made,))
    assert result.starts == (StartResult(landed=True, run_id=run_id(1)),)
    assert result.ready == ("p",)
    assert await well.store.run(run_id(1)) == RunRow(
        run_id=run_id(1),
        function_id="f",
        revision="r2",
        trigger=TriggerKind.RERUN,
        status=RunStatus.QUEUED,
        created=T0 + 5,
        started=None,
        ended=None,
        event_ids=("e1", "e2"),
        input=made.input,
        value=None,
        rerun_of=run_id(7),
        due=T0 + 9,
        since=well.now,
        pool="p",
    )


async def test_a_resent_start_is_one_run(well: Well) -> None:
    """A start that is sent again lands again as the same run, whatever it is doing by now."""
    pile = {"starts": (start(1, event_ids=("e",), cancel_on=(wait("", StepKind.CANCEL, match_key="k"),)),)}
    await well.commit(**pile)
    for _ in range(2):
        before = await well.picture()
        again = await well.commit(**pile)
        assert again.starts == (StartResult(landed=True, run_id=run_id(1)),)
        assert await well.picture() == before
        for claimed in (await well.claim()).claimed:
            await well.commit(turns=(turn(claimed, step("a"), then=done()),))
    assert await well.status(1) is RunStatus.COMPLETED
    assert await well.claimed() == []


async def test_a_resent_pile_of_an_event_changes_nothing(well: Well) -> None:
    """An event's whole pile, sent again, finds the event known and leaves everything as it is."""
    pile = {"events": (event("e"),), "starts": (start(1, event=0, event_ids=("e",)), keyed(2, event=0))}
    await well.commit(**pile)
    before = await well.picture()
    again = await well.commit(**pile)
    assert again.events == (EventFate.DUPLICATE,)
    assert await well.picture() == before


async def test_a_start_waits_until_it_is_due(well: Well) -> None:
    """A start with a due time ahead is claimed then and not before."""
    await well.start(start(1, due=T0 + 5 * SECOND))
    assert await well.claimed() == []
    assert (await well.claim()).next_due == T0 + 5 * SECOND
    well.later(5)
    assert await well.claimed() == [run_id(1)]


async def test_a_start_lands_with_its_turn(well: Well) -> None:
    """A start that a turn guards is created with it."""
    parent = await well.running(1)
    result = await well.commit(turns=(turn(parent, step("a")),), starts=(start(2, turn=0, trigger=TriggerKind.INVOKE),))
    assert result.starts == (StartResult(landed=True, run_id=run_id(2)),)
    assert await well.status(2) is RunStatus.QUEUED


# --- idempotency ---


async def test_one_run_for_a_key(well: Well) -> None:
    """A second start with a key is recorded as skipped and names the first run."""
    assert (await well.commit(starts=(keyed(1),))).starts == (StartResult(landed=True, run_id=run_id(1)),)
    well.later(1)
    second = await well.commit(starts=(keyed(2, event_ids=("e",)),))
    assert second.starts == (StartResult(landed=False, run_id=run_id(1), skipped=True),)
    assert second.ready == ()
    row = await well.store.run(run_id(2))
    assert row is not None
    assert (row.status, row.ended, row.event_ids) == (RunStatus.SKIPPED, well.now, ("e",))
    assert row.value is not None
    told = orjson.loads(row.value)
    assert (told["rule"], told["run_id"]) == ("idempotency", run_id(1))
    assert await well.claimed() == [run_id(1)]
    assert [one.run_id for one in await well.store.runs(RunFilter(event_id="e"))] == [run_id(2)]


async def test_a_resent_skip_is_skipped_again(well: Well) -> None:
    """A start that was skipped and is sent again is skipped again, and recorded once."""
    await well.start(keyed(1))
    sent = {"starts": (keyed(2),)}
    await well.commit(**sent)
    before = await well.picture()
    assert (await well.commit(**sent)).starts == (StartResult(landed=False, run_id=run_id(1), skipped=True),)
    assert await well.picture() == before


async def test_a_resent_start_has_its_own_key(well: Well) -> None:
    """A start with a key that is sent again stands for itself."""
    sent = {"starts": (keyed(1),)}
    await well.commit(**sent)
    assert (await well.commit(**sent)).starts == (StartResult(landed=True, run_id=run_id(1)),)


async def test_a_resent_start_whose_key_is_anothers_by_now(well: Well) -> None:
    """A start that is sent again after its key ran out and went to another run is still its own, and changes nothing."""
    sent = {"starts": (keyed(1),)}
    await well.commit(**sent)
    well.later(60)
    await well.start(keyed(2, until=well.now + 60 * SECOND))
    before = await well.picture()
    assert (await well.commit(**sent)).starts == (StartResult(landed=True, run_id=run_id(1)),)
    assert await well.picture() == before
    assert (await well.commit(starts=(keyed(3),))).starts[0].run_id == run_id(2)


async def test_twins_of_a_key_in_one_pile(well: Well) -> None:
    """Of several starts with one key in a pile the first becomes a run; other keys and functions go their own way."""
    result = await well.commit(starts=(keyed(1), keyed(2), keyed(3, "other"), keyed(4, function="g"), start(5)))
    assert result.starts == (
        StartResult(landed=True, run_id=run_id(1)),
        StartResult(landed=False, run_id=run_id(1), skipped=True),
        StartResult(landed=True, run_id=run_id(3)),
        StartResult(landed=True, run_id=run_id(4)),
        StartResult(landed=True, run_id=run_id(5)),
    )


async def test_a_key_runs_out(well: Well) -> None:
    """A key stands for its run until it expires, whether or not the run has ended; from then on for the next start."""
    await well.start(keyed(1))
    (claimed,) = (await well.claim()).claimed
    await well.commit(turns=(turn(claimed, then=done()),))
    well.later(59.999999)
    assert (await well.commit(starts=(keyed(2),))).starts[0].skipped
    well.later(0.000001)
    later = well.now + 60 * SECOND
    assert (await well.commit(starts=(keyed(3, until=later),))).starts == (StartResult(landed=True, run_id=run_id(3)),)
    assert (await well.commit(starts=(keyed(4, until=later),))).starts[0].run_id == run_id(3)


async def test_starts_race_for_a_key(well: Well) -> None:
    """Of many starts at once with one key exactly one becomes a run, and all others name it."""
    results = await asyncio.gather(*(well.commit(starts=(keyed(number),)) for number in range(1, 9)))
    landed = [one.starts[0].run_id for one in results if one.starts[0].landed]
    assert len(landed) == 1
    assert {one.starts[0].run_id for one in results} == set(landed)


async def test_a_refused_start_takes_no_key(well: Well) -> None:
    """A start whose guard did not land leaves its key free."""
    await well.commit(events=(event("e"),))
    await well.commit(events=(event("e"),), starts=(keyed(1, event=0),))
    assert (await well.commit(starts=(keyed(2),))).starts[0].landed


# --- fused ---


async def test_a_fused_start_is_leased_at_once(well: Well) -> None:
    """A start that names its runner is leased to it under epoch 1, and makes nothing ready."""
    result = await well.commit(starts=(start(1, lease_to="A", finish_within=9 * SECOND, start_by=T0 + 1),))
    assert result.starts == (StartResult(landed=True, run_id=run_id(1)),)
    assert result.ready == ()
    assert await well.store.held("A") == [(run_id(1), 1)]
    row = await well.store.run(run_id(1))
    assert row is not None
    assert (row.status, row.started, row.runner_id) == (RunStatus.RUNNING, well.now, "A")
    assert (await well.claim(sweep=True)).overdue == ()
    well.later(9)
    assert [one.reason for one in (await well.claim(sweep=True)).overdue] == ["finish"]


async def test_a_fused_start_whose_lease_is_gone(well: Well) -> None:
    """A start that names a runner whose lease has run out is claimable by others, and the runner is fenced."""
    well.later(61)
    await well.enrol("B")
    await well.commit(starts=(start(1, lease_to="A"), start(2, lease_to="nobody")))
    assert await well.store.held("A") == []
    assert await well.claimed(runner="B") == [run_id(1), run_id(2)]
    from stepwell.store.records import Turn

    result = await well.commit(turns=(Turn(run_id(1), 1, (step("a"),)),))
    assert (result.turns[0].landed, result.fenced) == (False, 1)


async def test_starts_and_claims_in_one_pile(well: Well) -> None:
    """What a pile starts it may claim."""
    result = await well.commit(starts=(start(1), start(2)), claim=asking())
    assert [(one.run_id, one.epoch, one.fresh) for one in result.claimed] == [(run_id(1), 1, True), (run_id(2), 1, True)]
