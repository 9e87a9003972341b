"""Annotated values: they come back as themselves, or are refused with their place; and where annotations are found."""

import dataclasses
import enum
import functools
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypedDict, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, computed_field

from stepwell import values
from stepwell.errors import ValueRefused
from stepwell.value_types import difference

WHERE = "step 'fetch': result"
T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    BLUE = 2


class Item(BaseModel):
    name: str
    when: datetime
    price: Decimal = Decimal("1.50")
    colour: Colour = Colour.RED


class Order(BaseModel):
    id: UUID
    items: list[Item]
    notes: dict[str, Any] = {}
    parent: "Order | None" = None


class Aliased(BaseModel):
    user_id: int = Field(alias="userId")
    apart: str = Field("x", validation_alias="in", serialization_alias="out")


class Computed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    width: int

    @computed_field
    @property
    def area(self) -> int:
        return self.width**2


class Base(BaseModel):
    a: int


class Derived(Base):
    b: int


class Holds(BaseModel):
    secret: SecretStr


class Hides(BaseModel):
    a: int
    b: int = Field(1, exclude=True)


class Locked(BaseModel):
    a: int
    _lock: Any = PrivateAttr(default_factory=threading.Lock)


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int


@dataclass(frozen=True, slots=True)
class Place:
    city: str
    since: date
    tags: tuple[str, ...] = ()
    more: dict[int, "Place"] = field(default_factory=dict)


@dataclass(eq=False)
class Unequal:
    a: int
    when: datetime


class Row(TypedDict, total=False):
    id: int
    when: datetime


class Book(TypedDict):
    rows: list[Row]
    first: Row | None
    by: NotRequired[UUID]


class Point(NamedTuple):
    x: int
    when: datetime


class Page(BaseModel, Generic[T]):
    rows: list[T]


class Custom:
    """What pydantic knows nothing of."""


NOW = datetime(2026, 11, 23, 9, 0, 0, 123456, tzinfo=UTC)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=10)
WHEN = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-3, minutes=-30))])) | st.datetimes()
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False)
ITEMS = st.builds(Item, name=TEXT, when=WHEN, price=DECIMALS, colour=st.sampled_from(Colour))
PLACES = st.builds(Place, TEXT, st.dates(), st.lists(TEXT, max_size=2).map(tuple))
ROWS = st.fixed_dictionaries({}, optional={"id": st.integers(0, 9), "when": WHEN})
UUIDS = st.uuids()
TYPED: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (Item, ITEMS),
    (list[Item], st.lists(ITEMS, max_size=3)),
    (Item | None, st.none() | ITEMS),
    (Order, st.builds(Order, id=st.uuids(), items=st.lists(ITEMS, max_size=2), notes=st.dictionaries(TEXT, st.integers(0, 9)))),
    (Place, PLACES),
    (dict[int, Place], st.dictionaries(st.integers(), PLACES, max_size=2)),
    (datetime, WHEN),
    (date, st.dates()),
    (timedelta, st.timedeltas(timedelta(days=-(10**6)), timedelta(days=10**6))),
    (Decimal, DECIMALS),
    (UUID, st.uuids()),
    (Colour, st.sampled_from(Colour)),
    (tuple[int, str], st.tuples(st.integers(0, 9), TEXT)),
    (set[int], st.sets(st.integers(-(2**63), 2**64 - 1))),
    (frozenset[date], st.frozensets(st.dates(), max_size=3)),
    (Row, ROWS),
    (Book, st.fixed_dictionaries({"rows": st.lists(ROWS, max_size=2), "first": st.none() | ROWS}, optional={"by": UUIDS})),
    (dict[str, Row | None], st.dictionaries(TEXT, st.none() | ROWS, max_size=2)),
    (Annotated[list[Row], "noted"], st.lists(ROWS, max_size=2)),
    (Point, st.builds(Point, st.integers(0, 9), WHEN)),
    (Page[Place], st.builds(Page[Place], rows=st.lists(PLACES, max_size=2))),
    (int, st.integers(-(2**63), 2**64 - 1) | st.booleans()),
    (float, st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)),
    (str, TEXT),
    (dict[str, Any], st.dictionaries(TEXT, st.integers(0, 9) | TEXT)),
    (int | str, st.integers(0, 9) | TEXT),
    (Annotated[int, Field(ge=0)], st.integers(0, 9)),
    (Annotated[int, Field(ge=0), ["no hash"]], st.integers(0, 9)),
    (Literal["a", 1], st.sampled_from(["a", 1])),
]


@given(st.data(), st.sampled_from(TYPED))
def test_an_annotated_value_comes_back_as_itself(data: st.DataObject, typed: tuple[Any, st.SearchStrategy[Any]]) -> None:
    """A value of an annotated type decodes to an equal value of that type, which encodes to the same again."""
    hint, strategy = typed
    value = data.draw(strategy)
    written = values.encode(value, WHERE, hint)
    back = values.decode(written, hint)
    assert back == value
    assert type(back) is (float if hint is float else type(value))
    again = values.encode(back, WHERE, hint)
    if hint not in (set[int], frozenset[date]):
        assert orjson.loads(again) == orjson.loads(written)
        assert values.encode(values.decode(again, hint), WHERE, hint) == again


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (Aliased, Aliased(userId=7, **{"in": "y"})),
        (Computed, Computed(width=3)),
        (Open, Open.model_validate({"a": 1, "more": [1, 2]})),
        (bytes, b"plain"),
        (time, time(9, 30)),
        (PurePosixPath, PurePosixPath("/a/b")),
        (Mapping[str, datetime], {"a": NOW}),
        (dict[Colour, int], {Colour.RED: 1}),
        (datetime, NOW.astimezone(ZoneInfo("Europe/Paris"))),
        (Any, {"a": 1}),
        (object, [1]),
        (None, None),
    ],
)
def test_models_of_all_sorts_come_back_equal(hint: Any, value: Any) -> None:
    """Aliases, computed fields, extra fields and the like don't stand in the way."""
    assert values.decode(values.encode(value, WHERE, hint), hint) == value


def test_what_has_no_equality_is_compared_by_its_fields() -> None:
    """A class without `__eq__`, or with private state, is kept by its fields."""
    back = values.decode(values.encode([Unequal(1, NOW)], WHERE, list[Unequal]), list[Unequal])
    assert (type(back[0]), back[0].a, back[0].when) == (Unequal, 1, NOW)
    assert values.decode(values.encode(Locked(a=1), WHERE, Locked), Locked).a == 1


@pytest.mark.parametrize(
    ("hint", "value", "path", "says"),
    [
        (Item, {"name": "a"}, "", "the value does not fit Item"),
        (list[Item], [1], "[0]", "the value does not fit list["),
        (Item, Item.model_construct(name=3, when=NOW), ".name", "valid string"),
        (Order, Order(id=UUID(int=1), items=[], notes={"s": {"x": {1, 2}}}), ".notes.s.x", "set comes back as list"),
        (Order, Order(id=UUID(int=1), items=[], notes={"n": float("nan")}), ".notes.n", "nan is no JSON number"),
        (Order, Order(id=UUID(int=1), items=[], notes={"n": "a\0"}), ".notes.n", "NUL"),
        (Base, Derived(a=1, b=2), "", "Derived comes back as Base"),
        (list[Base], [Base(a=1), Derived(a=1, b=2)], "[1]", "Derived comes back as Base"),
        (Holds, Holds(secret=SecretStr("x")), ".secret", "SecretStr does not come back as it was"),
        (Hides, Hides(a=1, b=2), ".b", "does not come back as it was"),
        (bytes, b"\xff", "", "bytes can't be written"),
        (datetime, "2026-01-01", "", "the value does not fit datetime"),
        (Decimal, Decimal("NaN"), "", ""),
        (set[int], {2**64}, "[0]", "more than 64"),
        (list[int], [1, "2"], "[1]", "valid integer"),
        (list[int], (1, 2), "", "valid list"),
        (dict[str, datetime], {"a b": 1}, "['a b']", "valid datetime"),
        (Literal["a"], "b", "", "Input should be 'a'"),
        (int, "1", "", "str where int is annotated"),
        (str, None, "", "NoneType where str is annotated"),
        (bool, 1, "", "int where bool is annotated"),
        (dict[str, Any], [1], "", "list where dict is annotated"),
        (None, 1, "", "int where None is annotated"),
        (float, 2**53 + 1, "", "no float holds exactly"),
        (float, 2**1024, "", "no float holds exactly"),
        (float, float("inf"), "", "inf is no JSON number"),
        (Iterator[int], iter([1]), "", ""),
        (Custom, Custom(), "", "Custom is no JSON"),
    ],
)
def test_what_would_not_come_back_is_refused_with_its_place(hint: Any, value: Any, path: str, says: str) -> None:
    """A value that doesn't fit its annotation, or would lose something, is refused; its place is told."""
    with pytest.raises(ValueRefused) as refused:
        values.encode(value, WHERE, hint)
    assert refused.value.path.startswith(WHERE + path)
    assert says in str(refused.value)


def test_a_refusal_does_not_show_the_value() -> None:
    """No payload gets into the message: it is logged."""
    for hint, value in ((Item, Item.model_construct(name=3, when="hunter2")), (list[int], ["hunter2"])):
        with pytest.raises(ValueRefused) as refused:
            values.encode(value, WHERE, hint)
        assert "hunter2" not in str(refused.value)
    with pytest.raises(ValueRefused) as refused:
        values.decode(b'{"name": "hunter2"}', Item)
    assert "hunter2" not in str(refused.value)


def test_a_recorded_value_that_no_longer_fits_is_refused() -> None:
    """After a change of annotation a recorded value is read as the new type, or refused, never handed over as another."""
    assert values.decode(b"1", float) == 1.0
    assert values.decode(b'["2026-01-01"]', list[date]) == [date(2026, 1, 1)]
    for data, hint, path in ((b"1", str, "result"), (b'[{"name": 1}]', list[Item], "result[0].name"), (b"null", int, "result")):
        with pytest.raises(ValueRefused, match="the recorded") as refused:
            values.decode(data, hint)
        assert refused.value.path == path


# --- where the annotation is found ---


async def awaited() -> Item: ...
def eventual() -> Awaitable[list[Item]]: ...
def coroutine() -> Coroutine[Any, Any, Item]: ...
def textual() -> "dict[str, Item]": ...
def half_known(arg: "Unknown") -> Item: ...  # noqa: F821
def unknown() -> "Unknown": ...  # noqa: F821
def silent(): ...
def anything() -> Any: ...
def generic(value: T) -> T: ...
def nothing() -> None: ...
def noted() -> Annotated[int, "noted"]: ...


def logged(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def call(*args: Any) -> Any:
        return fn(*args)

    return call


class Service:
    def load(self) -> Item: ...

    @staticmethod
    def make() -> Item: ...

    @classmethod
    def build(cls) -> "Service": ...

    def __call__(self) -> Place: ...


@pytest.mark.parametrize(
    ("fn", "hint"),
    [
        (awaited, Item),
        (eventual, list[Item]),
        (coroutine, Item),
        (textual, dict[str, Item]),
        (half_known, Item),
        (unknown, values.UNTYPED),
        (silent, values.UNTYPED),
        (anything, values.UNTYPED),
        (generic, values.UNTYPED),
        (lambda: 1, values.UNTYPED),
        (len, values.UNTYPED),
        (nothing, type(None)),
        (noted, Annotated[int, "noted"]),
        (logged(textual), dict[str, Item]),
        (functools.partial(functools.partial(awaited)), Item),
        (Service().load, Item),
        (Service.make, Item),
        (Service.build, Service),
        (Service(), Place),
        (Item, Item),
        (dataclasses.replace, values.UNTYPED),
    ],
)
def test_the_hint_is_the_awaited_return_annotation(fn: Any, hint: Any) -> None:
    """Functions, methods, partials, callable objects and classes tell what they return; the rest is untyped."""
    assert values.hint_of(fn) == hint
    assert values.hint_of(fn) == hint


def test_a_type_that_pydantic_cannot_handle_counts_as_no_annotation() -> None:
    """Plain JSON goes through where the annotated class is unknown to pydantic."""
    assert values.decode(values.encode({"a": 1}, WHERE, Custom), Custom) == {"a": 1}


def test_the_difference_between_values_is_found_where_it_is() -> None:
    """Missing and surplus keys, lengths, and objects whose equality fails are told apart by path."""
    assert difference({"a": [1, 2]}, {"a": [1, 2]}) is None
    assert difference({"a": [1, 2]}, {"a": [1, 3]}) == (".a[1]", "int does not come back as it was")
    assert difference([1], [1, 2]) == ("", "list does not come back as it was")
    assert difference({"a": 1}, {}) == (".a", "it is not kept")
    assert difference({}, {"a": 1}) == ("", "more comes back than was written")
    assert difference((1, [2]), [1, (2,)]) is None
