"""Turns: the journal, waits that are closed and opened, parks and ends, and turns that are sent again."""

import pytest
from conformance.build import (
    FOREVER,
    SECOND,
    T0,
    Well,
    close,
    consume,
    done,
    error,
    event,
    failed,
    park,
    run_id,
    start,
    step,
    turn,
    wait,
)

from stepwell.engine.run import RunStatus
from stepwell.store.records import AttemptRow, Parked, StepKind
from stepwell.store.results import TurnResult


async def test_steps_come_back_in_the_order_recorded(well: Well) -> None:
    """A run's journal comes back in the order recorded, whatever the steps are called, across turns."""
    claimed = await well.running(1)
    await well.commit(turns=(turn(claimed, step("z", b"1"), step("a", b"2")),))
    await well.commit(turns=(turn(claimed, step("m", b"3")),))
    await well.commit(turns=(turn(claimed, step("a", b"4", occurrence=1)),))
    assert await well.journal(1) == [("z", b"1"), ("a", b"2"), ("m", b"3"), ("a", b"4")]
    recorded = await well.store.steps(run_id(1))
    assert [one.step for one in recorded] == [
        step("z", b"1"),
        step("a", b"2"),
        step("m", b"3"),
        step("a", b"4", occurrence=1),
    ]
    assert list((await well.store.journals([run_id(1)]))[run_id(1)].steps) == [one.step for one in recorded]


@pytest.mark.parametrize(
    "value",
    [b"null", b'"\xc3\xa9\xf0\x9f\x91\x8b \\u0000 \\ud83d\\ude00 \\n"', b"[" * 60 + b"]" * 60, b'"' + b"x" * 70_000 + b'"'],
)
async def test_values_keep_every_byte(well: Well, value: bytes) -> None:
    """A step's value comes back with the bytes it was given, in journals as for people."""
    claimed = await well.running(1)
    await well.commit(turns=(turn(claimed, step("a", value)),))
    assert await well.journal(1) == [("a", value)]
    assert (await well.store.journals([run_id(1)]))[run_id(1)].steps[0].value == value


async def test_what_is_recorded_never_changes(well: Well) -> None:
    """A step that is recorded stays as it is, and another result for it comes back as lost."""
    claimed = await well.running(1)
    await well.commit(turns=(turn(claimed, step("a", b"1")),))
    result = await well.commit(turns=(turn(claimed, step("a", b"2"), step("b", b"3")),))
    assert result.turns == (TurnResult(landed=True, lost=(("a", 0),)),)
    assert await well.journal(1) == [("a", b"1"), ("b", b"3")]


async def test_a_resent_step_is_not_lost(well: Well) -> None:
    """The same bytes under the same epoch are the same step: sent again they land and nothing is added."""
    claimed = await well.running(1)
    sent = turn(claimed, step("a", b"1"))
    await well.commit(turns=(sent,))
    result = await well.commit(turns=(sent,))
    assert result.turns == (TurnResult(landed=True),)
    assert await well.journal(1) == [("a", b"1")]


async def test_the_same_bytes_under_another_epoch_are_lost(well: Well) -> None:
    """The same bytes under a later epoch are somebody else's result: the step is recorded once and comes back as lost."""
    claimed = await well.running(1)
    await well.commit(turns=(turn(claimed, step("a", b"1"), then=park(0, Parked.QUEUED)),))
    again = await well.resumed(1)
    result = await well.commit(turns=(turn(again, step("a", b"1")),))
    assert result.turns[0].lost == (("a", 0),)
    assert await well.journal(1) == [("a", b"1")]


async def test_a_failed_step_is_recorded_as_such(well: Well) -> None:
    """A step that failed for good keeps its error, its tries and that it failed."""
    claimed = await well.running(1)
    lost = step("a", error("no"), ok=False, attempts=5)
    await well.commit(turns=(turn(claimed, lost),))
    assert (await well.store.steps(run_id(1)))[0].step == lost


async def test_attempts_are_told_with_their_step(well: Well) -> None:
    """Failed tries come back with the step they belong to, those of the code between steps by themselves."""
    claimed = await well.running(1)
    tries = [
        AttemptRow(
            "a", 0, number, T0 + number * SECOND, T0 + number * SECOND + 1, error(f"try {number}"), None if number == 2 else T0
        )
        for number in (1, 2)
    ]
    between = AttemptRow("", 0, 1, T0, T0 + 1, error("outside"), T0 + 2)
    sent = turn(claimed, step("a"), step("b"), attempts=(*tries, between))
    await well.commit(turns=(sent,))
    await well.commit(turns=(sent,))
    recorded = await well.store.steps(run_id(1))
    assert [list(one.attempts) for one in recorded] == [tries, []]
    outside = await well.store.attempts_between(run_id(1))
    assert outside is not None
    assert outside.attempts == (between,)
    assert outside.step.step_id == ""


async def test_no_attempts_between_steps(well: Well) -> None:
    """A run whose code between steps never failed has no such tries."""
    await well.start(start(1))
    assert await well.store.attempts_between(run_id(1)) is None


async def test_opens_are_upserted(well: Well) -> None:
    """An open wait that is opened again moves on, keeping the time it was first opened; one row is left."""
    claimed = await well.running(1)
    first = wait("a", StepKind.RUN, due=T0 + 5, attempt=1, detail=b'{"name":"E"}')
    await well.commit(turns=(turn(claimed, opens=(first,)),))
    second = wait("a", StepKind.RUN, due=T0 + 50, attempt=2, detail=b'{"name":"F"}', opened=T0 + 9)
    await well.commit(turns=(turn(claimed, opens=(second,)),))
    row = await well.store.run(run_id(1))
    assert row is not None
    assert row.waits == (wait("a", StepKind.RUN, due=T0 + 50, attempt=2, detail=b'{"name":"F"}'),)


async def test_a_wait_keeps_all_it_says(well: Well) -> None:
    """An open wait comes back as it was opened, field by field, to people and in the journal."""
    claimed = await well.running(1)
    open_ = wait(
        "a",
        StepKind.EVENT,
        occurrence=2,
        due=T0 + 99,
        name="order/paid",
        match_key="k",
        residual="event.data.n > 1",
        context=b'{"data":{"\xc3\xa9":1}}',
        detail=b'{"event":"order/paid"}',
    )
    await well.commit(turns=(turn(claimed, opens=(open_,)),))
    row = await well.store.run(run_id(1))
    assert row is not None
    assert row.waits == (open_,)
    assert (await well.store.journals([run_id(1)]))[run_id(1)].waits == (open_,)


async def test_a_close_takes_the_wait_and_records_the_step(well: Well) -> None:
    """A turn that closes its wait records the step that stands for it, and the wait is gone."""
    claimed = await well.running(1)
    await well.commit(turns=(turn(claimed, opens=(wait("nap", StepKind.SLEEP, due=T0 + 5),)),))
    well.later(5)
    result = await well.commit(
        turns=(turn(claimed, step("nap", b"null", StepKind.SLEEP), closes=(close("nap", StepKind.SLEEP),)),)
    )
    assert result.turns == (TurnResult(landed=True),)
    assert await well.waits(1) == []
    assert await well.journal(1) == [("nap", b"null")]


async def test_a_close_that_comes_too_late_is_lost(well: Well) -> None:
    """Where an event took the wait first, the time-out's step is not recorded and comes back as lost: exactly one wins."""
    claimed = await well.running(1)
    await well.commit(turns=(turn(claimed, opens=(wait("paid", due=T0 + 5),)),))
    await well.commit(consumes=(consume(claimed, "paid", b'{"id":"e"}'),))
    result = await well.commit(turns=(turn(claimed, step("paid", b"null", StepKind.EVENT), closes=(close("paid"),), inbox=1),))
    assert result.turns[0].lost == (("paid", 0),)
    assert await well.journal(1) == [("paid", b'{"id":"e"}')]


async def test_an_event_that_comes_too_late_finds_no_wait(well: Well) -> None:
    """Where the time-out was recorded first, an event finds no wait and changes nothing: exactly one wins."""
    claimed = await well.running(1)
    await well.commit(turns=(turn(claimed, opens=(wait("paid", due=T0 + 5),)),))
    await well.commit(turns=(turn(claimed, step("paid", b"null", StepKind.EVENT), closes=(close("paid"),)),))
    result = await well.commit(consumes=(consume(claimed, "paid", b'{"id":"e"}'),))
    assert result.touched == ()
    assert await well.journal(1) == [("paid", b"null")]
    assert await well.news((claimed, 0)) == []


async def test_a_retry_needs_no_written_wait(well: Well) -> None:
    """A retried step is recorded though its wait was never written: nobody else takes a retry."""
    claimed = await well.running(1)
    result = await well.commit(turns=(turn(claimed, step("a"), closes=(close("a", StepKind.RUN),)),))
    assert result.turns == (TurnResult(landed=True),)
    assert await well.journal(1) == [("a", b"1")]


async def test_a_resent_close_is_not_lost(well: Well) -> None:
    """A turn that closed a wait and is sent again finds its own step, and nothing is lost."""
    claimed = await well.running(1)
    await well.commit(turns=(turn(claimed, opens=(wait("paid"),)),))
    sent = turn(claimed, step("paid", b"null", StepKind.EVENT), closes=(close("paid"),))
    await well.commit(turns=(sent,))
    assert (await well.commit(turns=(sent,))).turns == (TurnResult(landed=True),)
    assert await well.journal(1) == [("paid", b"null")]


async def test_a_resent_open_waits_no_second_time(well: Well) -> None:
    """A turn that opened a wait and is sent again after an event ended it opens nothing: the step is recorded."""
    claimed = await well.running(1)
    sent = turn(claimed, opens=(wait("paid"),))
    await well.commit(turns=(sent,))
    await well.commit(consumes=(consume(claimed, "paid"),))
    await well.commit(turns=(sent,))
    assert await well.waits(1) == []


async def test_a_park_frees_the_lease(well: Well) -> None:
    """A parked run is held by nobody, is in the state it was parked in, and is not claimed before it is due."""
    claimed = await well.running(1)
    nap = wait("nap", StepKind.SLEEP, due=T0 + 5 * SECOND)
    result = await well.commit(turns=(turn(claimed, opens=(nap,), then=park(T0 + 5 * SECOND, Parked.SLEEPING)),))
    assert result.ready == ()
    assert await well.status(1) is RunStatus.SLEEPING
    assert await well.store.held("A") == []
    well.later(4.999999)
    assert await well.claimed() == []
    well.later(0.000001)
    assert await well.claimed() == [run_id(1)]


async def test_a_park_in_the_past_is_due_now(well: Well) -> None:
    """A run that is parked for an instant in the past (a drain says 0) is due now, and its pool has something to claim."""
    claimed = await well.running(1)
    well.later(3)
    result = await well.commit(turns=(turn(claimed, then=park(0, Parked.QUEUED, attempt=2, attempt_steps=1)),))
    assert result.ready == ("p",)
    row = await well.store.run(run_id(1))
    assert row is not None
    assert (row.due, row.since, row.attempt, row.status) == (well.now, well.now, 2, RunStatus.QUEUED)
    again = await well.resumed(1, "B")
    assert (again.epoch, again.attempt, again.attempt_steps, again.due) == (2, 2, 1, well.now)
    assert not again.fresh
    assert not again.recovered


async def test_a_park_that_has_not_seen_its_news_is_due_at_once(well: Well) -> None:
    """A run whose inbox grew after its execution last looked is due at once however long it wanted to wait."""
    claimed = await well.running(1)
    await well.commit(turns=(turn(claimed, opens=(wait("a"), wait("b"))),))
    await well.commit(consumes=(consume(claimed, "a"),))
    result = await well.commit(turns=(turn(claimed, inbox=0, then=park(FOREVER)),))
    assert result.ready == ("p",)
    again = await well.resumed(1)
    assert again.inbox == 1
    await well.commit(turns=(turn(again, inbox=1, then=park(FOREVER)),))
    assert await well.claimed() == []


async def test_an_end_is_the_last_word(well: Well) -> None:
    """A run that has ended keeps its status and value, is in no queue, waits for nothing and takes no more steps."""
    claimed = await well.running(1)
    well.later(2)
    result = await well.commit(turns=(turn(claimed, step("a"), opens=(wait("b"),), then=done(b'{"ok":1}')),))
    assert result.turns == (TurnResult(landed=True),)
    row = await well.store.run(run_id(1))
    assert row is not None
    assert (row.status, row.value, row.started, row.ended) == (RunStatus.COMPLETED, b'{"ok":1}', T0, well.now)
    assert (row.waits, row.due, row.runner_id) == ((), None, None)
    assert await well.store.journals([run_id(1)]) == {}
    late = await well.commit(turns=(turn(claimed, step("c")),))
    assert (late.turns[0].landed, late.fenced) == (False, 1)
    assert await well.journal(1) == [("a", b"1")]


async def test_a_resent_end_lands(well: Well) -> None:
    """An end that was sent again counts as landed and changes nothing; another end of the same epoch does not."""
    claimed = await well.running(1)
    sent = turn(claimed, step("a"), then=done(b"1"))
    await well.commit(turns=(sent,))
    before = await well.picture()
    again = await well.commit(turns=(sent,))
    assert (again.turns, again.fenced) == ((TurnResult(landed=True),), 0)
    other = await well.commit(turns=(turn(claimed, then=failed()),))
    assert (other.turns[0].landed, other.fenced) == (False, 1)
    assert await well.picture() == before


async def test_an_end_after_a_cancel_does_not_land(well: Well) -> None:
    """A run that was cancelled under an epoch does not complete under it: the cancellation stands."""
    from conformance.build import cancel

    claimed = await well.running(1)
    await well.commit(cancels=(cancel(1),))
    result = await well.commit(turns=(turn(claimed, then=done()),))
    assert (result.turns[0].landed, result.fenced) == (False, 1)
    assert await well.status(1) is RunStatus.CANCELLED


async def test_a_failed_run_keeps_its_error(well: Well) -> None:
    """A run that fails keeps its error."""
    claimed = await well.running(1)
    await well.commit(turns=(turn(claimed, then=failed("boom")),))
    row = await well.store.run(run_id(1))
    assert row is not None
    assert (row.status, row.value) == (RunStatus.FAILED, error("boom"))


async def test_ends_go_to_the_outbox_where_somebody_listens(well: Well) -> None:
    """Ends are noted in the outbox only where system events are wanted, and stay there until their events are out."""
    first, second = await well.running(1), await well.running(2)
    await well.commit(turns=(turn(first, then=done()),), system_events=True)
    await well.commit(turns=(turn(second, then=done()),))
    assert (await well.claim(0, sweep=True)).outbox == (run_id(1),)
    assert (await well.claim(0, sweep=True)).outbox == (run_id(1),)
    assert (await well.claim(0)).outbox == ()
    await well.commit(events=(event("stepwell/function.finished"),), outbox_done=(run_id(1),))
    assert (await well.claim(0, sweep=True)).outbox == ()


async def test_a_pile_may_hold_many_of_a_kind(well: Well) -> None:
    """Five hundred starts, claims, steps, waits, parks and ends in a pile are five hundred of each."""
    count = 500
    result = await well.commit(starts=tuple(start(number) for number in range(count)))
    assert [one.run_id for one in result.starts] == [run_id(number) for number in range(count)]
    claimed = (await well.claim(count)).claimed
    assert [one.run_id for one in claimed] == [run_id(number) for number in range(count)]
    turns = tuple(turn(one, step("a"), step("b"), opens=(wait("c"),), then=park()) for one in claimed)
    assert {one.landed for one in (await well.commit(turns=turns)).turns} == {True}
    woken = await well.commit(consumes=tuple(consume(one, "c") for one in claimed))
    assert woken.ready == ("p",)
    again = (await well.claim(count)).claimed
    assert len(again) == count
    journals = await well.store.journals([run_id(number) for number in range(count)])
    assert {tuple(one.step_id for one in journal.steps) for journal in journals.values()} == {("a", "b", "c")}
    ended = await well.commit(turns=tuple(turn(one, then=done()) for one in again))
    assert ended.fenced == 0
    assert await well.claimed() == []


async def test_an_empty_pile_tells_the_time(well: Well) -> None:
    """A pile of nothing changes nothing and answers with the store's clock and the registry's version."""
    result = await well.commit()
    assert result.now == well.now
    assert result.registry_version == (await well.store.registry()).version
    assert (result.turns, result.events, result.starts, result.claimed, result.ready) == ((), (), (), (), ())
