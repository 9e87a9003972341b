"""CEL behind its wall: what matches, what is refused, and what an error becomes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.engine.expression import Activation, compile_expression, compile_filter, compile_key
from stepwell.errors import SpecError

EVENT = {"name": "order/created", "data": {"x": 1, "f": 1.5, "s": "a", "n": None, "t": True, "l": [1, 2], "m": {"k": "v"}}}
OTHER = {"name": "order/paid", "data": {"x": 1.0, "s": "b"}}
ACTIVATION = Activation(EVENT, OTHER)


@pytest.mark.parametrize(
    "text",
    [
        "event.data.x == 1",
        "event.data.x == async.data.x",
        "event.data.f > 1",
        "event.name == 'order/created' && async.name.startsWith('order/')",
        "has(event.data.m.k) && !has(event.data.missing)",
        "event.data.n == null",
        "event.data.l.exists(i, i == 2)",
        "true || event.data.missing == 1",
        "event['data'][\"s\"] in ['a', 'b']",
    ],
)
def test_a_true_expression_matches(text: str) -> None:
    """A boolean true over `event` and `async` is a match."""
    verdict = compile_expression(text).test(ACTIVATION)
    assert (verdict.matched, verdict.error) == (True, None)


@pytest.mark.parametrize("text", ["event.data.x == 2", "event.data.t == 1", "'200' == dyn(200)", "!event.data.t"])
def test_a_false_expression_does_not_match(text: str) -> None:
    """A boolean false is no match and no error."""
    verdict = compile_expression(text).test(ACTIVATION)
    assert (verdict.matched, verdict.error) == (False, None)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("event.data.missing == 1", "Key not found"),
        ("event.data.s", "gave text"),
        ("event.data.x", "gave a number"),
        ("event.data.n", "gave null"),
        ("event.data.l", "gave a list"),
        ("event.data", "gave a map"),
        ("1 / 0 == 1", "divide by zero"),
        ("event.data.x && true", "No matching overloads"),
        ("event.data.s.matches('[')", "invalid regular expression"),
    ],
)
def test_what_is_not_true_or_false_is_an_error_and_no_match(text: str, error: str) -> None:
    """Errors, which the engine hands back as values that are true to Python, never match; the verdict says why."""
    verdict = compile_expression(text).test(ACTIVATION)
    assert not verdict.matched
    assert verdict.error is not None
    assert error in verdict.error


def test_async_without_another_event_is_an_error() -> None:
    """An expression over `async` can't be true where there is no other event."""
    verdict = compile_expression("async.data.x == 1").test(Activation(EVENT))
    assert not verdict.matched
    assert verdict.error is not None


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("evnt.data.x == 1", 1, "there is no 'evnt'"),
        ("event.data.x == 1 && evnt.y", 22, "there is no 'evnt'"),
        ("event.data.x ==", 16, "ends too early"),
        ("event.data.x == 'a", 17, "has no end"),
        ("event.data.x == lower(event.data.s)", 17, "there is no function 'lower'"),
        ("1 + 'a' == 2", 3, "no matching overload"),
        ("event.data.x == 1 &&\n  evnt.y", 24, "line 2, column 3"),
        ("event.data.l.all(a, event.data.l.all(b, a < b))", 34, "a loop inside a loop"),
        ("(" * 40 + "1" + ")" * 40, 33, "nested deeper than 32"),
    ],
)
def test_a_broken_expression_is_refused_with_its_column(text: str, column: int, says: str) -> None:
    """The error has the column, the line with a caret below it, and what is wrong."""
    with pytest.raises(SpecError) as caught:
        compile_expression(text)
    assert caught.value.column == column
    assert says in caught.value.message
    assert caught.value.message.endswith("^")


def test_a_typo_is_answered_with_the_names_that_exist() -> None:
    """The message lists the names, and marks the place."""
    with pytest.raises(SpecError) as caught:
        compile_expression("evnt.data.total > 100")
    assert str(caught.value) == (
        "column 1: there is no 'evnt'; the names that exist here: `event` and `async`\n    evnt.data.total > 100\n    ^"
    )


def test_async_is_explained_where_it_does_not_exist() -> None:
    """A trigger's filter that asks for `async` is told where that exists."""
    with pytest.raises(SpecError, match="cancel_on and wait_for_event alone"):
        compile_filter("async.data.x == 1", ("event",))


@pytest.mark.parametrize("text", ["", " \n", "event.data.x == '" + "x" * 1024 + "'", "1" + " + 1" * 200])
def test_empty_long_and_deep_texts_are_refused(text: str) -> None:
    """Nothing, more than 1,024 characters, or more than 32 levels is no expression."""
    with pytest.raises(SpecError):
        compile_expression(text)


def test_a_filter_that_never_gives_true_or_false_is_refused() -> None:
    """What is certainly text or a number is no filter; what depends on the event may be one."""
    with pytest.raises(SpecError, match="gives text"):
        compile_filter("'a' + event.name")
    compile_filter("event.data.flag")


@pytest.mark.parametrize("text", ["b'abc'", "type(1)", "null"])
def test_a_key_that_json_does_not_have_is_refused(text: str) -> None:
    """Bytes, types and null are no keys."""
    with pytest.raises(SpecError, match="no key"):
        compile_key(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("event.data.x", 1),
        ("event.data.s + '-' + event.name", "a-order/created"),
        ("[event.data.x, event.data.s]", [1, "a"]),
        ("{'a': event.data.m}", {"a": {"k": "v"}}),
        ("timestamp('2026-01-01T00:00:00Z')", "2026-01-01T00:00:00Z"),
        ("duration('90s')", "90s"),
        ("event.data.n", None),
    ],
)
def test_a_key_expression_gives_a_json_value(text: str, value: object) -> None:
    """The value of a key is what JSON can hold; times are text."""
    result = compile_key(text).value(ACTIVATION)
    assert (result.value, result.error) == (value, None)


@pytest.mark.parametrize("text", ["event.data.missing", "{1: 2}", "[bytes('a')]", "1 / 0"])
def test_a_key_without_a_value_says_why(text: str) -> None:
    """A missing attribute, an error, or what JSON doesn't have is an error and no value."""
    result = compile_expression(text).value(ACTIVATION)
    assert result.value is None
    assert result.error


@pytest.mark.parametrize("data", [{"x": 2**70}, {"x": "\ud800"}, {"x": {1, 2}}, {1: 2}])
def test_an_event_that_cel_cannot_take_in_is_an_error(data: object) -> None:
    """Values outside CEL's range make an error, never an exception or a match."""
    verdict = compile_expression("event.data.x == 1").test(Activation({"data": data}))
    assert not verdict.matched
    assert verdict.error


def test_the_budget_stops_a_long_loop() -> None:
    """An evaluation that would take 40,000 loop steps ends as an error."""
    verdict = compile_expression("event.data.all(i, i >= 0)").test(Activation({"data": list(range(40_000))}))
    assert not verdict.matched
    assert verdict.error


def test_compiling_the_same_text_twice_is_one_expression() -> None:
    """Compiled expressions are kept."""
    assert compile_expression("event.data.x == 77") is compile_expression("event.data.x == 77")


@given(st.text(max_size=40))
def test_no_text_breaks_the_compiler(text: str) -> None:
    """Any text is an expression that can be tested, or a SpecError."""
    try:
        expression = compile_expression(text)
    except SpecError:
        return
    assert expression.test(ACTIVATION).matched in {True, False}


WORDS = st.sampled_from(
    ["event", "async", ".data", ".x", ".s", " == ", " && ", " || ", "(", ")", "[", "]", "'a'", "1", "!", ".map", "i", ","]
)


@given(st.lists(WORDS, max_size=14).map("".join))
def test_no_arrangement_of_words_matches_by_error(text: str) -> None:
    """A verdict with an error is never a match."""
    try:
        verdict = compile_expression(text).test(ACTIVATION)
    except SpecError:
        return
    assert not (verdict.matched and verdict.error)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(alphabet="ab é"),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet="ab"), inner, max_size=3),
    )
)
def test_a_value_goes_through_unchanged(value: object) -> None:
    """What is in the event comes out of a key expression as it was."""
    result = compile_key("event.data").value(Activation({"data": value}))
    assert result.error is None
    assert result.value == value or (isinstance(value, float) and math.isnan(value))
