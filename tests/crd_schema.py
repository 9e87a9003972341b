"""A structural schema, walked and applied to a value: what an API server does before it looks at rules."""

import re
from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}


def parts(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every part of a schema with its path, such as `spec.triggers[].cron`."""
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from parts(field, f"{path}.{name}".removeprefix("."))
    if "items" in schema:
        yield from parts(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from parts(schema["additionalProperties"], f"{path}{{}}")


def fits(schema: Schema, value: Any) -> bool:
    """Whether a value has the right types, names and bounds."""
    if schema.get("x-kubernetes-int-or-string"):
        schema = {**schema, "type": "string" if isinstance(value, str) else "integer"}
    kind = schema["type"]
    if not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    return CHECKS.get(kind, lambda _schema, _value: True)(schema, value)


def _text(schema: Schema, value: str) -> bool:
    pattern = schema.get("pattern")
    return schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 1 << 40) and (
        pattern is None or re.fullmatch(pattern, value) is not None
    )


def _number(schema: Schema, value: float) -> bool:
    return bool(schema.get("minimum", -(1 << 80)) <= value <= schema.get("maximum", 1 << 80))


def _list(schema: Schema, value: list[Any]) -> bool:
    keys = schema.get("x-kubernetes-list-map-keys")
    if len(value) > schema["maxItems"] or not all(fits(schema["items"], item) for item in value):
        return False
    return not keys or len({tuple(item.get(key) for key in keys) for item in value}) == len(value)


def _object(schema: Schema, value: dict[str, Any]) -> bool:
    if "additionalProperties" in schema:
        return len(value) <= schema["maxProperties"] and all(
            fits(schema["additionalProperties"], item) for item in value.values()
        )
    fields = schema.get("properties", {})
    value = {name: item for name, item in value.items() if item is not None}  # null is the same as nothing
    if any(name not in fields for name in value) or any(name not in value for name in schema.get("required", ())):
        return False
    return all(fits(fields[name], item) for name, item in value.items())


CHECKS: dict[str, Any] = {"string": _text, "integer": _number, "number": _number, "array": _list, "object": _object}
