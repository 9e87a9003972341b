"""How far steps are, as beats carry it: shown of what is under way, gone with that, and never worth a lease."""

import asyncio
from typing import Any

from conformance.build import SECOND, T0, Well, done, park, run_id, start, step, turn

from stepwell.store.records import AttemptRow, Parked
from stepwell.store.telling import told_text
from stepwell.store.views import ProgressRow

NOTHING = told_text(())


def word(number: int, step_id: str = "copy", **more: Any) -> ProgressRow:
    """What a step of a run tells."""
    given: dict[str, Any] = {"occurrence": 0, "attempt": 0, "ratio": 0.4, "note": "120/300", "told": T0 + 7}
    return ProgressRow(run_id(number), step_id, **{**given, **more})


async def beat(well: Well, *words: ProgressRow, runner: str = "A", told: str | None = None) -> bool:
    """A beat with these words, or with this text."""
    text = told_text(words) if words else told
    return await asyncio.to_thread(well.store.beat, runner, 60 * SECOND, well.now, text)


async def shown(well: Well, number: int) -> tuple[ProgressRow, ...]:
    """What a run shows."""
    return tuple(await well.store.progress(run_id(number)))


async def test_a_beat_carries_what_steps_tell(well: Well) -> None:
    """Each run shows its own steps' words until the next ones; a beat without any leaves them, one with none takes them out."""
    await well.start(start(1), start(2), start(3))
    await well.claim()
    assert await shown(well, 1) == ()
    odd = word(1, "b\"\\'ä漢🙂", ratio=1, note="é " * 50, occurrence=2, attempt=3)
    assert await beat(well, odd, word(2, ratio=0.1 + 0.2, note=""), word(1, "a", ratio=0.0))
    assert await shown(well, 1) == (word(1, "a", ratio=0.0), odd)
    assert await shown(well, 2) == (word(2, ratio=0.1 + 0.2, note=""),)
    assert await shown(well, 3) == ()
    assert await beat(well)
    assert await beat(well, word(2), runner="B")
    assert await shown(well, 1) == (word(1, "a", ratio=0.0), odd)
    assert await shown(well, 4) == (), "there is no such run"
    assert await beat(well, word(1, "c"))
    assert (await shown(well, 1), await shown(well, 2)) == ((word(1, "c"),), ())
    assert await beat(well, told=NOTHING)
    assert await shown(well, 1) == ()


async def test_what_is_over_is_shown_no_more(well: Well) -> None:
    """A step that was recorded and a try that failed tell nothing, before the next beat says so; others of those names do."""
    claimed = await well.running(1)
    words = [word(1, "a"), word(1, "a", occurrence=1), word(1, "b"), word(1, "b", occurrence=1, attempt=1), word(1, "c")]
    assert await beat(well, *words)
    tried = AttemptRow("b", 0, 0, T0, T0 + 1, b"{}", None)
    await well.commit(turns=(turn(claimed, step("a"), attempts=(tried,)),))
    assert await shown(well, 1) == (words[1], words[3], words[4])


async def test_words_go_with_the_lease(well: Well) -> None:
    """A run that rests, has ended, or is another runner's shows nothing of what its runner told before."""
    one, two, three = [await well.running(number) for number in (1, 2, 3)]
    assert await beat(well, word(1), word(2), word(3))
    await well.commit(turns=(turn(one, then=park(0, Parked.QUEUED)), turn(two, then=done())))
    assert [await shown(well, number) for number in (1, 2, 3)] == [(), (), (word(3),)]
    await well.store.hand_back("A", [(three.run_id, three.epoch)], well.now)
    await well.claim(10, "B")
    assert [await shown(well, number) for number in (1, 3)] == [(), ()]


async def test_words_go_with_the_runner(well: Well) -> None:
    """A runner whose lease is gone tells nothing, and begins with nothing when it enrols again."""
    await well.running(1)
    assert await beat(well, word(1))
    well.later(60)
    await well.enrol("B")
    assert (await well.claim(0, "B", sweep=True)).recovered == 1
    assert not await beat(well, word(1))
    await well.enrol("A")
    await well.resumed(1)
    assert await shown(well, 1) == ()


async def test_an_enrolment_leaves_words(well: Well) -> None:
    """A runner that enrols anew while it executes, with other functions say, goes on telling."""
    await well.running(1)
    assert await beat(well, word(1))
    await well.enrol("A")
    assert await shown(well, 1) == (word(1),)


async def test_a_later_program_may_tell_more(well: Well) -> None:
    """A row of a runner that is one version ahead, with more about each word, is read for what is known of it."""
    await well.running(1)
    assert await beat(well, told=f'[["{run_id(1)}","copy",0,0,0.4,"120/300",{T0 + 7},"more"]]')
    assert await shown(well, 1) == (word(1),)


async def test_no_word_costs_a_beat(well: Well) -> None:
    """Whatever steps' words hold, NUL or half a surrogate pair, the lease is renewed; those are left out, the others shown."""
    await well.running(1)
    smallest = word(1, "漢" * 128, ratio=5e-324, note="🙂" * 100)
    assert await beat(well, word(1, note="\0"), word(1, note="\ud800"), word(1, "\0\udfff"), smallest)
    assert await shown(well, 1) == (smallest,)
    assert await beat(well, told=r'[["\u0000","\ud800",0,0,1,"",0]]'), "what no runner sends"
    assert await beat(well, told=NOTHING)
