"""What user code prints becomes log lines with the run's context; the level changes while a process runs."""

import asyncio
import io
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from stepwell import log
from stepwell.log.prints import LONGEST, MOST_OPEN

Begin = Callable[[], io.StringIO]


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Begin]:
    """Capture into a stream of the test's own, from the call on; bare logging is put back afterwards."""
    root = logging.getLogger()
    level, factory = root.level, logging.getLogRecordFactory()
    structlog.reset_defaults()
    token = log.current.set(None)

    def begin() -> io.StringIO:
        written = io.StringIO()
        monkeypatch.setattr(root, "handlers", [])
        monkeypatch.setattr(sys, "stdout", written)
        log.configure(json=True, level="WARNING", component="runner", version="1", pod="p")
        log.capture_prints()
        return written

    yield begin
    log.current.reset(token)
    structlog.reset_defaults()
    logging.setLogRecordFactory(factory)
    root.setLevel(level)


def scope(run: str = "RUN", replaying: bool = False) -> log.Scope:
    return log.Scope(run, "pack", "s", 1, lambda: replaying, 3, lambda: ("t" * 32, "s" * 16))


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_printed_line_carries_the_run(begin: Begin) -> None:
    """`print` in a run makes one line with every key of the run, in the order promised, whatever the level."""
    out = begin()
    log.current.set(scope())
    print("one", 2, sep="-")
    print("a", end="")
    print("b\nc")
    told = lines(out)
    assert [line["msg"] for line in told] == ["one-2", "ab", "c"]
    assert " ".join(told[0]) == (
        "ts level msg component logger function run_id step attempt epoch trace_id span_id version pod"
    )  # fmt: skip
    assert {key: told[0][key] for key in ("logger", "run_id", "epoch", "span_id", "pod")} == {
        "logger": "print", "run_id": "RUN", "epoch": 3, "span_id": "s" * 16, "pod": "p",
    }  # fmt: skip


def test_prints_outside_of_runs_are_as_they_are(begin: Begin) -> None:
    """Outside of a run nothing is taken: the stream is what it was."""
    out = begin()
    print("plain", end="|")
    sys.stdout.flush()
    assert out.getvalue() == "plain|"
    assert not sys.stdout.isatty()


def test_replayed_prints_are_dropped(begin: Begin) -> None:
    """Code between steps that replays prints nothing a second time."""
    out = begin()
    log.current.set(log.Scope("RUN", "pack", None, 0, lambda: True))
    print("again")
    assert out.getvalue() == ""


def test_prints_of_several_runs_do_not_mix(begin: Begin) -> None:
    """Pieces of lines that are printed by turns come together by their runs."""
    out = begin()
    for piece in ("a", "b\n"):
        for run in ("R1", "R2"):
            log.current.set(scope(run))
            sys.stdout.write(f"{run}{piece}")
    assert [(line["run_id"], line["msg"]) for line in lines(out)] == [("R1", "R1aR1b"), ("R2", "R2aR2b")]


def test_lines_that_never_end_are_bounded(begin: Begin) -> None:
    """A line without an end is written once it is long, and of too many begun ones the oldest is."""
    out = begin()
    log.current.set(scope())
    sys.stdout.write("x" * (LONGEST + 1))
    for number in range(MOST_OPEN + 1):
        log.current.set(scope(f"R{number}"))
        sys.stdout.write("begun")
    assert [(line["run_id"], len(line["msg"])) for line in lines(out)] == [("RUN", LONGEST + 1), ("R0", 5)]


def test_a_handler_on_the_captured_stream_does_no_harm(begin: Begin) -> None:
    """Somebody else's handler that writes to standard output makes no circle."""
    out = begin()
    handler = logging.StreamHandler(sys.stdout)
    logging.getLogger("print").addHandler(handler)
    try:
        log.current.set(scope())
        print("once")
    finally:
        logging.getLogger("print").removeHandler(handler)
    assert out.getvalue().count("once") == 2


def test_a_thread_prints_with_its_run(begin: Begin) -> None:
    """A thread of its own has no run; one that was given the context has it."""
    out = begin()
    import contextvars

    log.current.set(scope())
    context = contextvars.copy_context()
    thread = threading.Thread(target=lambda: context.run(print, "within"))
    thread.start()
    thread.join()
    assert lines(out)[0]["run_id"] == "RUN"


def test_the_level_changes_for_both_libraries(begin: Begin) -> None:
    """`set_level` holds at once for the standard library and structlog, for loggers that are there already too."""
    out = begin()
    mine, theirs = logging.getLogger("mine"), structlog.get_logger("theirs")
    mine.info("no"), theirs.info("no")
    log.set_level("DEBUG")
    mine.debug("yes"), theirs.debug("yes")
    log.set_level("ERROR")
    mine.warning("no"), theirs.warning("no")
    assert [(line["logger"], line["msg"]) for line in lines(out)] == [("mine", "yes"), ("theirs", "yes")]


def test_libraries_that_we_use_never_log_for_developers(begin: Begin) -> None:
    """At DEBUG the Kubernetes client and its like stay at INFO, unless somebody set them otherwise."""
    out = begin()
    kept = logging.getLogger("asyncpg")
    before = kept.level
    try:
        kept.setLevel(logging.DEBUG)
        log.set_level("DEBUG")
        logging.getLogger("kubernetes.client.rest").debug("response body: …")
        kept.debug("asked for")
        assert [line["msg"] for line in lines(out)] == ["asked for"]
    finally:
        kept.setLevel(before)


async def test_signals_change_the_level(begin: Begin) -> None:
    """SIGUSR1 has everything logged, SIGUSR2 as configured again, and both are told."""
    out = begin()
    log.follow_signals("WARNING")
    loop = asyncio.get_running_loop()
    try:
        told: list[int] = []
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            os.kill(os.getpid(), number)
            while len(lines(out)) == len(told):
                await asyncio.sleep(0)
            told.append(logging.getLogger().level)
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)
        loop.remove_signal_handler(signal.SIGUSR2)
    assert told == [logging.DEBUG, logging.WARNING]
    assert [line["msg"] for line in lines(out)] == ["logging from DEBUG on", "logging from WARNING on"]
