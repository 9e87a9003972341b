"""Expressions where events meet waits: the equality in a filter becomes an index key, the rest is evaluated. Pure.

`event.data.orderId == async.data.orderId && async.data.paid` is found by the digest of (event name, `data.orderId`, value);
what is left to evaluate on the few candidates is `async.data.paid`. Compiling and evaluating: `stepwell.spec.expression`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, Final, cast

from stepwell.spec.expression import (
    MATCH,
    NO_MATCH,
    Activation,
    Expression,
    Result,
    Verdict,
    compile_expression,
    compile_filter,
    compile_key,
)
from stepwell.spec.tokens import Token, TokenKind, tokenize

__all__ = [
    "MATCH",
    "MISSING",
    "NO_MATCH",
    "Activation",
    "Expression",
    "Key",
    "Result",
    "Split",
    "Verdict",
    "compile_expression",
    "compile_filter",
    "compile_key",
    "match_key",
    "split_equality",
    "terms",
    "value_at",
]

CACHED = 16_384
OPENING = {"(": ")", "[": "]", "{": "}"}


class _Missing(Enum):
    MISSING = "missing"


MISSING: Final = _Missing.MISSING
"""What `value_at` gives where there is nothing; JSON's null is a value."""


@dataclass(frozen=True, slots=True)
class Key:
    """An equality that an index can hold: the path in the event that comes, and what its value has to equal.

    That is the value at `event_path` of the event that the run began with, or, where that is None, `literal`.
    """

    async_path: str
    event_path: str | None
    literal: Any = None


@dataclass(frozen=True, slots=True)
class Split:
    """A filter in two parts: it is true exactly where the key is equal and the residual (None: nothing) is true."""

    key: Key | None
    residual: str | None


@lru_cache(maxsize=CACHED)
def split_equality(text: str) -> Split:
    """Take one equality between `async…` and `event…` or a literal out of the terms that `&&` joins.

    An equality with `event` is preferred to one with a literal, for its values tell runs apart. Raise SpecError if the text
    does not compile.
    """
    compile_expression(text)
    terms = _terms(text, tokenize(text))
    keys = [_key(text, term) for term in terms]
    chosen = next((place for place, key in enumerate(keys) if key is not None and key.event_path is not None), None)
    if chosen is None:
        chosen = next((place for place, key in enumerate(keys) if key is not None), None)
    if chosen is None:
        return Split(None, text)
    rest = [_text(text, term) for place, term in enumerate(terms) if place != chosen]
    return Split(keys[chosen], " && ".join(rest) or None)


def terms(text: str) -> list[str]:
    """The terms that `&&` joins at the top level of a text, in order; the text alone where something binds weaker there."""
    found = [term for term in _terms(text, tokenize(text)) if term]
    return [_text(text, term) for term in found] if len(found) > 1 else [text]


def match_key(name: str, path: str, value: object) -> str:
    """The digest under which a wait for this event name, with this value at this path, is found; 32 hex digits.

    Values that CEL calls equal have one digest (1 and 1.0); integers are compared exactly, also beyond 2^53.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in (name, path, _canonical(value)):
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(4, "big"))
        digest.update(encoded)
    return digest.hexdigest()


def value_at(event: Mapping[str, Any], path: str) -> Any:
    """The value at a path as `split_equality` writes it (`data.items[0].id`), or MISSING."""
    value: Any = event
    for segment in _segments(path):
        if isinstance(segment, str):
            if not isinstance(value, Mapping) or segment not in value:
                return MISSING
            value = cast("Mapping[str, Any]", value)[segment]
        else:
            items = cast("Sequence[Any]", value)
            if not isinstance(value, (list, tuple)) or segment >= len(items):
                return MISSING
            value = items[segment]
    return value


def _terms(text: str, tokens: list[Token]) -> list[list[Token]]:
    """The terms that `&&` joins at the top level; one if `||` or `?:` binds weaker there. Each is an index in `tokens`' order."""
    tokens = _unwrapped(tokens)
    terms: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        if token.kind is TokenKind.MARK:
            depth += (token.text in OPENING) - (token.text in OPENING.values())
            if depth == 0 and token.text in {"||", "?"}:
                return [tokens]
            if depth == 0 and token.text == "&&":
                terms.append([])
                continue
        terms[-1].append(token)
    if len(terms) == 1:
        return terms
    return [part for term in terms for part in _terms(text, term)]


def _unwrapped(tokens: list[Token]) -> list[Token]:
    """The tokens without brackets around all of them."""
    while len(tokens) > 1 and tokens[0].text == "(" and _closing(tokens) == len(tokens) - 1:
        tokens = tokens[1:-1]
    return tokens


def _closing(tokens: list[Token]) -> int:
    depth = 0
    for place, token in enumerate(tokens):
        if token.kind is TokenKind.MARK:
            depth += (token.text in OPENING) - (token.text in OPENING.values())
            if depth == 0:
                return place
    return -1


def _text(text: str, term: list[Token]) -> str:
    """The term as it was written, in brackets where `&&` would tear it apart."""
    written = text[term[0].start : term[-1].end]
    weak = any(token.kind is TokenKind.MARK and token.text in {"||", "?"} for token in term)
    return f"({written})" if weak else written


def _key(text: str, term: list[Token]) -> Key | None:
    places = [place for place, token in enumerate(term) if token.kind is TokenKind.MARK and token.text == "=="]
    if len(places) != 1:
        return None
    left, right = _unwrapped(term[: places[0]]), _unwrapped(term[places[0] + 1 :])
    for one, other in ((left, right), (right, left)):
        path = _path(one, "async")
        if path is not None:
            event_path = _path(other, "event")
            if event_path is not None:
                return Key(path, event_path)
            literal = _literal(text, other)
            if literal is not MISSING:
                return Key(path, None, literal)
    return None


def _path(tokens: list[Token], root: str) -> str | None:
    """The path that these tokens spell below `root`, or None if they are anything else."""
    if len(tokens) < 3 or tokens[0].text != root:
        return None
    path = ""
    place = 1
    while place < len(tokens):
        head = tokens[place].text
        if head == "." and place + 1 < len(tokens) and tokens[place + 1].kind is TokenKind.NAME:
            path += _written(tokens[place + 1].text)
            place += 2
        elif head == "[" and place + 2 < len(tokens) and tokens[place + 2].text == "]":
            step = _index(tokens[place + 1])
            if step is None:
                return None
            path += _written(step)
            place += 3
        else:
            return None
    return path.removeprefix(".")


def _index(token: Token) -> str | int | None:
    if token.kind is TokenKind.NUMBER:
        return int(token.text) if token.text.isdecimal() and len(token.text) < 10 else None
    value = _constant(token.text) if token.kind is TokenKind.STRING else None
    return value if isinstance(value, str) else None


def _written(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if step.isidentifier() and step.isascii() else f"[{json.dumps(step)}]"


def _literal(text: str, tokens: list[Token]) -> Any:
    """The value of a literal: text, a number, a boolean or null; MISSING for anything else."""
    negative = len(tokens) == 2 and tokens[0].text == "-" and tokens[1].kind is TokenKind.NUMBER
    if not negative and len(tokens) != 1:
        return MISSING
    last = tokens[-1]
    if last.kind is TokenKind.MARK or (last.kind is TokenKind.NAME and last.text not in {"true", "false", "null"}):
        return MISSING
    return _constant(text[tokens[0].start : last.end])


def _constant(text: str) -> Any:
    """What CEL itself makes of a constant, so that escapes and number forms mean the same here as there."""
    result = compile_expression(text).value(Activation({}))
    return MISSING if result.error is not None else result.value


@lru_cache(maxsize=CACHED)
def _segments(path: str) -> tuple[str | int, ...]:
    """A written path in parts; `[` opens JSON text or a number, everything else is a name up to `.` or `[`."""
    parts: list[str | int] = []
    decoder = json.JSONDecoder()
    place = 0
    while place < len(path):
        if path[place] == "[":
            part, place = decoder.raw_decode(path, place + 1)
            parts.append(part)
            place += 1
        else:
            start = place + (path[place] == ".")
            stops = [at for at in (path.find(".", start), path.find("[", start)) if at >= 0]
            place = min(stops, default=len(path))
            parts.append(path[start:place])
    return tuple(parts)


def _canonical(value: object) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return json.dumps(_even(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _even(value: Any) -> Any:
    """The value with integral floats as integers, all the way down."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _even(item) for key, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_even(item) for item in cast("Sequence[Any]", value)]
    return value
