"""Keys to work on: once at a time, again if asked meanwhile, later if it failed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from stepwell_operator import workqueue
from stepwell_operator.workqueue import Workqueue

pytestmark = pytest.mark.asyncio(loop_scope="function")
Work = Callable[[str], Awaitable[float | None]]


@contextlib.asynccontextmanager
async def working(work: Work, workers: int = 4) -> AsyncIterator[Workqueue[str]]:
    queue: Workqueue[str] = Workqueue(work, workers, draw=lambda: 0.5)
    task = asyncio.create_task(queue.run())
    try:
        yield queue
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(ready: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not ready():
            await asyncio.sleep(0.001)


async def test_a_key_is_worked_on_once_however_often_it_was_added() -> None:
    """What is added while it waits is done once."""
    done: list[str] = []

    async def work(key: str) -> None:
        done.append(key)

    queue: Workqueue[str] = Workqueue(work, 2)
    for key in ("a", "b", "a", "a"):
        queue.add(key)
    assert queue.depth == 2
    task = asyncio.create_task(queue.run())
    await until(lambda: queue.idle)
    task.cancel()
    assert sorted(done) == ["a", "b"]


async def test_a_key_is_never_worked_on_twice_at_once() -> None:
    """A key that is added while it is being worked on waits for the end, and is then done again, once."""
    busy, most, times = 0, 0, 0
    go = asyncio.Event()

    async def work(_key: str) -> None:
        nonlocal busy, most, times
        busy, times = busy + 1, times + 1
        most = max(most, busy)
        await go.wait()
        busy -= 1

    async with working(work) as queue:
        queue.add("a")
        await until(lambda: busy)
        queue.add("a")
        queue.add("a")
        go.set()
        await until(lambda: queue.idle)
    assert (most, times) == (1, 2)


async def test_keys_are_worked_on_side_by_side() -> None:
    """One slow key holds up no other."""
    done: list[str] = []
    slow = asyncio.Event()

    async def work(key: str) -> None:
        if key == "slow":
            await slow.wait()
        done.append(key)

    async with working(work, workers=2) as queue:
        for key in ("slow", "a", "b", "c"):
            queue.add(key)
        await until(lambda: len(done) == 3)
        slow.set()
        await until(lambda: queue.idle)
    assert done == ["a", "b", "c", "slow"]


async def test_one_owners_keys_do_not_take_every_worker() -> None:
    """Of the keys of one owner no more than so many are worked on at once; the others wait their turn, and others' go ahead."""
    done: list[str] = []
    most = 0
    busy: set[str] = set()
    go = asyncio.Event()

    async def work(key: str) -> None:
        nonlocal most
        busy.add(key)
        most = max(most, sum(one.startswith("a") for one in busy))
        if key.startswith("a"):
            await go.wait()
        busy.discard(key)
        done.append(key)

    queue: Workqueue[str] = Workqueue(work, 4, most_of=(lambda key: key[0], 2))
    for key in ("a1", "a2", "a3", "a4", "a5", "b1", "c1"):
        queue.add(key)
    task = asyncio.create_task(queue.run())
    await until(lambda: len(done) == 2)
    assert sorted(done) == ["b1", "c1"]
    assert (sorted(busy), queue.depth) == (["a1", "a2"], 3)
    go.set()
    await until(lambda: queue.idle)
    task.cancel()
    assert (sorted(done), most) == (["a1", "a2", "a3", "a4", "a5", "b1", "c1"], 2)
    assert not queue._busy_of


async def test_what_fails_is_tried_again_later_and_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pause doubles up to the longest one; a success starts over; no other key is held up."""
    monkeypatch.setattr(workqueue, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(workqueue, "LONGEST_PAUSE", 0.004)
    pauses: list[float] = []
    fails = 5

    async def work(_key: str) -> None:
        if len(pauses) < fails:
            raise RuntimeError("boom")

    async with working(work) as queue:
        original = queue._failed
        queue._failed = lambda key, error: pauses.append(original(key, error)) or pauses[-1]  # type: ignore[method-assign]
        queue.add("a")
        await until(lambda: queue.done == fails + 1)
        assert pauses == [0.001, 0.002, 0.004, 0.004, 0.004]
        assert queue._failures == {}


async def test_what_failed_last_is_known_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key fails from its first failure until it succeeds, so that rounds can leave it to its own pace."""
    monkeypatch.setattr(workqueue, "FIRST_PAUSE", 0.001)
    told: list[bool] = []

    async def work(key: str) -> None:
        told.append(queue.fails(key))
        if len(told) < 3:
            raise ValueError("not yet")

    async with working(work) as queue:
        queue.add("a")
        await until(lambda: len(told) == 3 and queue.idle)
        assert told == [False, True, True]
        assert not queue.fails("a")


async def test_a_server_that_says_when_is_heeded() -> None:
    """An error that carries `after` is not tried again before that."""

    class Busy(Exception):
        after = 30.0

    async def work(_key: str) -> None:
        raise Busy

    async with working(work) as queue:
        queue.add("a")
        await until(lambda: queue.done == 1)
        [timer] = queue._timers.values()
        assert timer.when() - asyncio.get_running_loop().time() > 29


async def test_a_later_look_is_overtaken_by_an_earlier_one() -> None:
    """Of two appointments for a key the earlier one wins, and "now" does away with both."""
    done: list[str] = []

    async def work(key: str) -> None:
        done.append(key)

    async with working(work) as queue:
        queue.add("a", 60)
        queue.add("a", 30)
        queue.add("a", 90)
        [timer] = queue._timers.values()
        assert timer.when() - asyncio.get_running_loop().time() <= 30
        queue.add("a")
        await until(lambda: done == ["a"])
        assert queue._timers == {}
        queue.add("b", 0.001)
        await until(lambda: done == ["a", "b"])


async def test_work_may_ask_to_be_done_again() -> None:
    """The seconds that a work gives back are when it is done again."""
    done: list[str] = []

    async def work(key: str) -> float | None:
        done.append(key)
        return 0.001 if len(done) < 3 else None

    async with working(work) as queue:
        queue.add("a")
        await until(lambda: len(done) == 3)
        await until(lambda: queue.idle)
        assert queue._timers == {}
