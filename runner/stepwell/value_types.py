"""Annotated values: which type a callable is annotated to return, and how values of a type become plain JSON and come back.

A codec dumps a value to plain JSON values, verifies that what was written reads back as an equal value, and loads it. pydantic
does the work for models, dataclasses, TypedDicts, datetimes, Decimals, UUIDs, enums and generics of them; a type that it can't
handle counts as no annotation.
"""

import dataclasses
import functools
import inspect
import sys
import types
import typing
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, NotRequired, Required, cast
from weakref import WeakKeyDictionary

import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUndefinedAnnotation, PydanticUserError
from typing_extensions import TypedDict

from stepwell.errors import ValueRefused


class _Untyped:
    """No annotation: plain JSON."""

    def __repr__(self) -> str:
        return "UNTYPED"


UNTYPED: Any = _Untyped()
MOST_TYPES = 1024
_hints: "WeakKeyDictionary[Callable[..., Any], Any]" = WeakKeyDictionary()
_unhashable: dict[int, "tuple[Any, Codec | None]"] = {}


# --- what a callable returns ---


def hint_of(fn: Callable[..., Any]) -> Any:
    """The type that a callable is annotated to return, awaited; UNTYPED where it names none, or one that can't be resolved."""
    while isinstance(fn, functools.partial):
        fn = cast("Callable[..., Any]", fn.func)
    if isinstance(fn, type):
        return fn
    plain = getattr(fn, "__func__", fn)
    if not isinstance(plain, types.FunctionType):
        plain = getattr(type(plain).__call__, "__func__", type(plain).__call__)
    annotation = getattr(plain, "__annotations__", {}).get("return", UNTYPED)
    if annotation is UNTYPED:
        return UNTYPED
    try:
        return _hints[plain]
    except KeyError:
        hint = _hints[plain] = _resolved(plain, annotation)
        return hint


def _resolved(fn: Callable[..., Any], annotation: Any) -> Any:
    """Resolve the return annotation alone: a parameter whose type exists only for type checkers does no harm."""
    space = getattr(inspect.unwrap(fn), "__globals__", {})
    bare = types.SimpleNamespace(__annotations__={"return": annotation})
    try:
        hint = typing.get_type_hints(bare, space, include_extras=True)["return"]
    except Exception:  # noqa: BLE001 - evaluating a text annotation runs whatever it says
        return UNTYPED
    if typing.get_origin(hint) in (Awaitable, Coroutine):
        hint = typing.get_args(hint)[-1]
    return UNTYPED if hint in (Any, object) or isinstance(hint, typing.TypeVar) else hint


# --- codecs ---


@dataclass(frozen=True, slots=True)
class PlainCodec:
    """A type that plain JSON holds as it is: no pydantic on its way, but a value of another type is refused."""

    name: str
    kinds: tuple[type, ...]

    def dump(self, value: Any, where: str) -> Any:
        """The value itself; an integer where a float is annotated becomes one, if that loses nothing."""
        if type(value) not in self.kinds:
            raise ValueRefused(f"{type(value).__name__} where {self.name} is annotated; mend the annotation or the value", where)
        if self.kinds[0] is float and type(value) is int:
            try:
                if float(value) == value:
                    return float(value)
            except OverflowError:
                pass
            raise ValueRefused("an integer that no float holds exactly; annotate int", where)
        return value

    def verify(self, value: Any, data: bytes, where: str) -> None:
        """Nothing can get lost."""

    def load(self, data: bytes, where: str) -> Any:
        """The value read back."""
        value = orjson.loads(data)
        if type(value) not in self.kinds:
            raise ValueRefused(f"the recorded {type(value).__name__} does not fit {self.name}", where)
        return float(value) if self.kinds[0] is float else value


@dataclass(frozen=True, slots=True)
class TypedCodec:
    """A type that pydantic keeps. `name` is how people know it."""

    name: str
    adapter: TypeAdapter[Any]

    def dump(self, value: Any, where: str) -> Any:
        """The value as plain JSON values. ValueRefused for what doesn't fit the type or can't be dumped."""
        try:
            return self.adapter.dump_python(value, mode="json", warnings="error", round_trip=True)
        except Exception as error:  # noqa: BLE001 - users' serializers raise anything
            path, what = self._misfit(value, error)
        raise ValueRefused(f"the value does not fit {self.name}: {what}; mend the annotation or the value", where + path)

    def verify(self, value: Any, data: bytes, where: str) -> None:
        """Raise ValueRefused unless the written value reads back as an equal one: fields must not get lost silently."""
        try:
            back = self._validated(data)
        except ValidationError as error:
            path, what = _first(error)
            raise ValueRefused(f"{self.name} can't be read back from its JSON: {what}", where + path) from None
        lost = difference(value, back)
        if lost is not None:
            raise ValueRefused(f"{lost[1]}; annotate the type that is returned, with fields that JSON keeps", where + lost[0])

    def load(self, data: bytes, where: str) -> Any:
        """The value read back."""
        try:
            return self._validated(data)
        except ValidationError as error:
            path, what = _first(error)
        raise ValueRefused(f"the recorded value does not fit {self.name}: {what}", where + path)

    def _validated(self, data: bytes) -> Any:
        return self.adapter.validate_json(data, by_alias=True, by_name=True)

    def _misfit(self, value: Any, error: Exception) -> tuple[str, str]:
        """Where and why, without the value: what pydantic says of a failed dump shows it."""
        try:
            self.adapter.validate_python(value, strict=True, by_alias=True, by_name=True)
            dumped = self.adapter.dump_python(value, mode="json", warnings=False, round_trip=True)
            self.adapter.validate_python(dumped, by_alias=True, by_name=True)
        except ValidationError as misfit:
            return _first(misfit)
        except Exception as other:  # noqa: BLE001 - users' validators raise anything
            error = other
        return "", f"{type(value).__name__} can't be written ({type(error).__name__})"


Codec = PlainCodec | TypedCodec
_PLAIN: dict[Any, PlainCodec] = {
    str: PlainCodec("str", (str,)),
    int: PlainCodec("int", (int, bool)),
    bool: PlainCodec("bool", (bool,)),
    float: PlainCodec("float", (float, int)),
    type(None): PlainCodec("None", (type(None),)),
    None: PlainCodec("None", (type(None),)),
    dict: PlainCodec("dict", (dict,)),
    list: PlainCodec("list", (list,)),
    dict[str, Any]: PlainCodec("dict", (dict,)),
    list[Any]: PlainCodec("list", (list,)),
}


def codec_of(hint: Any) -> Codec | None:
    """The codec of a type, made once; None where the type says nothing or pydantic can't handle it."""
    try:
        return _codec(hint)
    except TypeError:  # not hashable: Annotated with a list in it, say
        known = _unhashable.get(id(hint))
    if known is None:
        if len(_unhashable) >= MOST_TYPES:
            _unhashable.clear()
        known = _unhashable[id(hint)] = (hint, _typed(hint))
    return known[1]


@lru_cache(MOST_TYPES)
def _codec(hint: Any) -> Codec | None:
    if hint in (Any, object):
        return None
    return _PLAIN.get(hint) or _typed(hint)


def _typed(hint: Any) -> TypedCodec | None:
    try:
        adapter = TypeAdapter[Any](modern(hint))
    except (PydanticSchemaGenerationError, PydanticUndefinedAnnotation, PydanticUserError, NameError, TypeError, RecursionError):
        return None
    if not adapter.pydantic_complete:
        return None
    return TypedCodec(hint.__name__ if isinstance(hint, type) else repr(hint).replace("typing.", ""), adapter)


def modern(hint: Any) -> Any:
    """The hint with a twin for each `typing.TypedDict` in it: before Python 3.12 pydantic takes typing_extensions' alone."""
    if sys.version_info >= (3, 12):
        return hint
    if typing.is_typeddict(hint) and type(hint).__module__ == "typing":
        return _twin(hint)
    args = typing.get_args(hint)
    new = tuple(modern(arg) for arg in args)
    if new == args:
        return hint
    origin = typing.get_origin(hint)
    if origin is Annotated:
        return Annotated[(new[0], *hint.__metadata__)]
    return typing.Union[new] if origin in (typing.Union, types.UnionType) else origin[new]  # noqa: UP007 - made at run time


@lru_cache(MOST_TYPES)
def _twin(hint: Any) -> Any:
    fields = {
        name: modern(kind)
        if typing.get_origin(kind) in (Required, NotRequired)
        else (Required if name in hint.__required_keys__ else NotRequired)[modern(kind)]
        for name, kind in typing.get_type_hints(hint, include_extras=True).items()
    }
    return cast("Any", TypedDict)(hint.__name__, fields)


# --- what got lost ---


def difference(value: Any, back: Any) -> tuple[str, str] | None:
    """The first place where what came back is not what was written, as (path, what), or None.

    A tuple may come back as a list. Classes without an equality of their own are compared by their fields.
    """
    if _equal(value, back):
        return None
    if type(value) in (list, tuple) and type(back) in (list, tuple) and len(value) == len(back):
        return _first_of((f"[{place}]", *pair) for place, pair in enumerate(zip(value, back, strict=True)))
    if isinstance(value, float) and back is None:
        return "", f"{value} is no JSON number"
    if type(value) is not type(back):
        return "", f"{type(value).__name__} comes back as {type(back).__name__}"
    members = _members(value)
    if members is not None:
        return _in_mappings(members, _members(back) or {})
    return None if type(value).__eq__ is object.__eq__ else ("", f"{type(value).__name__} does not come back as it was")


def member(key: Any) -> str:
    """How a path goes on into a dict or an object."""
    text = str(key)
    return f".{text}" if text.isidentifier() else f"[{text[:40]!a}]"


def _equal(value: Any, back: Any) -> bool:
    try:
        return bool(value == back)
    except Exception:  # noqa: BLE001 - users' __eq__ may raise or answer with an array
        return False


def _in_mappings(value: dict[Any, Any], back: dict[Any, Any]) -> tuple[str, str] | None:
    missing = next((key for key in value if key not in back), None)
    if missing is not None:
        return member(missing), "it is not kept"
    if len(value) != len(back):
        return "", "more comes back than was written"
    return _first_of((member(key), one, back[key]) for key, one in value.items())


def _first_of(parts: "typing.Iterable[tuple[str, Any, Any]]") -> tuple[str, str] | None:
    for path, value, back in parts:
        found = difference(value, back)
        if found is not None:
            return path + found[0], found[1]
    return None


def _members(value: Any) -> dict[Any, Any] | None:
    if isinstance(value, dict):
        return cast("dict[Any, Any]", value)
    if isinstance(value, BaseModel):
        return {name: getattr(value, name) for name in type(value).model_fields} | (value.model_extra or {})
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return None


def _first(error: ValidationError) -> tuple[str, str]:
    """Path and message of the first complaint, without the input."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    return "".join(f"[{part}]" if isinstance(part, int) else member(part) for part in first["loc"]), first["msg"]
