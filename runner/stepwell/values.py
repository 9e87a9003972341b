"""One strict JSON codec. A value either round-trips or fails loudly, naming step, path and remedy; there is no pickle.

User code always receives the decoded form of the encoded value, on the first pass as on replay. Without an annotation a value is
plain JSON: None, bool, integers of 64 bits, finite floats, text, lists, tuples (which come back as lists) and dicts with text
as keys. Annotated types go through pydantic (`value_types`) and come back as themselves.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any, cast

import orjson

from stepwell.errors import TooLarge, ValueRefused
from stepwell.recorded_error import decode_error, encode_error
from stepwell.value_types import UNTYPED, codec_of, hint_of, member

KIB, MIB = 1024, 1024 * 1024
MAX_EVENT = 512 * KIB
MAX_STEP_RESULT = 4 * MIB
MAX_RUN_STATE = 32 * MIB
MAX_STEPS = 1000
MAX_BATCH_EVENTS = 1000
MAX_BATCH = 4 * MIB
MAX_DEPTH = 64

_kind_of: Callable[[object], object] = type
_WHOLES: frozenset[object] = frozenset({dict, list, tuple})
_LEAVES: frozenset[object] = frozenset({int, bool, type(None)})
_DIGITS = bytes.maketrans(b"123456789", b"0" * 9)
_LONG = b"0" * 19


def encode(value: Any, where: str, hint: Any = UNTYPED) -> bytes:
    """The value as JSON, in the form that `decode` turns back into an equal value.

    `where` names the value for people ("step 'fetch': result"); `hint` is its annotation. ValueRefused names `where`, the path
    in the value and the remedy; TooLarge is raised for what is over any limit here (4 MiB) without writing it out.
    """
    codec = None if hint is UNTYPED else codec_of(hint)
    if codec is None:
        return _write(value, where)
    data = _write(codec.dump(value, where), where)
    codec.verify(value, data, where)
    return data


def decode(data: bytes, hint: Any = UNTYPED) -> Any:
    """What `encode` wrote, as the type of the hint. ValueRefused where the hint has changed and the value doesn't fit it."""
    codec = None if hint is UNTYPED else codec_of(hint)
    return orjson.loads(data) if codec is None else codec.load(data, "result")


def parse(data: bytes, where: str) -> Any:
    """Somebody else's JSON. Raises orjson.JSONDecodeError for what is no JSON.

    Unlike `decode` it refuses (ValueRefused) what would change silently: integers over 64 bits, which orjson makes floats of.
    Whether `encode` takes the value is not looked at.
    """
    value = orjson.loads(data)
    if _LONG in data.translate(_DIGITS):
        json.loads(data, parse_int=lambda digits: _check_digits(digits, where))
    return value


def canonical(value: Any) -> bytes:
    """The JSON of a value with sorted keys: equal values give equal bytes."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def body_hash(value: Any) -> bytes:
    """SHA-256 of the canonical JSON: tells whether two senders said the same."""
    return hashlib.sha256(canonical(value)).digest()


def digest(data: bytes) -> str:
    """A short name for bytes: 32 hex digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def check_size(thing: str, size: int, limit: int) -> None:
    """Raise TooLarge where `thing` has more bytes than its limit."""
    if size > limit:
        raise TooLarge(f"{thing} has {size:,} bytes; the limit is {limit:,}. Keep large data elsewhere and hand on where it is")


# --- writing ---


class _Unsound(Exception):
    """Somewhere in the value is what JSON has not; `_complain` says where."""


def _write(value: Any, where: str) -> bytes:
    """Write plain JSON. What orjson itself refuses or shows in its output isn't looked for before."""
    try:
        if _room_left((value,), MAX_STEP_RESULT + 2, -1) < 0:
            raise TooLarge(f"{where} has more than {MAX_STEP_RESULT:,} bytes, the limit. Keep large data elsewhere")
        data = orjson.dumps(value)
    except (_Unsound, TypeError) as error:
        _complain(value, where, 0)
        raise ValueRefused(f"it can't be written as JSON: {error}", where) from None
    if b"\\u0000" in data:
        _complain(value, where, 0)
    return data


def _room_left(whole: Any, room: int, depth: int) -> int:
    """How many of `room` bytes are left beside a dict, list or tuple, at most; negative: too large.

    _Unsound for what orjson would let pass: other types, NaN, depth. Shared parts, which multiply as they are written, count
    each time.
    """
    if depth >= MAX_DEPTH:
        raise _Unsound
    room -= 2 * len(whole)
    if room < 0:
        return room
    kind = _kind_of(whole)
    parts: Iterable[Any] = whole.values() if kind is dict else whole
    for part in parts:
        kind = _kind_of(part)
        if kind is str:
            room -= len(part)
        elif kind in _WHOLES:
            room = _room_left(part, room, depth + 1)
        elif kind is float:
            if part - part != 0:
                raise _Unsound
        elif kind not in _LEAVES:
            raise _Unsound
    return room


def _complain(value: Any, path: str, depth: int) -> None:
    """Raise ValueRefused for the first thing in the value that JSON can't hold."""
    if type(value) not in _WHOLES:
        _complain_of_leaf(value, path)
    elif depth >= MAX_DEPTH:
        raise ValueRefused(f"nested deeper than {MAX_DEPTH} levels; flatten it", path)
    elif type(value) is dict:
        for key, part in cast("dict[Any, Any]", value).items():
            if type(key) is not str:
                raise ValueRefused(f"a key is {type(key).__name__}; keys are text in JSON: use str(key)", path)
            _complain_of_leaf(key, path)
            _complain(part, path + member(key), depth + 1)
    else:
        for place, part in enumerate(value):
            _complain(part, f"{path}[{place}]", depth + 1)


def _complain_of_leaf(value: Any, path: str) -> None:
    kind = cast("type[Any]", type(value))
    if kind is str:
        _complain_of_text(value, path)
    elif kind is int:
        if not _fits(value):
            raise ValueRefused(f"an integer of {value.bit_length()} bits; more than 64 are not kept: make text of it", path)
    elif kind is float:
        if value - value != 0:
            raise ValueRefused(f"{value} is no JSON number; use None, or text", path)
    elif kind not in _LEAVES:
        raise ValueRefused(f"{kind.__name__} is no JSON; {_remedy(kind)}", path)


def _complain_of_text(text: str, path: str) -> None:
    if "\0" in text:
        raise ValueRefused("the text holds a NUL character; remove it, or encode the bytes as base64", path)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueRefused("the text holds a lone surrogate, which is no Unicode; decode with errors='replace'", path) from None


def _remedy(kind: type[Any]) -> str:
    if issubclass(kind, (bytes, bytearray, memoryview)):
        return "encode it as base64 text"
    if issubclass(kind, (set, frozenset)):
        return "make a sorted list of it"
    for plain in (dict, list, tuple, str, int, float):
        if issubclass(kind, plain):
            return f"make a plain {plain.__name__} of it"
    return f"make plain values of it or, in a result, annotate the return type ({kind.__name__}), so that it comes back as itself"


def _fits(number: int) -> bool:
    return -(2**63) <= number < 2**64


def _check_digits(digits: str, where: str) -> int:
    if len(digits) > 21 or not _fits(int(digits)):
        raise ValueRefused(f"an integer of {len(digits.lstrip('-'))} digits; more than 64 bits are not kept: send text", where)
    return 0


__all__ = [
    "MAX_BATCH",
    "MAX_BATCH_EVENTS",
    "MAX_DEPTH",
    "MAX_EVENT",
    "MAX_RUN_STATE",
    "MAX_STEPS",
    "MAX_STEP_RESULT",
    "UNTYPED",
    "body_hash",
    "canonical",
    "check_size",
    "decode",
    "decode_error",
    "digest",
    "encode",
    "encode_error",
    "hint_of",
]
