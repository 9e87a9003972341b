"""Logs: context on every line of user code, nothing twice because of a replay, nothing that nobody asked to be logged."""

import io
import json
import logging
import logging.handlers
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from stepwell import log
from stepwell.log.scope import Replays

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def undisturbed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test begins with bare logging, and leaves it as it was."""
    root = logging.getLogger()
    level, factory = root.level, logging.getLogRecordFactory()
    monkeypatch.setattr(Replays, "shown", False)
    monkeypatch.setattr(root, "handlers", [])
    structlog.reset_defaults()
    token = log.current.set(None)
    yield
    log.current.reset(token)
    structlog.reset_defaults()
    logging.setLogRecordFactory(factory)
    root.setLevel(level)


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Lines]:
    """Configure JSON lines, with no handler of anybody else's; what comes back gives the lines written since."""

    def begin() -> Lines:
        out = io.StringIO()
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(logging.getLogger(), "handlers", [])
        log.configure(json=True, level="debug", component="runner", namespace="shop")
        return lambda: [json.loads(line) for line in out.getvalue().splitlines()]

    return begin


def scope(step: str | None = None, replaying: bool = False, run_id: str = "RUN") -> log.Scope:
    return log.Scope(run_id, "process-order", step, 2, lambda: replaying)


CONTEXT = {"run_id": "RUN", "function": "process-order", "attempt": 2}


def test_lines_of_any_logger_carry_the_run(begin: Callable[[], Lines]) -> None:
    """The standard library, structlog and ctx.logger write one form, with run, function, step and attempt."""
    lines = begin()
    log.current.set(scope("fetch"))
    logging.getLogger("shop.orders").info("order %s", 7, extra={"customer": "Ada"})
    structlog.get_logger("shop.orders").info("order 7", customer="Ada")
    log.RunLogger(scope()).info("order %s", 7, customer="Ada")
    for line, logger in zip(lines(), ["shop.orders", "shop.orders", "stepwell.run"], strict=True):
        assert line.pop("ts").endswith("Z")
        assert line == {
            "level": "info",
            "msg": "order 7",
            "component": "runner",
            "namespace": "shop",
            "logger": logger,
            "customer": "Ada",
            "step": "fetch",
            **CONTEXT,
        }


def test_keys_come_in_one_order(begin: Callable[[], Lines]) -> None:
    """Time, level and message come first, then who speaks, then the run, then the line's own fields."""
    lines = begin()
    log.RunLogger(scope("fetch")).warning("odd", zebra=1, apple=2)
    order = "ts level msg component namespace logger function run_id step attempt zebra apple"
    assert " ".join(lines()[0]) == order


def test_outside_of_runs_lines_carry_no_run(begin: Callable[[], Lines]) -> None:
    """The process's own lines have component and namespace alone."""
    lines = begin()
    structlog.get_logger("stepwell").info("gateway listens", url="http://localhost")
    logging.getLogger("uvicorn").info("started")
    assert [set(line) - {"url"} for line in lines()] == [{"ts", "level", "msg", "component", "namespace", "logger"}] * 2


def test_replayed_code_outside_steps_is_silent_whatever_it_logs_with(begin: Callable[[], Lines]) -> None:
    """While replaying, lines of user code between steps are dropped; in a step, and of the engine, they are written."""
    lines = begin()
    log.current.set(scope(replaying=True))
    for _ in range(2):
        logging.getLogger("shop").error("twice")
        structlog.get_logger("shop").error("twice")
        structlog.get_logger().error("twice")
        log.RunLogger(scope(replaying=True)).error("twice")
    assert lines() == []
    structlog.get_logger("stepwell.engine").error("the engine's")
    logging.getLogger("stepwell.engine").error("the engine's")
    log.current.set(scope("fetch"))
    logging.getLogger("shop").info("in a step")
    log.RunLogger(scope(replaying=True)).info("in a step")
    assert [line["msg"] for line in lines()] == ["the engine's"] * 2 + ["in a step"] * 2


def test_ctx_logger_tells_the_step_it_is_used_in_but_never_another_run(begin: Callable[[], Lines]) -> None:
    """A logger kept from the context names the step whose body uses it; where another run's code is current it keeps its own."""
    lines = begin()
    logger = log.RunLogger(scope())
    log.current.set(scope("fetch"))
    logger.info("ours")
    log.current.set(scope("theirs", replaying=True, run_id="OTHER"))
    logger.info("elsewhere")
    assert [(line["run_id"], line.get("step")) for line in lines()] == [("RUN", "fetch"), ("RUN", None)]


def test_every_level_of_ctx_logger_is_written_as_what_it_is(begin: Callable[[], Lines]) -> None:
    """The six verbs write their level; `exception` adds the traceback."""
    lines = begin()
    logger = log.RunLogger(scope())
    for verb in ("debug", "info", "warning", "error", "critical"):
        getattr(logger, verb)("told")
    try:
        raise ValueError("bad")
    except ValueError:
        logger.exception("failed", order=7)
    found = lines()
    assert [line["level"] for line in found] == ["debug", "info", "warning", "error", "critical", "error"]
    assert found[-1]["exception"][0]["exc_type"] == "ValueError"
    assert found[-1]["order"] == 7


def test_tracebacks_show_no_values(begin: Callable[[], Lines], monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither form of output shows local variables, from any logger: they hold payloads and secrets."""
    lines = begin()

    def fail() -> None:
        password = "hunter" + "2"
        raise ValueError(len(password))

    def tell() -> None:
        try:
            fail()
        except ValueError:
            log.RunLogger(scope()).exception("a")
            logging.getLogger("shop").exception("b")
            structlog.get_logger("shop").exception("c")

    tell()
    assert "hunter2" not in json.dumps(lines())
    assert json.dumps(lines()).count('"fail"') == 3
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    logging.getLogger().handlers.clear()
    log.configure(json=False)
    tell()
    assert out.getvalue().count("in fail") == 3
    assert "hunter2" not in out.getvalue()


def test_odd_fields_and_messages_never_fail_a_line(begin: Callable[[], Lines]) -> None:
    """What JSON can't hold is shown as its repr; arguments that don't fit the message are shown beside it."""
    lines = begin()
    circle: list[Any] = []
    circle.append(circle)
    logger = log.RunLogger(scope())
    for odd in (object(), {1: {2}}, 2**70, "\ud800", float("nan"), circle):
        logger.info("odd", value=odd)
    logger.info("%d items", "many")
    logger.info("100%")
    logger.info("ours wins", run_id="mine", step="mine")
    found = lines()
    assert len(found) == 9
    assert found[6]["msg"] == "%d items ('many',)"
    assert found[7]["msg"] == "100%"
    assert found[8]["run_id"] == "mine"


def test_the_level_can_be_changed_while_running(begin: Callable[[], Lines]) -> None:
    """`configure` called again changes the level of loggers that exist already, and adds no second handler."""
    lines = begin()
    logger, other = structlog.get_logger("shop"), logging.getLogger("shop")
    log.configure(json=True, level="warning")
    logger.info("no")
    other.info("no")
    log.configure(json=True, level="INFO")
    logger.info("yes")
    other.info("yes")
    assert [line["msg"] for line in lines()] == ["yes", "yes"]
    assert len(logging.getLogger().handlers) == 1


def test_a_terminal_gets_lines_for_eyes(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal lines are pretty, elsewhere JSON, unless asked otherwise; without one there are no colours."""
    for is_terminal in (True, False):
        out = io.StringIO()
        monkeypatch.setattr(out, "isatty", lambda is_terminal=is_terminal: is_terminal)
        monkeypatch.setattr(sys, "stdout", out)
        log.configure()
        log.RunLogger(scope()).info("hello", order=7)
        assert out.getvalue().startswith("{") != is_terminal
        assert ("\x1b[" in out.getvalue()) == is_terminal
    log.configure(json=False)
    log.RunLogger(scope()).info("hello")
    assert "\x1b[" not in out.getvalue()


# --- beside a configuration of the user's ---


def capture(handler: logging.Handler | None = None, form: str = "%(message)s") -> tuple[logging.Handler, io.StringIO]:
    out = io.StringIO()
    handler = handler or logging.StreamHandler(out)
    handler.setFormatter(logging.Formatter(form))
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel("INFO")
    return handler, out


def test_a_format_of_the_users_can_show_the_run() -> None:
    """With `install_context`, `%(run_id)s` and the like work in a user's own format, in runs and outside."""
    _handler, out = capture(form="%(run_id)s|%(function)s|%(step)s|%(attempt)s|%(message)s")
    log.install_context()
    log.install_context()
    logging.getLogger("shop").info("outside")
    log.current.set(scope("fetch"))
    logging.getLogger("shop").info("inside", extra={"step": "mine"})
    assert out.getvalue().splitlines() == ["None|None|None|None|outside", "RUN|process-order|mine|2|inside"]


def test_the_filter_is_enough_on_one_handler() -> None:
    """Without anything installed, a handler with a ContextFilter shows the run and no replayed line."""
    handler, out = capture(form="%(run_id)s %(message)s")
    handler.addFilter(log.ContextFilter())
    logging.getLogger("shop").info("outside")
    log.current.set(scope(replaying=True))
    logging.getLogger("shop").info("replayed")
    logging.getLogger("stepwell.engine").info("the engine's")
    log.current.set(scope())
    logging.getLogger("shop").info("inside")
    assert out.getvalue().splitlines() == ["None outside", "RUN the engine's", "RUN inside"]


def test_replayed_lines_reach_no_handler_of_the_users() -> None:
    """A replayed line is dropped for handlers that hang elsewhere, were added later, or work in a thread of their own."""
    log.install_context()
    _handler, out = capture()
    lonely, seen = logging.getLogger("shop.lonely"), io.StringIO()
    lonely.addHandler(own := logging.StreamHandler(seen))
    lonely.propagate = False
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    logging.getLogger().addHandler(queued := logging.handlers.QueueHandler(waiting))
    try:
        log.current.set(scope(replaying=True))
        for name in ("shop", "shop.lonely"):
            logging.getLogger(name).critical("replayed")
        log.current.set(scope("fetch"))
        for name in ("shop", "shop.lonely"):
            logging.getLogger(name).critical("new")
    finally:
        lonely.removeHandler(own)
        lonely.propagate = True
        logging.getLogger().removeHandler(queued)
    assert (out.getvalue(), seen.getvalue()) == ("new\n", "new\n")
    record = waiting.get_nowait()
    assert waiting.empty()
    held: list[Any] = []
    thread = threading.Thread(target=lambda: held.append(log.ContextFilter().filter(record)))
    thread.start()
    thread.join()
    assert (held, record.run_id, record.step) == ([True], "RUN", "fetch")


def test_ctx_logger_uses_the_standard_library_where_structlog_is_not_configured() -> None:
    """Fields stand behind the message then, at the level the user set, from the place that called."""
    _handler, out = capture(form="%(name)s %(levelname)s %(filename)s %(message)s")
    log.install_context()
    logger = log.RunLogger(scope())
    logger.debug("too fine")
    logger.info("done %s", 7, order="a b")
    try:
        raise ValueError("bad")
    except ValueError:
        logger.exception("failed")
    told = out.getvalue().splitlines()
    assert told[0] == "stepwell.run INFO test_log.py done 7 order='a b'"
    assert told[-1] == "ValueError: bad"
    assert "done" not in "".join(told[1:])


def test_replayed_lines_are_shown_to_who_looks_for_them(begin: Callable[[], Lines]) -> None:
    """At DEBUG, where replays are shown, replayed lines are written and marked; others, and all at INFO, are as ever."""

    def say(what: str) -> None:
        log.RunLogger(scope(replaying=what == "replayed")).info(what)
        log.current.set(scope(replaying=what == "replayed"))
        logging.getLogger("shop").info(what)
        structlog.get_logger("shop").info(what)
        log.current.set(None)

    lines = begin()
    say("replayed")
    assert lines() == []
    log.show_replays()
    for what in ("replayed", "new"):
        say(what)
    assert [(line["msg"], line.get("replay")) for line in lines()] == [("replayed", True)] * 3 + [("new", None)] * 3
    log.set_level("INFO")
    say("replayed")
    assert len(lines()) == 6


def test_a_structlog_configuration_of_the_users_is_kept() -> None:
    """With `add_context` as a processor, lines of a user's own structlog set-up carry the run and are silent on replay."""
    kept: list[dict[str, Any]] = []

    def keep(_logger: Any, _method: str, event: dict[str, Any]) -> Any:
        kept.append(dict(event))
        raise structlog.DropEvent

    structlog.configure(processors=[log.add_context, keep])
    structlog.get_logger().info("outside")
    log.current.set(scope("fetch"))
    structlog.get_logger().info("inside", attempt="mine")
    log.RunLogger(scope()).info("ours", order=7)
    log.current.set(scope(replaying=True))
    structlog.get_logger().info("replayed")
    assert kept == [
        {"event": "outside"},
        {"event": "inside", **CONTEXT, "step": "fetch", "attempt": "mine"},
        {"event": "ours", "order": 7, **CONTEXT, "step": "fetch"},
    ]


def test_handlers_of_the_users_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """`configure` adds no handler beside one that is already there, and keeps a record factory that somebody set."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    before = logging.getLogRecordFactory()

    def marked(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = before(*args, **kwargs)
        record.mark = "kept"
        return record

    logging.setLogRecordFactory(marked)
    handler, out = capture(form="%(mark)s %(message)s")
    log.configure(json=True)
    logging.getLogger("shop").info("told")
    assert logging.getLogger().handlers == [handler]
    assert out.getvalue() == "kept told\n"
