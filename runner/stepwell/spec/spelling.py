"""How a manifest spells what Python spells in several ways, so that what is read here is what the cluster takes.

The models read `30` and a timedelta for `30s`, and one limit for a list of one. The custom resource has one type for each field.
"""

from collections.abc import Iterator, Mapping
from typing import Any, cast

from stepwell.errors import SpecError
from stepwell.spec.text import CLEANUP_FORM

DURATIONS = (
    "triggers[].jitter",
    "triggers[].window",
    "backoff.base",
    "backoff.max",
    "backoff.jitter",
    "backoff.table[]",
    "cancelOn[].timeout",
    "timeouts.start",
    "timeouts.finish",
    "timeouts.run",
    "checkpointing.maxRuntime",
    "checkpointing.maxInterval",
)
"""Where a manifest's spec has lengths of time."""


def check_spelling(spec: Mapping[str, Any], at: str) -> None:
    """Refuse what Python would understand and the cluster wouldn't."""
    odd = [option for option in cast("Mapping[object, Any]", spec) if not isinstance(option, str)]
    if odd:
        raise SpecError(f"{odd[0]!r}: there is no such option; a name is text", at)
    snake = next((option for option in spec if "_" in option), None)
    if snake is not None:
        raise SpecError("a manifest spells its options in camelCase, such as cancelOn", f"{at}.{snake}")
    limits = spec.get("concurrency")
    if limits is not None and not isinstance(limits, list):
        raise SpecError("must be a list in a manifest, such as [{limit: 10}]", f"{at}.concurrency")
    for path in DURATIONS:
        for where, value in _at(spec, path):
            if isinstance(value, int | float) and not isinstance(value, bool):
                raise SpecError(f"a manifest writes a length of time with its unit: '{value}s'", f"{at}.{where}")
            if isinstance(value, str) and value != value.strip():
                raise SpecError(f"{value!r}: remove the blanks around it", f"{at}.{where}")
    backoff = spec.get("backoff")
    if isinstance(backoff, Mapping) and backoff.get("strategy") == "table" and "table" not in backoff:  # pyright: ignore[reportUnknownMemberType]
        raise SpecError("`table` must be set when `strategy` is 'table'; leave both out for the usual one", f"{at}.backoff.table")
    cleanup = spec.get("onFailure")
    fault = CLEANUP_FORM.fault(cleanup) if isinstance(cleanup, str) else None
    if fault is not None:
        raise SpecError(fault, f"{at}.onFailure")


def _at(spec: Mapping[str, Any], path: str) -> Iterator[tuple[str, object]]:
    """The values at a path, with where each stands."""
    found: list[tuple[str, object]] = [("", spec)]
    for part in path.split("."):
        name = part.removesuffix("[]")
        inner = [
            (f"{where}.{name}".removeprefix("."), cast("Mapping[str, object]", value)[name])
            for where, value in found
            if isinstance(value, Mapping) and name in value
        ]
        found = [one for pair in inner for one in _items(*pair)] if part.endswith("[]") else inner
    yield from found


def _items(where: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, list):
        for place, item in enumerate(cast("list[object]", value)):
            yield f"{where}[{place}]", item
