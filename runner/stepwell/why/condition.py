"""What an expression saw: which of its terms was false, and the values that it looked at. Pure."""

from collections.abc import Mapping
from typing import Any

import orjson

from stepwell.engine.expression import MISSING, Activation, compile_expression, terms, value_at
from stepwell.errors import SpecError
from stepwell.spec.tokens import Token, TokenKind, tokenize
from stepwell.why.words import brief

SHOWN_VALUE = 60
SHOWN_VALUES = 6


def why_false(text: str, event: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """Why the expression isn't true of the event: the first term that isn't, with the values it saw.

    `event.data.total > 100 is false (event.data.total = 80)`; for what gives no boolean, its error instead of `is false`.
    """
    activation = Activation(event)
    for term in _terms(text):
        try:
            verdict = compile_expression(term, names).test(activation)
        except SpecError:
            continue
        if not verdict.matched:
            said = "is false" if verdict.error is None else f"can't be said: {verdict.error}"
            return f"{brief(term)} {said}{_in_brackets(values_seen(term, {'event': event}))}"
    return f"{brief(text)} is not true{_in_brackets(values_seen(text, {'event': event}))}"


def values_seen(text: str, roots: Mapping[str, Mapping[str, Any]]) -> str:
    """The values at the paths that a text names below these roots: `event.data.total = 80, event.data.vip is missing`."""
    told: dict[str, str] = {}
    for path in paths(text):
        root, _, rest = path.partition(".")
        if root in roots and rest and path not in told:
            value = value_at(roots[root], rest)
            told[path] = f"{path} is missing" if value is MISSING else f"{path} = {_shown(value)}"
    shown = list(told.values())
    more = len(shown) - SHOWN_VALUES
    return ", ".join(shown[:SHOWN_VALUES]) + (f" and {more} more" if more > 0 else "")


def paths(text: str) -> list[str]:
    """The paths in a text, such as `event.data.items[0].id`, as `value_at` reads them; without the names of methods."""
    tokens = tokenize(text)
    found: list[str] = []
    place = 0
    while place < len(tokens):
        after_dot = place > 0 and tokens[place - 1].text == "."
        if tokens[place].kind is TokenKind.NAME and not after_dot:
            path, place = _path(tokens, place)
            found.append(path)
        else:
            place += 1
    return found


def _path(tokens: list[Token], place: int) -> tuple[str, int]:
    path = tokens[place].text
    place += 1
    while place + 1 < len(tokens):
        head, part = tokens[place].text, tokens[place + 1]
        if head == "." and part.kind is TokenKind.NAME:
            if place + 2 < len(tokens) and tokens[place + 2].text == "(":
                return path, place + 2
            path += f".{part.text}"
            place += 2
        elif head == "[" and place + 2 < len(tokens) and tokens[place + 2].text == "]" and _is_index(part):
            quoted = part.kind is TokenKind.STRING
            path += f'["{part.text[1:-1]}"]' if quoted else f"[{part.text}]"
            place += 3
        else:
            break
    return path, place


def _is_index(token: Token) -> bool:
    """A plain number, or text without escapes: what a path can be followed by without asking CEL."""
    if token.kind is TokenKind.STRING:
        return (
            token.text[0] in {'"', "'"} and not {"\\", '"'} & set(token.text[1:-1]) and not token.text.startswith(("'''", '"""'))
        )
    return token.kind is TokenKind.NUMBER and token.text.isdecimal()


def _terms(text: str) -> list[str]:
    try:
        return terms(text)
    except (SpecError, IndexError):
        return [text]


def _shown(value: object) -> str:
    text = brief(orjson.dumps(value, default=str).decode())
    return text if len(text) <= SHOWN_VALUE else f"{text[: SHOWN_VALUE - 1]}…"


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""
