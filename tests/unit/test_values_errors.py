"""Recorded errors: whatever is raised can be written and read back."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell import values
from stepwell.errors import Cause, StepError
from stepwell.recorded_error import MAX_CAUSES, MAX_MESSAGE, MAX_STACK


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as caught:
        return caught


def test_name_message_attempts_and_cause_come_back() -> None:
    """An error is told by its class, its text, its tries and what it was raised from, down to the last cause."""
    error = raised(ValueError("no such user"), raised(KeyError("id"), raised(OSError("disk"))))
    name, message, cause, attempts = values.decode_error(values.encode_error(error, 3))
    assert (name, message, attempts) == ("ValueError", "no such user", 3)
    assert cause == Cause("KeyError", "'id'", Cause("OSError", "disk"))


def test_the_context_counts_as_the_cause_unless_it_is_suppressed() -> None:
    """What was being handled when it was raised is its cause; `from None` says that there is none."""
    found: list[Cause | None] = []
    for suppress in (False, True):
        try:
            try:
                raise OSError("disk")
            except OSError:
                if suppress:
                    raise ValueError("bad") from None
                raise ValueError("bad")  # noqa: B904
        except ValueError as error:
            found.append(values.decode_error(values.encode_error(error, 1))[2])
    assert found == [Cause("OSError", "disk"), None]


def test_an_error_out_of_the_journal_keeps_its_recorded_cause() -> None:
    """A StepError recorded again carries the cause that the journal gave it, and so does what is raised from it."""
    cause = Cause("KeyError", "'id'", Cause("OSError", "disk"))
    error = raised(StepError("ValueError", "bad", "fetch", 5, cause), raised(RuntimeError("ours")))
    assert values.decode_error(values.encode_error(error, 1))[2] == cause
    outer = values.decode_error(values.encode_error(raised(RuntimeError("x"), error), 1))[2]
    assert outer is not None
    assert (outer.name, outer.cause) == ("StepError", cause)


def test_the_stack_shows_source_lines_but_no_values() -> None:
    """The stack names file and function of what raised, never the content of a variable."""

    def fail() -> None:
        password = "hunter" + "2"
        raise ValueError(len(password))

    with pytest.raises(ValueError) as caught:
        fail()
    stack = orjson.loads(values.encode_error(caught.value, 1))["stack"]
    assert "in fail" in stack
    assert "hunter2" not in stack
    assert stack.rstrip().endswith("ValueError: 7")


def test_cycles_and_long_chains_of_causes_end() -> None:
    """An error that causes itself, or has a hundred causes, is recorded with a few of them."""
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert values.decode_error(values.encode_error(one, 1))[2] == Cause("ValueError", "other")
    chain: BaseException = ValueError(0)
    for number in range(1, 100):
        chain = raised(ValueError(number), chain)
    cause, depth = values.decode_error(values.encode_error(chain, 1))[2], 0
    while cause is not None:
        cause, depth = cause.cause, depth + 1
    assert depth == MAX_CAUSES


@pytest.mark.parametrize(
    "error",
    [
        Mute(),
        ValueError("\0 and \ud800"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        ExceptionGroup("several", [ValueError("a"), Mute()]),
        KeyboardInterrupt(),
    ],
)
def test_writing_an_error_never_fails(error: BaseException) -> None:
    """Broken text, surrogates and groups are recorded with what can't be encoded replaced."""
    data = values.encode_error(raised(error), 1)
    assert b"\\u0000" not in data
    name, _message, _cause, attempts = values.decode_error(data)
    assert name
    assert attempts == 1


@given(st.text(), st.text())
def test_any_text_can_be_recorded(message: str, inner: str) -> None:
    """Any message is recorded; one that JSON can hold comes back unchanged."""
    data = values.encode_error(raised(ValueError(message), ValueError(inner)), 1)
    said = values.decode_error(data)[1]
    try:
        message.encode()
    except UnicodeEncodeError:
        assert len(said) == len(message)
    else:
        assert said == message.replace("\0", "\ufffd")


def test_long_texts_are_cut() -> None:
    """Message and stack have a limit each, so that an error can't outgrow its row."""
    document: dict[str, Any] = orjson.loads(values.encode_error(raised(ValueError("é" * 1_000_000)), 1))
    assert document["message"] == "é" * MAX_MESSAGE + "…"
    assert len(document["stack"].encode()) <= MAX_STACK


def test_an_error_written_by_hand_can_be_read() -> None:
    """An error without tries or cause is read with one try and none."""
    assert values.decode_error(b'{"name":"FunctionNotFound","message":"no"}') == ("FunctionNotFound", "no", None, 1)
