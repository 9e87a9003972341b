"""One strict JSON codec. A value either round-trips or fails loudly, naming step, path and remedy; there is no pickle.

User code always receives the decoded form of the encoded value, on the first pass as on replay. Annotated types go through
pydantic; without an annotation a value is plain JSON (a tuple comes back as a list).
"""

import hashlib
import inspect
import math
import traceback
import typing
from collections.abc import Awaitable, Callable, Coroutine
from functools import lru_cache
from typing import Any, cast
from weakref import WeakKeyDictionary

import orjson
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUndefinedAnnotation, PydanticUserError

from stepwell.errors import Cause, TooLarge, ValueRefused

KIB, MIB = 1024, 1024 * 1024
MAX_EVENT = 512 * KIB
MAX_STEP_RESULT = 4 * MIB
MAX_RUN_STATE = 32 * MIB
MAX_STEPS = 1000
MAX_BATCH_EVENTS = 1000
MAX_BATCH = 4 * MIB
MAX_DEPTH = 64
MAX_STACK = 8 * KIB
MAX_CAUSES = 5


class _Untyped:
    """No annotation: plain JSON."""

    def __repr__(self) -> str:
        return "UNTYPED"


UNTYPED: Any = _Untyped()
_PLAIN = frozenset({Any, object, None, type(None)})
_hints: "WeakKeyDictionary[Callable[..., Any], Any]" = WeakKeyDictionary()


def encode(value: Any, where: str, hint: Any = UNTYPED) -> bytes:
    """The value as JSON. ValueRefused names `where`, the path in the value and the remedy."""
    adapter = None if hint is UNTYPED else _adapter(hint)
    if adapter is not None:
        value = _dumped(adapter, value, where)
    _check(value, where, 0)
    try:
        return orjson.dumps(value)
    except (TypeError, orjson.JSONEncodeError) as error:
        raise ValueRefused(f"{error}; return text, numbers, lists and dicts, or annotate the return type", where) from None


def decode(data: bytes, hint: Any = UNTYPED) -> Any:
    """What `encode` wrote, as the type of the hint."""
    adapter = None if hint is UNTYPED else _adapter(hint)
    value = orjson.loads(data)
    if adapter is None:
        return value
    try:
        return adapter.validate_json(data)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        path = "".join(_part(part) for part in first["loc"])
        raise ValueRefused(f"the recorded value does not fit {hint!r}: {first['msg']}", f"result{path}") from None


def hint_of(fn: Callable[..., Any]) -> Any:
    """The type that a callable is annotated to return, awaited; UNTYPED where there is none."""
    try:
        return _hints[fn]
    except (KeyError, TypeError):
        pass
    hint = _resolved(fn)
    try:
        _hints[fn] = hint
    except TypeError:
        return hint
    return hint


def canonical(value: Any) -> bytes:
    """The JSON of a value with sorted keys: equal values give equal bytes."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def digest(data: bytes) -> str:
    """A short name for bytes: 32 hex digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def check_size(thing: str, size: int, limit: int) -> None:
    """Raise TooLarge where `thing` has more bytes than its limit."""
    if size > limit:
        raise TooLarge(f"{thing} has {size:,} bytes; the limit is {limit:,}. Keep large data elsewhere and hand on where it is")


def encode_error(error: BaseException, attempts: int) -> bytes:
    """An exception as JSON: name, message, attempts, cause, and a stack without locals. It never fails."""
    stack = "".join(traceback.format_exception(error, limit=-20))[-MAX_STACK:]
    document: dict[str, Any] = {"name": type(error).__name__, "message": _message(error), "attempts": attempts, "stack": stack}
    cause = _cause(error, 0)
    if cause is not None:
        document["cause"] = cause
    return orjson.dumps(_cleaned(document))


def decode_error(data: bytes) -> tuple[str, str, Cause | None, int]:
    """Name, message, cause and attempts of a recorded error."""
    document = cast("dict[str, Any]", orjson.loads(data))
    return (
        str(document.get("name", "Error")),
        str(document.get("message", "")),
        _read_cause(document.get("cause")),
        int(document.get("attempts", 1)),
    )


# --- the check ---


def _check(value: Any, path: str, depth: int) -> None:
    kind = cast("type[Any]", type(value))
    if kind is str:
        _check_text(value, path)
    elif kind is int or value is None or kind is bool:
        if kind is int and not -(2**63) <= cast("int", value) < 2**64:
            raise ValueRefused(f"the integer {value:.3e} has more than 64 bits; keep it as text", path)
    elif kind is float:
        if not math.isfinite(value):
            raise ValueRefused(f"{value} is no JSON number; use None, or text", path)
    elif depth >= MAX_DEPTH:
        raise ValueRefused(f"nested deeper than {MAX_DEPTH} levels; flatten it", path)
    elif kind is dict:
        for key, one in value.items():
            if type(key) is not str:
                raise ValueRefused(f"the key {key!r} is {type(key).__name__}; JSON keys are text: use str(key)", path)
            _check_text(key, path)
            _check(one, f"{path}.{key}", depth + 1)
    elif kind is list or kind is tuple:
        for place, one in enumerate(value):
            _check(one, f"{path}[{place}]", depth + 1)
    else:
        remedy = (
            "annotate the return type, so that it is kept as itself"
            if kind not in (set, frozenset, bytes)
            else "make a list or text of it"
        )
        raise ValueRefused(f"{kind.__name__} is no JSON; {remedy}", path)


def _check_text(text: str, path: str) -> None:
    if "\0" in text:
        raise ValueRefused("the text holds a NUL character; remove it, or encode the bytes as base64", path)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueRefused(
                "the text holds a lone surrogate, which is no Unicode; decode with errors='replace'", path
            ) from None


# --- types ---


@lru_cache(1024)
def _adapter_of(hint: Any) -> TypeAdapter[Any] | None:
    try:
        return TypeAdapter(hint)
    except (PydanticSchemaGenerationError, PydanticUndefinedAnnotation, PydanticUserError, NameError, TypeError):
        return None


def _adapter(hint: Any) -> TypeAdapter[Any] | None:
    if _is_plain(hint):
        return None
    try:
        return _adapter_of(hint)
    except TypeError:
        return None


def _is_plain(hint: Any) -> bool:
    try:
        return hint in _PLAIN or hint in (int, str, float, bool, list, dict) or hint == dict[str, Any] or hint == list[Any]
    except TypeError:
        return False


def _dumped(adapter: TypeAdapter[Any], value: Any, where: str) -> Any:
    try:
        return adapter.dump_python(value, mode="json", warnings="error")
    except Exception as error:  # noqa: BLE001 - pydantic raises many kinds
        raise ValueRefused(f"the value does not fit its annotation: {error}", where) from None


def _resolved(fn: Callable[..., Any]) -> Any:
    try:
        hint = typing.get_type_hints(inspect.unwrap(fn), include_extras=True).get("return", UNTYPED)
    except (NameError, TypeError, AttributeError):
        return UNTYPED
    if typing.get_origin(hint) in (Awaitable, Coroutine):
        hint = typing.get_args(hint)[-1]
    return UNTYPED if hint is Any or isinstance(hint, typing.TypeVar) else hint


# --- errors ---


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide the error
        return f"<{type(error).__name__} has no readable text>"


def _cause(error: BaseException, depth: int) -> dict[str, Any] | None:
    inner = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    recorded = getattr(error, "cause", None)
    if inner is None and isinstance(recorded, Cause):
        return _cause_of(recorded)
    if inner is None or depth >= MAX_CAUSES:
        return None
    document: dict[str, Any] = {"name": type(inner).__name__, "message": _message(inner)}
    deeper = _cause(inner, depth + 1)
    if deeper is not None:
        document["cause"] = deeper
    return document


def _cause_of(cause: Cause) -> dict[str, Any]:
    document: dict[str, Any] = {"name": cause.name, "message": cause.message}
    if cause.cause is not None:
        document["cause"] = _cause_of(cause.cause)
    return document


def _read_cause(document: Any) -> Cause | None:
    if not isinstance(document, dict):
        return None
    found = cast("dict[str, Any]", document)
    return Cause(str(found.get("name", "Error")), str(found.get("message", "")), _read_cause(found.get("cause")))


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {key: _cleaned(one) for key, one in cast("dict[str, Any]", value).items()}
    return value


def _part(part: int | str) -> str:
    return f"[{part}]" if isinstance(part, int) else f".{part}"
