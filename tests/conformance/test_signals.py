"""Signals: given to the wait that has been open longest, once, and only one wait for each."""

from conformance.build import T0, Well, done, run_id, step, turn, wait

from stepwell.engine.run import RunStatus
from stepwell.store.records import Signal, StepKind, Turn, Wait
from stepwell.store.results import Claimed, TurnResult


def hearing(step_id: str, key: str = "s", **more: object) -> Wait:
    """An open wait for a signal."""
    return wait(step_id, StepKind.SIGNAL, match_key=key, **more)


def telling(claimed: Claimed, value: bytes = b'{"x":1}', key: str = "s") -> Turn:
    """A turn that sends a signal in a step."""
    return turn(claimed, step("tell", b"true", StepKind.SEND_SIGNAL), signal=Signal(key, value))


async def test_a_signal_reaches_its_wait(well: Well) -> None:
    """A signal ends the wait for it with its value, wakes the run, and its sender's step says that it was heard."""
    await well.parked(1, hearing("hear"))
    sender = await well.running(2)
    well.later(3)
    result = await well.commit(turns=(telling(sender),))
    assert result.turns == (TurnResult(landed=True, signalled=True),)
    assert result.ready == ("p",)
    (heard,) = await well.store.steps(run_id(1))
    assert heard.step == step("hear", b'{"x":1}', StepKind.SIGNAL, started=T0 + 1, ended=well.now)
    assert await well.journal(2) == [("tell", b"true")]
    assert (await well.resumed(1)).inbox == 1


async def test_a_signal_that_nobody_waits_for(well: Well) -> None:
    """A signal that nobody waits for is gone, and its sender's step says so."""
    sender = await well.running(1)
    result = await well.commit(turns=(telling(sender),))
    assert result.turns == (TurnResult(landed=True, signalled=False),)
    assert await well.journal(1) == [("tell", b"false")]
    await well.parked(2, hearing("hear"))
    assert await well.waits(2) == ["hear"]


async def test_a_resent_signal_is_sent_once(well: Well) -> None:
    """A turn that sent a signal and is sent again says the same and signals nobody else."""
    await well.parked(1, hearing("first"))
    sender = await well.running(2)
    sent = telling(sender)
    assert (await well.commit(turns=(sent,))).turns[0].signalled
    await well.parked(3, hearing("second"))
    again = await well.commit(turns=(sent,))
    assert again.turns == (TurnResult(landed=True, signalled=True),)
    assert await well.waits(3) == ["second"]
    assert await well.journal(2) == [("tell", b"true")]


async def test_a_second_wait_for_a_signal_is_refused(well: Well) -> None:
    """A signal that somebody waits for is taken: another run's wait for it is refused, its own is moved on."""
    await well.parked(1, hearing("hear"))
    other = await well.running(2)
    result = await well.commit(turns=(turn(other, opens=(hearing("hear"), wait("else"))),))
    assert result.turns == (TurnResult(landed=True, refused=(("hear", 0),)),)
    assert await well.waits(2) == ["else"]
    again = await well.commit(turns=(turn(other, opens=(hearing("mine", "t"),)),))
    same = await well.commit(turns=(turn(other, opens=(hearing("mine", "t"),)),))
    assert (again.turns[0].refused, same.turns[0].refused) == ((), ())


async def test_two_waits_for_a_signal_in_one_pile(well: Well) -> None:
    """Of two waits for one signal in a pile the first is opened and the second refused."""
    first, second = await well.running(1), await well.running(2)
    result = await well.commit(turns=(turn(first, opens=(hearing("a"),)), turn(second, opens=(hearing("b"),))))
    assert [one.refused for one in result.turns] == [(), (("b", 0),)]
    assert (await well.waits(1), await well.waits(2)) == (["a"], [])


async def test_a_freed_signal_can_be_waited_for(well: Well) -> None:
    """Once the run that waited for a signal has ended, another may wait for it."""
    first, second = await well.running(1), await well.running(2)
    await well.commit(turns=(turn(first, opens=(hearing("a"),)),))
    await well.commit(turns=(turn(first, then=done()),))
    result = await well.commit(turns=(turn(second, opens=(hearing("b"),)),))
    assert result.turns[0].refused == ()
    assert await well.status(1) is RunStatus.COMPLETED


async def test_a_run_can_signal_itself(well: Well) -> None:
    """A run's own wait may take the signal that another of its branches sends."""
    claimed = await well.running(1)
    await well.commit(turns=(turn(claimed, opens=(hearing("hear"),)),))
    result = await well.commit(turns=(telling(claimed),))
    assert result.turns[0].signalled
    assert result.touched == (run_id(1),)
    assert sorted(await well.journal(1)) == [("hear", b'{"x":1}'), ("tell", b"true")]
