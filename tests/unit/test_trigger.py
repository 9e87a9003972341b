"""Which functions an event starts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.engine.expression import Activation
from stepwell.engine.trigger import Match, TriggerIndex, matching, native_name
from stepwell.spec.function import CronTrigger, EventTrigger


def event(name: str = "app/user.created", **data: object) -> Activation:
    return Activation({"id": "1", "name": name, "data": data, "ts": 0})


@pytest.mark.parametrize(
    ("pattern", "name", "does"),
    [
        ("app/user.created", "app/user.created", True),
        ("app/user.created", "app/user.createdx", False),
        ("app/*", "app/user.created", True),
        ("app/user.*", "app/user.created", True),
        ("app/user.*", "app/users.created", False),
        ("app/*", "app/", False),
        ("app/*", "application/x", False),
        ("inngest/function.failed", "stepwell/function.failed", True),
        ("inngest/function.*", "stepwell/function.finished", True),
        ("inngest/scheduled.timer", "stepwell/scheduled.timer", True),
        ("stepwell/function.failed", "stepwell/function.failed", True),
        ("order/created", "Order/created", False),
    ],
)
def test_names_match_exactly_or_by_a_trailing_wildcard(pattern: str, name: str, does: bool) -> None:
    """A name matches itself, a wildcard what is below it, and an `inngest/` system name its twin."""
    triggers = [EventTrigger(pattern)]
    assert (matching(triggers, event(name), name) is not None) is does
    assert bool(TriggerIndex([("f", triggers)]).candidates(name)) is does


def test_several_matching_triggers_are_one_match() -> None:
    """A function that an event reaches by three triggers is one candidate with one match."""
    triggers = [EventTrigger("app/*", if_="event.data.x > 1"), EventTrigger("app/user.created"), EventTrigger("app/user.*")]
    index = TriggerIndex([("f", triggers)])
    [(function_id, found)] = index.candidates("app/user.created")
    assert (function_id, len(found)) == ("f", 3)
    assert index.match(found, event(x=0)) == Match(matched=True)


def test_an_expression_decides_where_the_name_matches() -> None:
    """`if` true starts it, `if` false does not."""
    triggers = [EventTrigger("app/user.created", if_="event.data.x > 1")]
    assert matching(triggers, event(x=2), "app/user.created") == Match(matched=True)
    assert matching(triggers, event(x=1), "app/user.created") == Match(matched=False)


def test_an_expression_error_is_no_match_and_is_told() -> None:
    """An expression that can't be evaluated doesn't match, and the answer names it and the reason."""
    found = matching([EventTrigger("app/a", if_="event.data.x > 1")], event("app/a"), "app/a")
    assert found is not None
    assert not found.matched
    assert found.errors == ('event.data.x > 1: Key not found in map : "x"',)


def test_an_error_in_one_trigger_does_not_hide_another() -> None:
    """The event still starts the function through a trigger that can be evaluated; the error is told all the same."""
    triggers = [EventTrigger("app/a", if_="event.data.x > 1"), EventTrigger("app/*", if_="event.data.y == 1")]
    found = matching(triggers, event("app/a", y=1), "app/a")
    assert found is not None
    assert found.matched
    assert len(found.errors) == 1


def test_cron_triggers_match_no_event() -> None:
    """A function with cron triggers alone is no candidate for any event."""
    triggers = [CronTrigger("@daily")]
    assert matching(triggers, event("stepwell/scheduled.timer"), "stepwell/scheduled.timer") is None
    assert TriggerIndex([("f", triggers)]).candidates("stepwell/scheduled.timer") == []


def test_the_index_knows_who_hears_system_events() -> None:
    """A trigger on a system event, by either prefix or a wildcard over it, is heard."""
    assert TriggerIndex([("f", [EventTrigger("inngest/function.failed")])]).hears("stepwell/function.")
    assert TriggerIndex([("f", [EventTrigger("stepwell/*")])]).hears("stepwell/function.")
    assert TriggerIndex([("f", [EventTrigger("stepwell/function.*")])]).hears("stepwell/function.")
    assert not TriggerIndex([("f", [EventTrigger("app/*")])]).hears("stepwell/function.")


def test_only_system_names_have_twins() -> None:
    """`inngest/function.*` and `inngest/scheduled.timer` are ours under another name; other names stay."""
    assert native_name("inngest/function.failed") == "stepwell/function.failed"
    assert native_name("inngest/other") == "inngest/other"
    assert native_name("app/inngest/function.failed") == "app/inngest/function.failed"


NAMES = st.lists(st.sampled_from(["a", "b", "/", "."]), min_size=1, max_size=6).map("".join)
PATTERNS = NAMES | NAMES.map(lambda name: f"x{name}/*") | NAMES.map(lambda name: f"x{name}.*")


@given(st.lists(st.lists(PATTERNS, max_size=3), max_size=5), NAMES | NAMES.map(lambda name: f"x{name}"))
def test_the_index_finds_what_asking_each_function_finds(functions: list[list[str]], name: str) -> None:
    """Candidates by index are those that matching finds function by function, each once."""
    known = [(str(place), [EventTrigger(pattern) for pattern in patterns]) for place, patterns in enumerate(functions)]
    found = [function_id for function_id, _triggers in TriggerIndex(known).candidates(name)]
    expected = [function_id for function_id, triggers in known if matching(triggers, event(name), name) is not None]
    assert sorted(found) == sorted(expected)
