"""Plain JSON values: what is kept, what is refused with which path and remedy, and the limits."""

import enum
import math
from collections import OrderedDict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell import values
from stepwell.errors import TooLarge, ValueRefused

WHERE = "step 'fetch': result"
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


def read(data: bytes, where: str) -> Any:
    """Somebody else's JSON as a value that `encode` takes."""
    value = values.parse(data, where)
    values.encode(value, where)
    return value


LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
PLAIN = st.recursive(LEAVES, lambda part: st.lists(part, max_size=4) | st.dictionaries(TEXT, part, max_size=4), max_leaves=20)
ANYTHING = st.recursive(
    LEAVES | st.text(max_size=5) | st.floats() | st.integers() | st.binary(max_size=3) | st.sampled_from([Decimal(1), {1}, ...]),
    lambda part: (
        st.lists(part, max_size=4)
        | st.tuples(part, part)
        | st.dictionaries(st.text(max_size=3) | st.integers(), part, max_size=4)
        | st.frozensets(st.integers(), max_size=2)
    ),
    max_leaves=20,
)


class Colour(enum.Enum):
    RED = "red"


class Word(enum.StrEnum):
    YES = "yes"


class Point(NamedTuple):
    x: int
    y: int


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def as_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: as_lists(one) for key, one in value.items()}
    return [as_lists(one) for one in value] if isinstance(value, (list, tuple)) else value


def kinds(value: Any) -> Any:
    """The value with each leaf's type beside it, so that 1, 1.0 and True differ."""
    if isinstance(value, dict):
        return {key: kinds(one) for key, one in value.items()}
    return [kinds(one) for one in value] if isinstance(value, list) else (type(value), value)


@given(PLAIN)
def test_every_plain_value_comes_back_equal(value: Any) -> None:
    """A plain value decodes to an equal value of the same types, and encodes to the same bytes again."""
    data = values.encode(value, WHERE)
    back = values.decode(data)
    assert kinds(back) == kinds(value)
    assert values.encode(back, WHERE) == data


@given(ANYTHING)
def test_a_value_round_trips_or_is_refused(value: Any) -> None:
    """Whatever is offered either comes back equal (tuples as lists) or is refused with its place."""
    try:
        data = values.encode(value, WHERE)
    except ValueRefused as error:
        refused = error
    else:
        back = values.decode(data)
        assert kinds(back) == kinds(as_lists(value))
        assert values.encode(back, WHERE) == data
        return
    assert refused.path.startswith(WHERE)
    assert str(refused).startswith(refused.path)


@given(PLAIN)
def test_what_was_written_can_be_read_from_others(value: Any) -> None:
    """Anything that is kept is also taken from outside, unchanged."""
    data = orjson.dumps(value)
    assert kinds(read(data, "body")) == kinds(value)


@pytest.mark.parametrize(
    ("value", "path", "says"),
    [
        (math.nan, "", "nan is no JSON number"),
        ({"a": math.inf}, ".a", "inf is no JSON number"),
        ({"items": [0, 1, 2, {"when": datetime(2026, 1, 1, tzinfo=UTC)}]}, ".items[3].when", "datetime is no JSON"),
        ([Decimal("1.5")], "[0]", "annotate the return type (Decimal)"),
        ([UUID(int=1)], "[0]", "UUID is no JSON"),
        ({"c": Colour.RED}, ".c", "Colour is no JSON"),
        ({"w": Word.YES}, ".w", "make a plain str of it"),
        ({"p": Point(1, 2)}, ".p", "make a plain tuple of it"),
        (OrderedDict(a=1), "", "make a plain dict of it"),
        ({"s": {1}}, ".s", "make a sorted list of it"),
        ({"b": b"x"}, ".b", "base64"),
        ({"a": {1: 2}}, ".a", "keys are text in JSON: use str(key)"),
        ({Word.YES: 2}, "", "a key is Word"),
        (["a\0b"], "[0]", "NUL"),
        ({"a\0b": 1}, "", "NUL"),
        ({"user name": ["\ud800"]}, "['user name'][0]", "lone surrogate"),
        ({"\ud800": 1}, "", "lone surrogate"),
        ([2**64], "[0]", "an integer of 65 bits"),
        ([-(2**63) - 1], "[0]", "64 are not kept"),
        (2**70, "", "an integer of 71 bits"),
        (nested(65), "[0]" * 64, "nested deeper than 64 levels"),
        (object(), "", "object is no JSON"),
    ],
)
def test_a_refusal_names_place_and_remedy(value: Any, path: str, says: str) -> None:
    """What JSON can't hold is refused with its path and what to do."""
    with pytest.raises(ValueRefused) as refused:
        values.encode(value, WHERE)
    assert refused.value.path == WHERE + path
    assert says in str(refused.value)


def test_the_edges_of_what_is_kept() -> None:
    """64 levels, 64-bit integers and text that looks like an escaped NUL are kept."""
    for value in (nested(64), 2**64 - 1, -(2**63), "\\u0000", {"\\u0000": "\\u0000"}, "é\U0001f600", [], {}, -0.0):
        assert values.decode(values.encode(value, WHERE)) == value


def test_a_tuple_comes_back_as_a_list() -> None:
    """Tuples are kept, and read back as lists on every pass."""
    assert values.decode(values.encode({"pair": (1, (2, 3))}, WHERE)) == {"pair": [1, [2, 3]]}


def test_a_list_that_holds_itself_is_refused() -> None:
    """A cycle ends at the depth limit."""
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(ValueRefused, match="nested deeper"):
        values.encode(circle, WHERE)


@pytest.mark.parametrize("share", [lambda part: [part, part], lambda part: {"a": part, "b": (part,)}])
def test_shared_parts_that_multiply_are_refused_before_they_are_written(share: Any) -> None:
    """A small value in memory that would be astronomic as JSON is refused at once."""
    value: Any = ["x"]
    for _ in range(30):
        value = share(value)
    with pytest.raises(TooLarge, match=r"step 'fetch': result has more than 4,194,304 bytes"):
        values.encode(value, WHERE)
    with pytest.raises(TooLarge):
        values.encode(["x" * 100_000] * 100_000, WHERE)


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**30])
def test_a_foreign_integer_over_64_bits_is_refused(number: int) -> None:
    """An integer that orjson would make a float of is refused, in the wire format too."""
    with pytest.raises(ValueRefused, match=r"body: an integer of \d+ digits; more than 64 bits"):
        read(b'{"a": [%d]}' % number, "body")


def test_long_digits_in_text_and_floats_are_taken_from_others() -> None:
    """Digits that are no integer, and integers of 64 bits, are read as they are."""
    for value in ({"card": "4" * 30}, [2**64 - 1, -(2**63)], [1.2345678901234567e300], [1e300]):
        assert read(orjson.dumps(value), "body") == value
    assert read(b"[1.00000000000000000000000000000001]", "body") == [1.0]


def test_foreign_json_that_could_not_be_kept_is_refused() -> None:
    """NUL and depth are refused where a value comes in; what is no JSON stays an error of its own."""
    with pytest.raises(ValueRefused, match=r"body.a: the text holds a NUL"):
        read(b'{"a": "\\u0000"}', "body")
    with pytest.raises(ValueRefused, match="nested deeper"):
        read(b"[" * 65 + b"]" * 65, "body")
    for broken in (b"NaN", b"1e999", b'"\\ud800"', b"{", b"[1]2"):
        with pytest.raises(orjson.JSONDecodeError):
            read(broken, "body")


def test_canonical_json_does_not_depend_on_order() -> None:
    """Equal values have equal canonical bytes and hashes, others have others."""
    one, other = {"b": [1, {"y": 1, "x": 2}], "a": 1}, {"a": 1, "b": [1, {"x": 2, "y": 1}]}
    assert values.canonical(one) == values.canonical(other) == b'{"a":1,"b":[1,{"x":2,"y":1}]}'
    assert values.body_hash(one) == values.body_hash(other) != values.body_hash({**one, "c": None})
    assert len(values.body_hash(one)) == 32
    assert values.digest(b"a") == values.digest(b"a") != values.digest(b"b")
    assert len(values.digest(b"a")) == 32


def test_a_size_over_its_limit_names_thing_size_and_limit() -> None:
    """At the limit all is well; a byte more is an error that names what, how much and how much there may be."""
    values.check_size("event 'a'", values.MAX_EVENT, values.MAX_EVENT)
    with pytest.raises(TooLarge, match=r"event 'a' has 524,289 bytes; the limit is 524,288"):
        values.check_size("event 'a'", values.MAX_EVENT + 1, values.MAX_EVENT)


def test_the_limits_are_the_promised_ones() -> None:
    """Event 512 KiB, step result 4 MiB, run state 32 MiB, 1,000 steps, 1,000 events and 4 MiB in a batch, 64 levels."""
    kib = 1024
    assert 512 * kib == values.MAX_EVENT
    assert values.MAX_STEP_RESULT == values.MAX_BATCH == 4096 * kib
    assert 32768 * kib == values.MAX_RUN_STATE
    assert values.MAX_STEPS == values.MAX_BATCH_EVENTS == 1000
    assert values.MAX_DEPTH == 64
