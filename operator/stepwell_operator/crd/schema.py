"""Turn a pydantic model into a structural schema: what an API server takes in a custom resource definition.

It has no references, no unions of types, and no `additionalProperties: false` (what isn't named is pruned, or refused when the
client asks for strict validation). A default is given only where a reader of the object gains by it, and never inside a
list: tools that compare lists as a whole would see a difference for ever.
"""

from collections.abc import Mapping
from typing import Any, cast

from pydantic import TypeAdapter

from stepwell.spec.option import yaml_name
from stepwell_operator.crd.words import field_words, model_words, models_in

Schema = dict[str, Any]

KEPT = (
    "type",
    "format",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "maxItems",
    "minItems",
    "maxProperties",
)
"""What is taken over as it stands. `propertyNames` has no place in a structural schema: a rule checks keys."""


def structural(model: type[Any]) -> Schema:
    """The structural schema of a model, described by its docstrings. Without list types, defaults and rules."""
    plain = TypeAdapter[Any](model).json_schema(by_alias=True, mode="validation")
    models = {one.__name__: one for one in models_in(model)}
    return _Reader(plain.get("$defs", {}), models).read({**plain, "title": model.__name__})


def properties(schema: Schema, path: str) -> Schema:
    """The part of a schema at a path such as `spec.triggers[].cron`; `{}` stands for a mapping's values."""
    found = schema
    for part in (step for step in path.split(".") if step):
        name = part.rstrip("[]{}")
        found = found["properties"][name] if name else found
        for _ in range(part.count("[]")):
            found = found["items"]
        for _ in range(part.count("{}")):
            found = found["additionalProperties"]
    return found


class _Reader:
    def __init__(self, definitions: Mapping[str, Schema], models: Mapping[str, type[Any]]) -> None:
        self._definitions = definitions
        self._models = models

    def read(self, given: Schema) -> Schema:
        if "$ref" in given:
            return self.read(self._definitions[given["$ref"].rpartition("/")[2]])
        options = [one for one in cast("list[Schema]", given.get("anyOf", given.get("oneOf", []))) if one.get("type") != "null"]
        if given.get("x-kubernetes-int-or-string"):
            return {name: given[name] for name in given if name in {*KEPT, "anyOf", "x-kubernetes-int-or-string"}}
        if len(options) == 1:
            return self.read(options[0])
        if options:
            return self._one_of(options)
        made = {name: given[name] for name in KEPT if name in given}
        if made.get("type") == "array" and "maxLength" in made:
            made["maxItems"] = made.pop("maxLength")
        if "const" in given:
            made["enum"] = [given["const"]]
        if "items" in given:
            made["items"] = self.read(given["items"])
        values = given.get("additionalProperties")
        if isinstance(values, dict):
            made["additionalProperties"] = self.read(cast("Schema", values))
        if "properties" in given:
            made |= self._fields(given)
        return made

    def _fields(self, given: Schema) -> Schema:
        model = self._models[given["title"]]
        words = {yaml_name(name): text for name, text in field_words(model).items()}
        made: Schema = {"description": model_words(model), "properties": {}}
        if given.get("required"):
            made["required"] = sorted(given["required"])
        for name, field in given["properties"].items():
            read = self.read(field)
            if name in words:
                read = {**read, "description": words[name]}
            made["properties"][name] = read
        return made

    def _one_of(self, options: list[Schema]) -> Schema:
        """Kinds of one thing, told apart by their fields, as one object with all fields; a rule says which go together."""
        kinds = [self.read(option) for option in options]
        fields = {name: field for kind in kinds for name, field in kind["properties"].items()}
        return {"type": "object", "description": " Or: ".join(kind["description"] for kind in kinds), "properties": fields}
