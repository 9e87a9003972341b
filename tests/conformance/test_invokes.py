"""Invokes: the parent's step gets what the child came to, whichever ends or waits first."""

from typing import Any

import orjson
from conformance.build import FOREVER, SECOND, Well, cancel, done, error, failed, park, run_id, start, turn, wait

from stepwell.engine.run import RunStatus
from stepwell.store.records import StepKind, TriggerKind, Turn, Wait
from stepwell.store.results import Claimed, News, StartResult


def calling(child: int) -> Wait:
    """An open wait for another run's end."""
    return wait("call", StepKind.INVOKE, target_run=run_id(child))


def invoking(claimed: Claimed, child: int, **more: Any) -> dict[str, Any]:
    """A pile in which a run invokes another and waits for it."""
    called = start(child, "g", turn=0, trigger=TriggerKind.INVOKE, **more)
    return {"turns": (Turn(claimed.run_id, claimed.epoch, opens=(calling(child),)),), "starts": (called,)}


async def result_of(well: Well, number: int) -> tuple[bool, Any]:
    """Whether the parent's step went well, and its value."""
    (recorded,) = await well.store.steps(run_id(number))
    assert (recorded.step.step_id, recorded.step.kind) == ("call", StepKind.INVOKE)
    return recorded.step.ok, orjson.loads(recorded.step.value)


async def test_a_completed_child_answers_its_parent(well: Well) -> None:
    """A child that completes ends its parent's wait with its value and wakes the parent."""
    parent = await well.running(1)
    await well.commit(**invoking(parent, 2))
    await well.commit(turns=(turn(parent, then=park()),))
    child = await well.resumed(2)
    result = await well.commit(turns=(turn(child, then=done(b'{"n":1}')),))
    assert result.ready == ("p",)
    assert await result_of(well, 1) == (True, {"n": 1})
    assert await well.waits(1) == []
    assert (await well.resumed(1)).inbox == 1


async def test_a_child_answers_a_held_parent(well: Well) -> None:
    """A parent that is held when its child ends is told of its news."""
    parent = await well.running(1)
    await well.commit(**invoking(parent, 2))
    child = await well.resumed(2)
    result = await well.commit(turns=(turn(child, then=done()),))
    assert result.touched == (run_id(1),)
    assert await well.news((parent, 0)) == [News(run_id(1), 1)]


async def test_a_failed_child_is_an_error(well: Well) -> None:
    """A child that failed fails its parent's step, naming the child and its error."""
    parent = await well.running(1)
    await well.commit(**invoking(parent, 2))
    child = await well.resumed(2)
    await well.commit(turns=(turn(child, then=failed("boom")),))
    ok, value = await result_of(well, 1)
    assert not ok
    assert (value["name"], value["run_id"]) == ("InvokedFunctionFailed", run_id(2))
    assert value["cause"] == orjson.loads(error("boom"))
    assert run_id(2) in value["message"]


async def test_a_cancelled_child_is_an_error(well: Well) -> None:
    """A child that was cancelled fails its parent's step and says so."""
    parent = await well.running(1)
    await well.commit(**invoking(parent, 2))
    await well.commit(cancels=(cancel(2),))
    ok, value = await result_of(well, 1)
    assert not ok
    assert (value["name"], value["cause"]) == ("InvokedFunctionCancelled", orjson.loads(error("cancelled")))


async def test_a_child_that_ended_before_answers_at_once(well: Well) -> None:
    """A wait for a run that has ended is not opened: its step is recorded, and a park in the same turn is due at once."""
    child = await well.running(2)
    await well.commit(turns=(turn(child, then=done(b"5")),))
    parent = await well.running(1)
    result = await well.commit(turns=(turn(parent, opens=(calling(2),), then=park(FOREVER)),))
    assert result.turns[0].landed
    assert result.ready == ("p",)
    assert await result_of(well, 1) == (True, 5)
    assert await well.waits(1) == []
    again = await well.resumed(1)
    assert again.inbox == 1


async def test_a_failed_child_that_ended_before(well: Well) -> None:
    """A wait for a run that has failed before is an error at once, and a run that stays held hears of it."""
    child = await well.running(2)
    await well.commit(turns=(turn(child, then=failed("boom")),))
    parent = await well.running(1)
    await well.commit(turns=(turn(parent, opens=(calling(2),)),))
    ok, value = await result_of(well, 1)
    assert (ok, value["name"]) == (False, "InvokedFunctionFailed")
    assert await well.news((parent, 0)) == [News(run_id(1), 1)]


async def test_a_child_that_ends_in_the_same_pile(well: Well) -> None:
    """A child that ends in the pile in which its parent begins to wait answers it, whichever turn comes first."""
    for first in (0, 1):
        parent, child = await well.running(10 + first), await well.running(20 + first, function="g")
        turns = [turn(parent, opens=(calling(20 + first),), then=park(FOREVER)), turn(child, then=done(b"7"))]
        await well.commit(turns=tuple(turns if first == 0 else reversed(turns)))
        assert await result_of(well, 10 + first) == (True, 7)
        again = await well.resumed(10 + first)
        assert again.inbox == 1
        await well.commit(turns=(turn(again, then=done()),))


async def test_an_idempotent_child_stands_in(well: Well) -> None:
    """An invoked start whose key is taken creates no run: the first one stands in, and the parent waits for that."""
    key = {"idempotency_key": "k", "idempotency_until": well.now + 60 * SECOND}
    first, second = await well.running(1), await well.running(2)
    await well.commit(**invoking(first, 11, **key))
    result = await well.commit(**invoking(second, 12, **key))
    assert result.starts == (StartResult(landed=False, run_id=run_id(11)),)
    assert await well.status(12) is None
    row = await well.store.run(run_id(2))
    assert row is not None
    assert row.waits[0].target_run == run_id(11)
    child = await well.resumed(11)
    await well.commit(turns=(turn(child, then=done(b"3")),))
    assert await result_of(well, 1) == (True, 3)
    assert await result_of(well, 2) == (True, 3)


async def test_an_idempotent_child_that_has_ended_stands_in(well: Well) -> None:
    """Where the run that stands in has ended, the parent has its answer at once."""
    key = {"idempotency_key": "k", "idempotency_until": well.now + 60 * SECOND}
    child = await well.running(11, function="g", trigger=TriggerKind.INVOKE, **key)
    await well.commit(turns=(turn(child, then=done(b"3")),))
    parent = await well.running(1)
    await well.commit(**invoking(parent, 12, **key))
    assert await result_of(well, 1) == (True, 3)
    assert await well.waits(1) == []


async def test_a_resent_invoke_starts_one_child(well: Well) -> None:
    """A pile that invoked a run and is sent again starts it once, before and after the child's end."""
    parent = await well.running(1)
    pile = invoking(parent, 2)
    await well.commit(**pile)
    again = await well.commit(**pile)
    assert again.starts == (StartResult(landed=True, run_id=run_id(2)),)
    assert await well.waits(1) == ["call"]
    child = await well.resumed(2)
    await well.commit(turns=(turn(child, then=done(b"3")),))
    await well.commit(**pile)
    assert await result_of(well, 1) == (True, 3)
    assert await well.waits(1) == []
    assert await well.status(2) is RunStatus.COMPLETED


async def test_two_parents_of_one_child(well: Well) -> None:
    """Every run that waits for a child hears of its end."""
    child = await well.running(9, function="g")
    for number in (1, 2):
        await well.parked(number, calling(9))
    await well.commit(turns=(turn(child, then=done(b"1")),))
    assert await result_of(well, 1) == (True, 1)
    assert await result_of(well, 2) == (True, 1)


async def test_a_chain_of_ends(well: Well) -> None:
    """A parent that was cancelled hears nothing of its child, and its own parent hears of the cancellation."""
    await well.parked(1, calling(2))
    await well.parked(2, calling(3))
    child = await well.running(3)
    await well.commit(cancels=(cancel(2),))
    ok, value = await result_of(well, 1)
    assert (ok, value["name"]) == (False, "InvokedFunctionCancelled")
    await well.commit(turns=(turn(child, then=done()),))
    assert await well.journal(2) == []
