"""What steps tell of how far they are: the last word while the attempt runs, few lines, clear errors, one figure a function."""

from threading import Barrier, Thread
from typing import Any

import pytest
import structlog

from stepwell.clock import ManualClock
from stepwell.engine.progress import Attempt, Board, Place
from stepwell.errors import StepMisuse
from stepwell.log import RunLogger, Scope
from stepwell.metrics import Metrics
from stepwell.settings import MetricSettings
from stepwell.spec.function import FunctionSpec
from stepwell.store.telling import told_text
from stepwell.store.views import ProgressRow

FILES = Place("run-1", "files", "copy", 0, 0)


def attempt(board: Board, place: Place = FILES, clock: ManualClock | None = None) -> Attempt:
    scope = Scope(place.run_id, place.function_id, place.step_id, place.attempt, lambda: False)
    return Attempt(board, place, clock or ManualClock(), RunLogger(scope))


def told(board: Board, run_id: str = "run-1") -> list[tuple[str, float, str, int]]:
    return [(one.place.step_id, one.ratio, one.note, one.told) for one in board.of_run(run_id)]


def test_the_last_word_counts_until_the_attempt_ends() -> None:
    """A word takes the place of the one before, has its instant, and goes with the attempt; what comes later is nothing."""
    board, clock = Board(), ManualClock(5)
    one = attempt(board, clock=clock)
    assert told(board) == []
    one.tell(0.4, "120/300")
    assert told(board) == [("copy", 0.4, "120/300", 5)]
    one.tell(1, "")
    assert told(board) == [("copy", 1.0, "", 5)]
    one.end()
    assert board.told == {}
    one.tell(0.9, "a thread that was left behind")
    assert board.told == {}
    one.end()


def test_an_attempt_that_ends_while_it_tells_is_forgotten() -> None:
    """Whichever of a thread's last word and the end of its attempt comes first, nothing stays behind."""

    class Ending(ManualClock):
        def now(self) -> int:
            one.end()  # between the look whether it is over and the putting down
            return 0

    board = Board()
    one = attempt(board, clock=Ending())
    with structlog.testing.capture_logs() as lines:
        one.tell(0.5, "")
    assert board.told == {}
    assert lines == []


def test_threads_tell_beside_each_other() -> None:
    """Many threads may tell of many attempts at once while somebody looks; every attempt keeps its own last word."""
    board, start = Board(), Barrier(9)

    def body(number: int) -> None:
        one = attempt(board, Place(f"run-{number}", "files", "copy", 0, 0))
        start.wait()
        for step in range(500):
            one.tell(step / 499, str(number))
        if number % 2:
            one.end()

    threads = [Thread(target=body, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    start.wait()
    while any(thread.is_alive() for thread in threads):
        board.least()
        board.of_run("run-1")
    assert sorted((one.place.run_id, one.ratio, one.note) for one in board.told.values()) == [
        (f"run-{number}", 1.0, str(number)) for number in (0, 2, 4, 6)
    ]


@pytest.mark.parametrize(
    ("ratio", "note", "says"),
    [
        (1.01, "", "the ratio is a number from 0 to 1, such as done / total, not 1.01"),
        (-0.0001, "", "not -0.0001"),
        (float("nan"), "", "not nan"),
        (float("inf"), "", "not inf"),
        ("0.5", "", "not '0.5'"),
        (None, "", "not None"),
        (0.5, "x" * 201, "the note has at most 200 characters; 'xxxxxxxxxxxxxxxxxxxx'… has 201"),
        (0.5, "two\nlines", r"the note is one line of printable characters, and 'two\\nlines' has others"),
        (0.5, "\ud800", "has others"),
        (0.5, "a\0b", "has others"),
        (0.5, 7, "the note is text, not int: 7"),
    ],
)
def test_what_is_no_progress_is_refused(ratio: Any, note: Any, says: str) -> None:
    """The error names the step, what is wrong and what it should be; nothing is shown."""
    board = Board()
    with pytest.raises(StepMisuse, match=f"progress of step 'copy': .*{says}"):
        attempt(board).tell(ratio, note)
    assert board.told == {}


def test_edges_are_taken() -> None:
    """0, 1, a whole number and a note of 200 characters are all right."""
    board = Board()
    one = attempt(board)
    for ratio, note in ((0, "x" * 200), (1, "é 漢"), (0.0, ""), (True, "")):
        one.tell(ratio, note)
        assert told(board) == [("copy", float(ratio), note, 0)]


async def test_a_line_for_each_tenth_or_each_five_seconds() -> None:
    """300 words in no time are eleven lines; a step that stands still says so every five seconds; going back logs nothing."""
    board, clock = Board(), ManualClock()
    one = attempt(board, clock=clock)
    with structlog.testing.capture_logs() as lines:
        for done in range(301):
            one.tell(done / 300, f"{done}/300")
        assert [line["note"] for line in lines] == [f"{done}/300" for done in range(0, 301, 30)]
        assert {(line["event"], line["log_level"]) for line in lines} == {("step progress", "info")}
        lines.clear()
        for _ in range(3):
            one.tell(0.1, "once more")
            one.tell(1, "")
        assert lines == []
        await clock.advance_to(4_999_999)
        one.tell(0.1, "")
        assert lines == []
        await clock.advance_to(5_000_000)
        one.tell(0.2, "")
        one.tell(0.2, "")
    (line,) = lines
    assert line["ratio"] == 0.2
    assert "note" not in line
    assert (line["run_id"], line["function"], line["step"], line["attempt"]) == ("run-1", "files", "copy", 0)


def test_a_beat_carries_the_newest_words() -> None:
    """Of many runs the 64 newest words go along, of one run eight, and of a long note its beginning."""
    board = Board()
    for number in range(100):
        attempt(board, Place("chatty", "files", f"s{number}", 0, 1), ManualClock(1000 + number)).tell(0.5, "x" * 200)
        attempt(board, Place(f"run-{number:02}", "files", "copy", 2, 3), ManualClock(number)).tell(number / 100, "y" * 100)
    carried = board.newest()
    assert [one.step_id for one in carried[:8]] == [f"s{number}" for number in range(99, 91, -1)]
    assert {(one.run_id, one.note) for one in carried[:8]} == {("chatty", "x" * 99 + "…")}
    assert [one.run_id for one in carried[8:]] == [f"run-{number:02}" for number in range(99, 43, -1)]
    assert carried[8] == ProgressRow("run-99", "copy", 2, 3, 0.99, "y" * 100, 99)
    assert len(told_text(carried)) < 16 * 1024
    assert Board().newest() == []


def test_a_log_that_fails_fails_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A word is shown though its line can't be written."""

    def broken(*_args: object, **_fields: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(RunLogger, "info", broken)
    board = Board()
    attempt(board).tell(0.5, "")
    assert told(board) == [("copy", 0.5, "", 0)]


def test_the_gauge_is_the_least_of_those_under_way() -> None:
    """By function, of attempts that told one; gone with the last of them; only for functions that were named for it."""
    board, metrics = Board(), Metrics("runner", "shop", settings=MetricSettings(frozenset({"files"})))
    metrics.ratios = board.least
    metrics.keep([FunctionSpec(id="files"), FunctionSpec(id="mail")])

    def shown() -> list[str]:
        return [line for line in metrics.render()[0].decode().splitlines() if line.startswith("stepwell_run_progress_ratio{")]

    assert shown() == []
    first, second = attempt(board), attempt(board, Place("run-2", "files", "copy", 0, 0))
    attempt(board, Place("run-3", "files", "copy", 0, 0))
    first.tell(0.25, "")
    second.tell(0.75, "")
    attempt(board, Place("run-4", "mail", "send", 0, 0)).tell(0.1, "")
    assert shown() == ['stepwell_run_progress_ratio{function="files",namespace="shop"} 0.25']
    first.end()
    assert shown() == ['stepwell_run_progress_ratio{function="files",namespace="shop"} 0.75']
    second.end()
    assert shown() == []
