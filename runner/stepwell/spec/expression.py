"""CEL behind a wall, so that the engine under it can be swapped: text in, a checked expression out, a plain answer from it.

Only a boolean true is a match. cel-expr-python hands back errors as values that are true to Python; here they are
errors with a text. What is compiled is limited in length, in depth and in nested loops, so that no text can stall a
process: the engine under it stops an evaluation after 10,000 loop steps (about 3 ms).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, cast

from cel_expr_python import cel

from stepwell.errors import SpecError
from stepwell.spec.tokens import Token, TokenKind, tokenize

MAX_LENGTH = 1024
MAX_DEPTH = 32
LOOPS = frozenset({"all", "exists", "exists_one", "filter", "map"})
NAMES = ("event", "async")
CACHED = 16_384
REASON_MAX = 300


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a filter says of an event: matched or not; `error` is why it could not say, and then it is no match."""

    matched: bool
    error: str | None = None


MATCH = Verdict(matched=True)
NO_MATCH = Verdict(matched=False)


@dataclass(frozen=True, slots=True)
class Result:
    """The JSON value of a key expression, or why there is none."""

    value: Any
    error: str | None = None


class Activation:
    """What an expression looks at: an event and, where there is one, the other event as `async`. Build it once per event."""

    __slots__ = ("_cel", "async_", "event")

    def __init__(self, event: Mapping[str, Any], other: Mapping[str, Any] | None = None) -> None:
        self.event = event
        self.async_ = other
        self._cel: cel.Activation | None = None

    def native(self) -> cel.Activation:
        """The activation in CEL's own form, made at the first use: most events meet no expression."""
        if self._cel is None:
            values: dict[str, Any] = {"event": self.event}
            if self.async_ is not None:
                values["async"] = self.async_
            self._cel = _env(NAMES).Activation(values)
        return self._cel


class Expression:
    """One compiled expression; safe to keep and to use for any number of events."""

    __slots__ = ("_compiled", "text")

    def __init__(self, text: str, compiled: cel.Expression) -> None:
        self.text = text
        self._compiled = compiled

    @property
    def type_name(self) -> str:
        """What it gives, as far as is known without an event: `bool`, `string`, …, `dyn` if that depends on the event."""
        return self._compiled.return_type().name().lower()

    def test(self, activation: Activation) -> Verdict:
        """Tell whether it is true of the event. Never raises."""
        value = self._eval(activation)
        if isinstance(value, str):
            return Verdict(matched=False, error=value)
        plain = value.plain_value()
        if plain is True:
            return MATCH
        if plain is False:
            return NO_MATCH
        if value.type() == cel.Type.ERROR:
            return Verdict(matched=False, error=_reason(str(plain)))
        return Verdict(matched=False, error=f"gave {_kind(value)}, not true or false")

    def value(self, activation: Activation) -> Result:
        """Its value for the event, as JSON has it (times and durations as text). Never raises."""
        value = self._eval(activation)
        if isinstance(value, str):
            return Result(None, value)
        plain = value.plain_value()
        if value.type() == cel.Type.ERROR:
            return Result(None, _reason(str(plain)))
        try:
            return Result(_jsonable(plain))
        except TypeError as error:
            return Result(None, str(error))

    def _eval(self, activation: Activation) -> cel.Value | str:
        try:
            return self._compiled.eval(activation.native())
        except (RuntimeError, ValueError, TypeError, OverflowError) as error:  # an event that CEL can't take in
            return _reason(str(error))


@lru_cache(maxsize=CACHED)
def compile_expression(text: str, names: tuple[str, ...] = NAMES) -> Expression:
    """Compile CEL over these names, or raise SpecError with the column, a caret line, and the names that exist."""
    if not text.strip():
        raise SpecError("the expression is empty; leave it out to match every event")
    if len(text) > MAX_LENGTH:
        raise SpecError(f"the expression has {len(text)} characters; at most {MAX_LENGTH} are allowed")
    _refuse_nested_loops(text)
    try:
        compiled = _env(names).compile(text)
    except (RuntimeError, ValueError, TypeError) as error:
        raise _compile_error(text, names, str(error)) from None
    return Expression(text, compiled)


def compile_filter(text: str, names: tuple[str, ...] = NAMES) -> Expression:
    """Compile an expression that has to give true or false, refusing one that certainly gives something else."""
    compiled = compile_expression(text, names)
    if compiled.type_name not in {"bool", "dyn"}:
        raise SpecError(f"the expression gives {_article(compiled.type_name)}, not true or false: {text!r}")
    return compiled


def compile_key(text: str, names: tuple[str, ...] = ("event",)) -> Expression:
    """Compile an expression whose value is a key, refusing one that certainly gives what JSON doesn't have."""
    compiled = compile_expression(text, names)
    if compiled.type_name.partition("<")[0] in {"bytes", "type", "null"}:
        raise SpecError(f"the expression gives {_article(compiled.type_name)}, which is no key: {text!r}")
    return compiled


@lru_cache(maxsize=8)
def _env(names: tuple[str, ...]) -> cel.Env:
    return cel.NewEnv(variables=dict.fromkeys(names, cel.Type.DYN))


def _refuse_nested_loops(text: str) -> None:
    """One level of `all`, `exists`, `filter` or `map` is enough for a filter; each further level multiplies its cost."""
    open_loops: list[bool] = []
    before: tuple[Token | None, Token | None] = (None, None)
    for token in tokenize(text):
        if token.text in {"(", "[", "{"}:
            dot, name = before
            is_loop = token.text == "(" and dot is not None and dot.text == "." and name is not None and name.text in LOOPS
            if is_loop and any(open_loops):
                raise _fault(text, cast("Token", name).start, "a loop inside a loop is not allowed in an expression")
            open_loops.append(is_loop)
            if len(open_loops) > MAX_DEPTH:
                raise _fault(text, token.start, f"nested deeper than {MAX_DEPTH} levels")
        elif token.text in {")", "]", "}"} and open_loops and token.kind is TokenKind.MARK:
            open_loops.pop()
        before = (before[1], token)


_PLACE = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): (.*)")
_UNDECLARED = re.compile(r"undeclared reference to '([^']*)'")


def _compile_error(text: str, names: tuple[str, ...], report: str) -> SpecError:
    found = _PLACE.search(report)
    if found is None or int(found[1]) < 1:
        if "recursion" in report:
            return SpecError(
                f"the expression is nested, or its operators are chained, deeper than {MAX_DEPTH} levels: {_shown(text)}"
            )
        return SpecError(f"{_reason(report)}: {_shown(text)}")
    offset = sum(len(line) + 1 for line in text.split("\n")[: int(found[1]) - 1]) + int(found[2]) - 1
    if offset >= len(text.rstrip()):
        return _fault(text, offset, "the expression ends too early")
    message = _plain(found[3])
    undeclared = _UNDECLARED.search(message)
    if undeclared is None:
        return _fault(text, offset, message)
    name = undeclared[1]
    root = name.partition(".")[0]
    start = text.rfind(root, 0, offset + 1)
    offset = start if "." in name and start >= 0 else offset
    if "." not in name and text[offset:].lstrip().startswith("("):
        return _fault(text, max(text.rfind(name, 0, offset), 0), f"there is no function {name!r}")
    known = " and ".join(f"`{known}`" for known in names)
    more = "" if root != "async" else "; `async`, the event that comes later, exists in cancel_on and wait_for_event alone"
    return _fault(text, offset, f"there is no {root!r}; the names that exist here: {known}{more}")


def _plain(message: str) -> str:
    """CEL's own words without the parts that only a parser's author reads."""
    message = message.partition(" [INVALID_ARGUMENT]")[0].removeprefix("Syntax error: ")
    if message.startswith("token recognition error at: "):
        odd = message.removeprefix("token recognition error at: '")
        return (
            "the text that begins here has no end" if odd[:1] in {"'", '"'} else f"{odd[:1]!r} does not belong in an expression"
        )
    return message.partition(" expecting {")[0].partition(" (in container")[0]


def _fault(text: str, offset: int, message: str) -> SpecError:
    """The error with its column and, below the text's line, a caret."""
    offset = min(max(offset, 0), len(text))
    line_start = text.rfind("\n", 0, offset) + 1
    line = text[line_start:].partition("\n")[0]
    column = offset - line_start + 1
    where = f"column {column}" if line_start == 0 else f"line {text.count(chr(10), 0, offset) + 1}, column {column}"
    return SpecError(f"{where}: {message}\n    {_visible(line)}\n    {' ' * (column - 1)}^", column=offset + 1)


def _visible(line: str) -> str:
    return "".join(char if char.isprintable() else " " for char in line)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:80] + "…")


_CODES = re.compile(r"^(?:[A-Z_]+: )+")


def _reason(report: str) -> str:
    return _visible(_CODES.sub("", report).strip())[:REASON_MAX] or "it could not be evaluated"


def _kind(value: cel.Value) -> str:
    return _article(value.type().name().lower().partition("<")[0])


def _article(kind: str) -> str:
    kind = kind.partition("<")[0]
    named = {"null": "null", "bytes": "bytes", "string": "text", "double": "a number", "uint": "a number", "int": "a number"}
    return named.get(kind) or f"a {kind}"


def _jsonable(value: object) -> Any:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case timedelta():
            return f"{value / timedelta(seconds=1):.6f}".rstrip("0").rstrip(".") + "s"
        case list():
            return [_jsonable(item) for item in cast("list[object]", value)]
        case dict():
            pairs = cast("dict[object, object]", value).items()
            if not all(isinstance(key, str) for key, _item in pairs):
                raise TypeError("gave a map whose keys are not text, which JSON doesn't have")
            return {cast("str", key): _jsonable(item) for key, item in pairs}
        case _:
            raise TypeError(f"gave a {type(value).__name__}, which JSON doesn't have")
