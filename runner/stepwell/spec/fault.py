"""Turn what pydantic finds wrong into one SpecError that names every fault: what, where, how to mend it."""

import difflib
from collections.abc import Sequence
from typing import Any, TypeGuard, cast

from pydantic import ValidationError
from pydantic.alias_generators import to_snake
from pydantic_core import ErrorDetails, PydanticCustomError

from stepwell.errors import SpecError

LATER = frozenset({"rateLimit", "throttle", "debounce", "batchEvents", "priority", "singleton"})
"""Flow-control options that this version knows of and doesn't have yet."""

SHOWN = 60

WORDS = {
    "missing": "is missing",
    "missing_argument": "is missing",
    "duration": "{text}",
    "int_type": "must be a whole number, not {given}",
    "int_parsing": "must be a whole number, not {given}",
    "int_from_float": "must be a whole number, not {given}",
    "float_type": "must be a number, not {given}",
    "float_parsing": "must be a number, not {given}",
    "finite_number": "must be a number, not {given}",
    "string_type": "must be text, not {given}",
    "bool_type": "must be true or false, not {given}",
    "bool_parsing": "must be true or false, not {given}",
    "greater_than_equal": "must be at least {ge}, not {given}",
    "greater_than": "must be more than {gt}, not {given}",
    "less_than_equal": "must be at most {le}, not {given}",
    "less_than": "must be less than {lt}, not {given}",
    "too_long": "has {actual_length} entries; at most {max_length} are allowed",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "literal_error": "must be one of {expected}, not {given}",
    "tuple_type": "must be a list, not {given}",
    "list_type": "must be a list, not {given}",
    "dict_type": "must be a mapping, not {given}",
    "model_type": "must be a mapping of options, not {given}",
    "model_attributes_type": "must be a mapping of options, not {given}",
    "dataclass_type": "must be a mapping of options, not {given}",
    "json_invalid": "is not JSON: {error}",
}
"""pydantic's faults in plain words, by its type names; `given` is what was there."""


def refusal(message: str, at: str = "", column: int | None = None) -> PydanticCustomError:
    """A fault found by a validator; `at` leads on from the field's own path, such as `[1]`."""
    return PydanticCustomError("spec", "{text}", {"text": message, "at": at, "column": column})


def refusal_of(error: SpecError) -> PydanticCustomError:
    """The same for a SpecError that something below raised."""
    return refusal(error.message, error.path, error.column)


def spec_error(error: ValidationError, options: dict[str, tuple[str, ...]], *, snake: bool, at: str = "") -> SpecError:
    """One SpecError for all that pydantic found.

    `options` lists the option names by the path of what holds them, with `[]` for a place in a list (`triggers[]`);
    `snake`: paths are shown as Python spells them; `at` leads to what was validated.
    """
    faults = [_read(detail, options, snake=snake) for detail in error.errors(include_url=False)]
    placed = [SpecError(message, _join(at, path), column) for path, message, column in faults]
    if len(placed) == 1:
        return placed[0]
    listed = "".join(f"\n  {fault}" for fault in placed)
    return SpecError(f"{len(placed)} faults:{listed}", at)


def _read(detail: ErrorDetails, options: dict[str, tuple[str, ...]], *, snake: bool) -> tuple[str, str, int | None]:
    places = [place for place in detail["loc"] if not (isinstance(place, str) and place.startswith("<"))]
    if places and isinstance(places[0], int):  # an argument given by position
        places[:1] = options[""][places[0] : places[0] + 1]
    context = detail.get("ctx") or {}
    path = _join("", _path(places, snake=snake))
    if detail["type"] == "spec":
        return _join(path, str(context["at"])), str(context["text"]), cast("int | None", context["column"])
    if detail["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
        return path, _unknown(str(places[-1]), _options_at(places[:-1], options)), None
    return path, _plain(detail, context), None


def _plain(detail: ErrorDetails, context: dict[str, Any]) -> str:
    """The fault in plain words."""
    words = WORDS.get(detail["type"])
    if words is None:
        return detail["msg"].removeprefix("Value error, ")
    return words.format(**context, given=_shown(detail["input"]))


def _unknown(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name.lower(), [option.lower() for option in known], n=1, cutoff=0.6)
    hint = next((f"; did you mean `{option}`?" for option in known if near and option.lower() == near[0]), "")
    if name in LATER or name in {to_snake(option) for option in LATER}:
        return "this version doesn't have that option yet; remove it"
    return f"there is no such option{hint or _list(known)}"


def _list(known: Sequence[str]) -> str:
    return f"; there are: {', '.join(known)}" if known else ""


def _options_at(places: Sequence[str | int], options: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    key = "".join("[]" if isinstance(place, int) else f".{place}" for place in places).removeprefix(".")
    return options.get(key, ())


def _path(places: Sequence[str | int], *, snake: bool) -> str:
    path = ""
    for place in places:
        name = to_snake(place) if snake and isinstance(place, str) else place
        path = f"{path}[{name}]" if isinstance(name, int) else _join(path, name.rstrip("_"))
    return path


def _join(path: str, more: str) -> str:
    return f"{path}.{more}" if path and more and not more.startswith("[") else f"{path}{more}"


def _shown(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if _is_mapping(value):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    text = repr(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def _is_mapping(value: object) -> TypeGuard[dict[Any, Any]]:
    return isinstance(value, dict)
