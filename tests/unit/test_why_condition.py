"""What an expression saw: the term that was false, and the values at the paths that it names."""

import pytest

from stepwell.why.condition import paths, values_seen, why_false

EVENT = {"name": "order/created", "data": {"total": 80, "vip": False, "lines": [{"sku": "a"}], "odd-name": 1, "text": "x" * 100}}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("event.data.total > 100", "event.data.total > 100 is false (event.data.total = 80)"),
        ("event.data.total > 10 && event.data.vip", "event.data.vip is false (event.data.vip = false)"),
        (
            "event.data.total > 100 || event.data.vip",
            "event.data.total > 100 || event.data.vip is false (event.data.total = 80, event.data.vip = false)",
        ),
        ("has(event.data.user) && event.data.user.age > 1", "has(event.data.user) is false (event.data.user is missing)"),
        (
            "event.data.lines.exists(l, l.sku == 'b')",
            "event.data.lines.exists(l, l.sku == 'b') is false (event.data.lines = [{\"sku\":\"a\"}])",
        ),
        ('event.data["odd-name"] == 2', 'event.data["odd-name"] == 2 is false (event.data["odd-name"] = 1)'),
        ("event.data.lines[0].sku.startsWith('b')", "event.data.lines[0].sku.startsWith('b') is false (event.data.lines[0].sku = \"a\")"),
        ("event.data.total", "event.data.total can't be said: gave a number, not true or false (event.data.total = 80)"),
        ("false", "false is false"),
    ],
)  # fmt: skip
def test_the_false_term_is_named_with_its_values(text: str, told: str) -> None:
    """Of terms joined by `&&` the first that isn't true is told, with the values that it looked at."""
    assert why_false(text, EVENT, ("event",)) == told


def test_an_error_is_told_with_what_is_missing() -> None:
    """A term that can't be evaluated says why, and which path leads nowhere."""
    told = why_false("event.data.user.age > 1", EVENT, ("event",))
    assert told.startswith("event.data.user.age > 1 can't be said: ")
    assert told.endswith("(event.data.user.age is missing)")


def test_values_are_short() -> None:
    """A long value is cut: a sentence is no place for a payload."""
    assert len(values_seen("event.data.text == ''", {"event": EVENT})) < 90


@pytest.mark.parametrize(
    "text",
    ["", "event", "event.", "event[", "event.data[event.x].y", "'event.data.x'", "a.b.c(", "]][[..", "event.data['a\\'b']"],
)
def test_odd_texts_do_no_harm(text: str) -> None:
    """Whatever the text, looking for paths ends without an error."""
    paths(text)
    values_seen(text, {"event": EVENT})
