"""What a beat carries beside the lease: words of steps while there are any, and never at the lease's cost."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest
import structlog

from stepwell.beat import Beat
from stepwell.errors import StoreUnavailable
from stepwell.store.sqlite import SqliteStore
from stepwell.store.telling import told_text
from stepwell.store.views import ProgressRow, RunnerRow

WORD = ProgressRow("run-1", "copy", 0, 0, 0.4, "120/300", 7)
MINUTE = 60_000_000


class Watched(SqliteStore):
    """A store that notes what its beats were asked to carry, and may be away."""

    sent: list[str | None]
    away = False

    def beat(self, runner_id: str, lease: int, now: int | None = None, told: str | None = None) -> bool:
        self.sent.append(told)
        if self.away:
            raise StoreUnavailable("away")
        return super().beat(runner_id, lease, now, told)


class Holder:
    """Whoever holds the lease."""

    def __init__(self) -> None:
        self.words: Sequence[ProgressRow] | Exception = ()

    def lease_renewed(self) -> None: ...

    async def lease_gone(self) -> None: ...

    def in_flight(self) -> tuple[str, ...]:
        return ()

    def told(self) -> Sequence[ProgressRow]:
        if isinstance(self.words, Exception):
            raise self.words
        return self.words

    def blocked(self, seconds: float, functions: tuple[str, ...]) -> None: ...


@pytest.fixture
async def store() -> AsyncIterator[Watched]:
    """A well with the runner `A`."""
    made = Watched(":memory:")
    made.sent = []
    await made.migrate()
    await made.open()
    await made.enrol(RunnerRow("A", ("p",), ("f",), 10, MINUTE, draining=False))
    yield made
    await made.close()


async def test_a_beat_with_nothing_told_asks_for_what_it_always_did(store: Watched) -> None:
    """While no step tells anything the row is left alone but for the lease; words go out, and are taken back, once."""
    holder = Holder()
    beat = Beat(store, "A", timedelta(minutes=1), holder)
    beat.beat()
    beat.beat()
    holder.words = (WORD,)
    beat.beat()
    holder.words = ()
    for _ in range(3):
        beat.beat()
    assert store.sent == [None, None, told_text((WORD,)), told_text(()), None, None]


async def test_what_was_not_taken_back_for_sure_is_taken_back_again(store: Watched) -> None:
    """A beat that failed may have got there or not: what it was to say is said by the next."""
    holder = Holder()
    beat = Beat(store, "A", timedelta(minutes=1), holder)
    holder.words = (WORD,)
    store.away = True
    beat.beat()
    holder.words = ()
    beat.beat()
    store.away = False
    beat.beat()
    beat.beat()
    assert store.sent == [told_text((WORD,)), told_text(()), told_text(()), None]


async def test_words_that_can_not_be_had_cost_no_beat(store: Watched) -> None:
    """Whatever is wrong with what steps tell, the lease is renewed, and the log says what it was."""
    holder = Holder()
    beat = Beat(store, "A", timedelta(minutes=1), holder)
    nan = ProgressRow("run-1", "copy", 0, 0, float("nan"), "", 7)
    for words in (RuntimeError("dictionary changed size during iteration"), (nan,)):
        holder.words = words
        before = (await store.runners())[0].expires
        with structlog.testing.capture_logs() as lines:
            beat.beat()
        assert (await store.runners())[0].expires > before
        assert [line["event"] for line in lines] == ["what steps tell of their progress could not be sent along"]
    assert store.sent == [None, None]
