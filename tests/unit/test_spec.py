"""The function model: what it reads, what it refuses, and how it says so."""

import contextlib
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.errors import SpecError
from stepwell.spec import FunctionSpec
from stepwell.spec.function import (
    Backoff,
    CancelOn,
    Checkpointing,
    Concurrency,
    CronTrigger,
    EventTrigger,
    Timeouts,
    failure_spec,
    validate,
)


def fault(given: dict[str, Any]) -> SpecError:
    with pytest.raises(SpecError) as caught:
        validate({"id": "f", **given})
    return caught.value


def test_defaults_are_those_of_the_documentation() -> None:
    """A function with an id alone has four retries, the back-off table, and no limit of any kind."""
    spec = validate({"id": "f"})
    assert (spec.retries, spec.triggers, spec.concurrency, spec.idempotency, spec.cancel_on) == (4, (), (), None, ())
    assert (spec.backoff, spec.timeouts, spec.checkpointing) == (Backoff(), Timeouts(), Checkpointing())
    assert spec.backoff.table[0] == timedelta(seconds=15)
    assert spec.backoff.spread == timedelta(seconds=30)


def test_python_names_and_yaml_names_say_the_same() -> None:
    """The same options in snake_case and in camelCase make equal specs."""
    python = {
        "id": "f",
        "triggers": [EventTrigger("a/b", if_="event.data.x > 1"), CronTrigger("@daily", jitter="10s", missed="All")],
        "concurrency": Concurrency(5, key="event.data.customer"),
        "cancel_on": [CancelOn("a/c", if_="event.data.id == async.data.id", timeout="1d")],
        "timeouts": Timeouts(start="5m", finish="30m"),
        "checkpointing": Checkpointing(max_runtime="1m", buffered_steps=3),
        "backoff": Backoff("exponential", base="1s", max="1h", factor=3, jitter="1s"),
    }
    yaml = {
        "id": "f",
        "triggers": [{"event": "a/b", "if": "event.data.x > 1"}, {"cron": "@daily", "jitter": "10s", "missed": "All"}],
        "concurrency": [{"limit": 5, "key": "event.data.customer"}],
        "cancelOn": [{"event": "a/c", "if": "event.data.id == async.data.id", "timeout": "1d"}],
        "timeouts": {"start": "5m", "run": "30m"},
        "checkpointing": {"maxRuntime": "1m", "bufferedSteps": 3},
        "backoff": {"strategy": "exponential", "base": "1s", "max": "1h", "factor": 3, "jitter": "1s"},
    }
    assert validate(python) == validate(yaml)


@pytest.mark.parametrize(
    ("given", "limits"), [(10, [10]), ({"limit": 3}, [3]), (Concurrency(2), [2]), ([{"limit": 1}], [1]), ([], [])]
)
def test_concurrency_is_a_number_one_limit_or_a_list(given: object, limits: list[int]) -> None:
    """A number and a single limit stand for a list of one."""
    assert [one.limit for one in validate({"id": "f", "concurrency": given}).concurrency] == limits


FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"id": ""}, "id", "1 to 128 characters, not 0"),
    ({"id": "x" * 129}, "id", "not 129"),
    ({"id": "a b"}, "id", "letters, digits"),
    ({"id": "é"}, "id", "letters, digits"),
    ({"id": "f\n"}, "id", "letters, digits"),
    ({"id": "stepwell/f"}, "id", "engine's own"),
    ({"id": "inngest/f"}, "id", "engine's own"),
    ({"id": 7}, "id", "must be text, not 7"),
    ({"retries": 21}, "retries", "at most 20, not 21"),
    ({"retries": -1}, "retries", "at least 0"),
    ({"retries": "4"}, "retries", "whole number, not '4'"),
    ({"retries": True}, "retries", "whole number, not true"),
    ({"retries": None}, "retries", "whole number, not null"),
    ({"triggers": [{"event": "a"}] * 2}, "triggers[1]", "same event and `if` as triggers[0]"),
    (
        {"triggers": [{"cron": "@daily"}, {"cron": "0 0 * * *", "jitter": "10s"}]},
        "triggers[1]",
        "same cron expression as triggers[0]",
    ),
    ({"triggers": [{"event": f"a/{n}"} for n in range(11)]}, "triggers", "11 entries; at most 10"),
    (
        {"triggers": [{"event": "inngest/function.failed"}, {"event": "stepwell/function.failed"}]},
        "triggers[1]",
        "same event",
    ),
    ({"triggers": ["a/b"]}, "triggers[0]", "either `event`"),
    ({"triggers": [{"event": "a", "cron": "@daily"}]}, "triggers[0]", "either `event`"),
    ({"triggers": [{}]}, "triggers[0]", "either `event`"),
    ({"triggers": {}}, "triggers", "must be a list, not a mapping"),
    ({"triggers": [{"event": "a/*/b"}]}, "triggers[0].event", "stands at the end"),
    ({"triggers": [{"event": "a*"}]}, "triggers[0].event", "stands at the end"),
    ({"triggers": [{"event": "*"}]}, "triggers[0].event", "stands at the end"),
    ({"triggers": [{"event": "a/**"}]}, "triggers[0].event", "stands at the end"),
    ({"triggers": [{"event": "/*"}]}, "triggers[0].event", "stands at the end"),
    ({"triggers": [{"event": ""}]}, "triggers[0].event", "needs a name"),
    ({"triggers": [{"event": "x" * 256}]}, "triggers[0].event", "at most 255"),
    ({"triggers": [{"event": "a\nb"}]}, "triggers[0].event", "printable"),
    ({"triggers": [{"event": " a"}]}, "triggers[0].event", "blanks"),
    ({"triggers": [{"event": "a", "if": "evnt.x"}]}, "triggers[0].if", "there is no 'evnt'"),
    ({"triggers": [{"event": "a", "if": "async.x == 1"}]}, "triggers[0].if", "cancel_on and wait_for_event alone"),
    ({"triggers": [{"event": "a", "if": "'text'"}]}, "triggers[0].if", "gives text"),
    ({"triggers": [{"event": "a", "if": True}]}, "triggers[0].if", "must be text, not true"),
    ({"triggers": [{"event": "a", "when": "x"}]}, "triggers[0].when", "no such option"),
    ({"triggers": [{"cron": "0 0 31 2 *"}]}, "triggers[0].cron", "never fires"),
    ({"triggers": [{"cron": "@daily", "jitter": "6m"}]}, "triggers[0].jitter", "from 1s to 5m"),
    (
        {"triggers": [{"cron": "@daily", "missed": "skip"}]},
        "triggers[0].missed",
        "one of 'Skip', 'Latest' or 'All', not 'skip'",
    ),
    ({"triggers": [{"cron": "@daily", "window": "367d"}]}, "triggers[0].window", "at most 366d"),
    ({"cancel_on": [{"event": "a/*"}]}, "cancel_on[0].event", "for triggers alone"),
    ({"cancelOn": [{"event": "a", "if": "1 +"}]}, "cancelOn[0].if", "ends too early"),
    ({"cancel_on": [{"event": "a", "timeout": 0}]}, "cancel_on[0].timeout", "longer than 0"),
    ({"cancelOn": [{"event": "a"}] * 6}, "cancelOn", "6 entries; at most 5"),
    ({"concurrency": 0}, "concurrency[0].limit", "at least 1, not 0"),
    ({"concurrency": [{"limit": 1}, {"limit": 2}]}, "concurrency[1]", "same key and scope"),
    ({"concurrency": [{"limit": 1, "key": f"event.data.k{n}"} for n in range(3)]}, "concurrency", "3 entries; at most 2"),
    ({"concurrency": {"limit": 1, "scope": "namespace"}}, "concurrency[0].key", "needs a key"),
    ({"concurrency": {"limit": 1, "scope": "account"}}, "concurrency[0].scope", "one of 'function' or 'namespace'"),
    ({"concurrency": {"limit": 1, "key": "evnt.x"}}, "concurrency[0].key", "there is no 'evnt'"),
    ({"idempotency": "event.data."}, "idempotency", "ends too early"),
    ({"idempotency": "b'x'"}, "idempotency", "no key"),
    ({"timeouts": {"start": "soon"}}, "timeouts.start", "is not a duration"),
    ({"timeouts": {"finish": "1h", "run": "1h"}}, "timeouts.run", "another name for `finish`"),
    ({"timeouts": {"end": "1h"}}, "timeouts.end", "no such option; there are: start, finish"),
    ({"timeouts": "1h"}, "timeouts", "mapping of options"),
    ({"checkpointing": {"bufferedSteps": 0}}, "checkpointing.bufferedSteps", "at least 1"),
    ({"backoff": {"base": "1s"}}, "backoff.base", "no meaning for a table"),
    ({"backoff": {"strategy": "fixed", "factor": 2}}, "backoff.factor", "only exponential"),
    ({"backoff": {"strategy": "linear", "table": ["1s"]}}, "backoff.table", "no meaning"),
    ({"backoff": {"table": []}}, "backoff.table", "at least one"),
    ({"backoff": {"table": ["1s", "x"]}}, "backoff.table[1]", "is not a duration"),
    ({"backoff": {"strategy": "exponential", "factor": float("nan")}}, "backoff.factor", "must be a number"),
    ({"retris": 3}, "retris", "did you mean `retries`?"),
    ({"cancelon": []}, "cancelon", "did you mean `cancelOn`?"),
    ({"rateLimit": {}}, "rateLimit", "doesn't have that option yet"),
    ({"batch_events": {}}, "batch_events", "doesn't have that option yet"),
    ({"on_failure": "clean", "id": "x" * 121}, "id", "at most 120 characters"),
]


@pytest.mark.parametrize(("given", "path", "says"), FAULTS)
def test_what_is_wrong_is_refused_with_its_place_and_a_remedy(given: dict[str, Any], path: str, says: str) -> None:
    """Each fault is a SpecError with the path as it was written, and words that say what to do."""
    error = fault(given)
    assert error.path == path
    assert says in error.message
    assert str(error).startswith(f"{path}: ")


def test_a_missing_id_is_named() -> None:
    """A spec without an id says so."""
    with pytest.raises(SpecError, match="id: is missing"):
        validate({})


def test_every_fault_is_named_at_once() -> None:
    """Several faults come in one error, each on a line of its own with its path."""
    error = fault({"retries": 99, "triggers": [{"event": "a", "if": "evnt"}], "concurrency": -1, "nonsense": 1})
    text = str(error)
    assert text.startswith("4 faults:")
    for path in ("retries:", "triggers[0].if:", "concurrency[0].limit:", "nonsense:"):
        assert f"\n  {path}" in text


def test_an_expression_fault_has_its_column() -> None:
    """The column of a broken filter comes with the error, and a caret points to it."""
    error = fault({"triggers": [{"event": "a", "if": "event.data.x > 1 && evnt.y"}]})
    assert error.column == 21
    assert error.message.endswith("\n    event.data.x > 1 && evnt.y\n    " + " " * 20 + "^")


def test_a_function_has_at_most_ten_expressions() -> None:
    """Ten filters and keys are the budget of one function; the eleventh is refused."""
    triggers = [{"event": f"a/{n}", "if": f"event.data.x == {n}"} for n in range(10)]
    validate({"id": "f", "triggers": triggers})
    assert "11 expressions" in fault({"triggers": triggers, "idempotency": "event.data.id"}).message


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Concurrency(0), "Concurrency.limit: must be at least 1, not 0"),
        (lambda: CancelOn("a/b", if_="evnt"), "CancelOn.if: column 1"),
        (lambda: CancelOn("a/*"), "CancelOn.event: "),
        (lambda: Backoff(base="x"), "Backoff.base: 'x' is not a duration"),
        (lambda: Timeouts(start="1y"), "Timeouts.start: '1y' is not a duration"),
        (lambda: Checkpointing(max_interval=-1), "Checkpointing.max_interval: "),
        (lambda: CronTrigger("* * *"), "CronTrigger.cron: "),
        (lambda: EventTrigger(""), "EventTrigger.event: "),
        (lambda: EventTrigger.model_validate({"event": "a", "iff": "x"}), "iff: there is no such option; did you mean `if`?"),
    ],
)
def test_an_option_made_by_hand_is_checked_at_once(make: Any, says: str) -> None:
    """The classes that users import say what is wrong themselves, as a SpecError."""
    with pytest.raises(SpecError) as caught:
        make()
    assert str(caught.value).startswith(says)


def test_options_are_frozen_and_compare_by_value() -> None:
    """An option can't be changed; two with the same content are equal and hash alike."""
    one = Concurrency(5, key="event.data.k")
    assert one == Concurrency(limit=5, key="event.data.k")
    assert hash(one) == hash(Concurrency(5, key="event.data.k"))
    with pytest.raises(AttributeError):
        one.limit = 6  # type: ignore[misc]
    assert Timeouts("5m", 60).finish == timedelta(minutes=1)


def test_the_json_is_short_and_reads_back() -> None:
    """The stored JSON leaves out defaults, uses YAML's names, and gives an equal spec."""
    spec = validate({"id": "f", "retries": 2, "timeouts": {"run": "90s"}, "cancel_on": [CancelOn("a", timeout="1d")]})
    assert spec.to_json() == b'{"id":"f","retries":2,"cancelOn":[{"event":"a","timeout":"1d"}],"timeouts":{"finish":"1m30s"}}'
    assert FunctionSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize("data", [b"", b"[]", b'{"id": "f", "fromTheFuture": 1}', b'{"id": "f", "retries": 99}', b"\xff"])
def test_json_that_cannot_be_taken_is_refused(data: bytes) -> None:
    """Stored JSON that this version doesn't understand is a SpecError, never half a spec."""
    with pytest.raises(SpecError):
        FunctionSpec.from_json(data)


def test_a_cron_trigger_survives_its_json() -> None:
    """A trigger written to a schedule row is the same when it is read."""
    trigger = CronTrigger("TZ=Europe/Paris 0 12 * * 5", jitter="30s", missed="All", window="2h", overlap="Skip")
    assert CronTrigger.model_validate_json(trigger.model_dump_json(by_alias=True)) == trigger


def test_on_failure_makes_a_function_of_its_own() -> None:
    """The clean-up function listens to failures of its function alone and is retried like it."""
    assert failure_spec(validate({"id": "f"})) is None
    made = failure_spec(validate({"id": "f", "onFailure": "clean"}))
    assert made is not None
    assert (made.id, made.retries) == ("f-failure", 4)
    assert made.triggers == (EventTrigger("stepwell/function.failed", if_='event.data.function_id == "f"'),)


def test_the_model_has_a_json_schema() -> None:
    """A schema can be made from the model, with YAML's names and durations as text."""
    schema = FunctionSpec.model_json_schema(by_alias=True)
    assert {"id", "cancelOn", "onFailure"} <= set(schema["properties"])
    assert schema["$defs"]["CancelOn"]["properties"]["timeout"]["anyOf"][0]["type"] == "string"


LENGTHS = st.sampled_from(["250ms", "30s", "5m", "1h30m", "3d"])
SPECS = st.fixed_dictionaries(
    {"id": st.from_regex(r"[A-Za-z0-9._-]{1,20}", fullmatch=True), "retries": st.integers(0, 20)},
    optional={
        "triggers": st.lists(
            st.fixed_dictionaries({"event": st.sampled_from(["a/b", "a/*", "c"])}, optional={"if": st.just("event.data.x == 1")})
            | st.fixed_dictionaries(
                {"cron": st.sampled_from(["@daily", "5 * * * *"])}, optional={"window": LENGTHS, "overlap": st.just("Skip")}
            ),
            max_size=2,
            unique_by=lambda trigger: str(trigger.get("event", trigger.get("cron"))),
        ),
        "concurrency": st.integers(1, 9) | st.just([{"limit": 1}, {"limit": 2, "key": "event.data.k", "scope": "namespace"}]),
        "idempotency": st.just("event.data.id"),
        "cancel_on": st.lists(st.fixed_dictionaries({"event": st.just("x")}, optional={"timeout": LENGTHS}), max_size=2),
        "timeouts": st.fixed_dictionaries({}, optional={"start": LENGTHS, "run": LENGTHS}),
        "backoff": st.fixed_dictionaries(
            {"strategy": st.sampled_from(["fixed", "linear", "exponential"])}, optional={"base": LENGTHS, "max": LENGTHS}
        ),
        "checkpointing": st.fixed_dictionaries({}, optional={"max_runtime": LENGTHS, "buffered_steps": st.integers(1, 9)}),
    },
)


@given(SPECS)
def test_any_valid_spec_survives_its_json(given_spec: dict[str, Any]) -> None:
    """Whatever is configured comes back from the store unchanged, and its bytes are always the same."""
    spec = validate(given_spec)
    again = FunctionSpec.from_json(spec.to_json())
    assert again == spec
    assert again.to_json() == spec.to_json()


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["event", "cron", "if", "limit", "key", "start", "x"]), inner, max_size=3)
    ),
)


@given(
    st.dictionaries(
        st.sampled_from(["id", "triggers", "retries", "backoff", "concurrency", "idempotency", "cancelOn", "timeouts"]), JSON
    )
)
def test_nonsense_is_always_a_spec_error(given_spec: dict[str, Any]) -> None:
    """Whatever is given is a spec or a SpecError with a text, never another exception."""
    with contextlib.suppress(SpecError):
        assert validate(given_spec).id == given_spec["id"]
