"""The equality in a filter as an index key, and what is left of the filter."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.engine.expression import MISSING, Activation, Key, Split, compile_expression, match_key, split_equality, value_at
from stepwell.errors import SpecError


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("event.data.id == async.data.id", Split(Key("data.id", "data.id"), None)),
        ("async.data.id == event.data.orderId", Split(Key("data.id", "data.orderId"), None)),
        ("(async.data.id == event.data.id)", Split(Key("data.id", "data.id"), None)),
        ("event.data['id'] == async[\"data\"].id", Split(Key("data.id", "data.id"), None)),
        ("async.data['a b'] == event.data.l[0].id", Split(Key('data["a b"]', "data.l[0].id"), None)),
        ("async.data.id == '7'", Split(Key("data.id", None, "7"), None)),
        ("-7 == async.data.id", Split(Key("data.id", None, -7), None)),
        ("async.data.ok == true", Split(Key("data.ok", None, literal=True), None)),
        ("async.data.gone == null", Split(Key("data.gone", None, None), None)),
        ("async.data.id == r'\\n'", Split(Key("data.id", None, "\\n"), None)),
        ("event.data.id == async.data.id && async.data.paid", Split(Key("data.id", "data.id"), "async.data.paid")),
        ("async.data.paid && event.data.id == async.data.id", Split(Key("data.id", "data.id"), "async.data.paid")),
        ("async.data.kind == 'x' && async.data.id == event.data.id", Split(Key("data.id", "data.id"), "async.data.kind == 'x'")),
        ("(async.a == event.a && async.b > 1) && async.c < 2", Split(Key("a", "a"), "async.b > 1 && async.c < 2")),
        ("async.a == event.a && (async.b || async.c)", Split(Key("a", "a"), "(async.b || async.c)")),
        ("async.a == event.a && (async.b ? async.c : true)", Split(Key("a", "a"), "(async.b ? async.c : true)")),
        ("async.a == event.a // the order", Split(Key("a", "a"), None)),
        ("async.a == '&& ||'", Split(Key("a", None, "&& ||"), None)),
    ],
)
def test_one_equality_becomes_the_key(text: str, split: Split) -> None:
    """An equality between the coming event and the first, or a literal, is taken out; the rest stays."""
    assert split_equality(text) == split


@pytest.mark.parametrize(
    "text",
    [
        "event.data.id == async.data.id || async.data.force",
        "event.a == async.a ? true : false",
        "async.a != event.a",
        "async.a == async.b",
        "event.a == event.b",
        "!(async.a == event.a)",
        "async.a == event.a + 1",
        "(async.a == event.a) == true",
        "async.a == event.a == true",
        "size(async.a) == 1",
        "async.a.size() == 1",
        "async == event",
        "async.a[event.i] == 1",
        "async.a[1.0] == 1",
        "async.a == [1]",
        "[async.a == event.a, true][0]",
        "event.data.list.exists(async, async.a == event.a)",
        "true",
    ],
)
def test_what_is_no_plain_equality_stays_whole(text: str) -> None:
    """Anything that isn't a plain equality joined by `&&` is left to evaluation as it is."""
    assert split_equality(text) == Split(None, text)


def test_a_broken_expression_is_refused() -> None:
    """Splitting compiles first, so a broken text never becomes a key."""
    with pytest.raises(SpecError, match="evnt"):
        split_equality("async.a == event.a && evnt.b")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("data.id", 7),
        ('data["a b"]', 1),
        ('data["x.y[0]"]', 2),
        ("data.l[1].k", "v"),
        ("data.l[9]", MISSING),
        ("data.none", None),
        ("data.none.more", MISSING),
        ("data.gone", MISSING),
        ("data.id.more", MISSING),
        ("data.l.k", MISSING),
        ("data[0]", MISSING),
    ],
)
def test_a_path_leads_to_a_value_or_to_missing(path: str, value: object) -> None:
    """Paths with names, indices and quoted parts are followed; what isn't there is MISSING, and null is a value."""
    event = {"data": {"id": 7, "a b": 1, "x.y[0]": 2, "l": [0, {"k": "v"}], "none": None}}
    assert value_at(event, path) == value


def test_equal_values_have_one_digest_and_different_ones_differ() -> None:
    """1 and 1.0 are equal, as in CEL; true, "1" and other names or paths are not."""
    one = match_key("a", "data.id", 1)
    assert one == match_key("a", "data.id", 1.0)
    assert match_key("a", "p", [1, {"x": 2.0}]) == match_key("a", "p", [1.0, {"x": 2}])
    others = [
        ("a", "data.id", True),
        ("a", "data.id", "1"),
        ("b", "data.id", 1),
        ("a", "data", 1),
        ("a", "", None),
        ("adata", ".id", 1),
    ]
    assert len({one, *(match_key(*other) for other in others)}) == len(others) + 1
    assert match_key("a", "p", 2**53) != match_key("a", "p", 2**53 + 1)
    assert len(one) == 32


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from([0.0, -0.0, 1.0, 2.5, "", "1", "a", "é"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
)


@given(VALUES, VALUES)
def test_digests_are_equal_exactly_where_cel_says_equal(one: object, other: object) -> None:
    """The index agrees with evaluation about every pair of values."""
    verdict = compile_expression("event.v == async.v").test(Activation({"v": one}, {"v": other}))
    assert verdict.error is None
    assert (match_key("n", "v", one) == match_key("n", "v", other)) is verdict.matched


TERMS = st.sampled_from(
    [
        "event.a == async.a",
        "async.b == event.a",
        "async.a == 1",
        "'x' == async.b",
        "async.c",
        "event.a != async.b",
        "(async.c || event.c)",
        "(async.a == 1 && event.c)",
        "async.l[0] == event.a",
        "async.missing == event.a",
        "event.missing == async.a",
        "(event.c ? async.c : true)",
        "!async.c",
        "async.a == event.a || async.c",
    ]
)
FIELDS = st.fixed_dictionaries(
    {"a": st.sampled_from([1, 1.0, "x", None, True])},
    optional={"b": st.sampled_from([1, "x", 2]), "c": st.booleans(), "l": st.lists(st.integers(0, 2), max_size=2)},
)


@given(st.lists(TERMS, min_size=1, max_size=4), FIELDS, FIELDS)
def test_key_and_residual_together_mean_the_whole_expression(
    terms: list[str], event: dict[str, Any], other: dict[str, Any]
) -> None:
    """An event matches by key and residual exactly where the whole expression is true."""
    text = " && ".join(terms)
    whole = compile_expression(text).test(Activation(event, other)).matched
    split = split_equality(text)
    matched = True
    if split.key is not None:
        wanted = split.key.literal if split.key.event_path is None else value_at(event, split.key.event_path)
        given_value = value_at(other, split.key.async_path)
        matched = MISSING not in {id(wanted): wanted, id(given_value): given_value}.values() and (
            match_key("n", split.key.async_path, wanted) == match_key("n", split.key.async_path, given_value)
        )
    if split.residual is not None:
        matched = matched and compile_expression(split.residual).test(Activation(event, other)).matched
    assert matched is whole
