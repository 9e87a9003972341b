"""What a field is for, in the words that stand under it in the model's source."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel

from stepwell.spec.option import yaml_name


def field_words(model: type[Any]) -> dict[str, str]:
    """The docstring of each field of a model that has one, on one line."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    if not isinstance(definition, ast.ClassDef):
        raise TypeError(f"{model!r} is no class")
    found: dict[str, str] = {}
    for field, after in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            words = _words_of(after)
            if words is not None:
                found[field.target.id] = words
    return found


def model_words(model: type[Any]) -> str:
    """The docstring of a model, its paragraphs joined."""
    return _plain(inspect.getdoc(model) or "")


def models_in(model: type[Any]) -> Iterator[type[Any]]:
    """The model and all that are found in its fields."""
    seen: set[type[Any]] = set()
    waiting: list[Any] = [model]
    while waiting:
        kind = waiting.pop()
        waiting += get_args(kind)
        if isinstance(kind, type) and kind not in seen and (is_dataclass(kind) or issubclass(kind, BaseModel)):
            seen.add(kind)
            yield kind
            waiting += get_type_hints(kind, include_extras=True).values()


def _words_of(statement: ast.stmt) -> str | None:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant) and isinstance(statement.value.value, str):
        return _plain(statement.value.value)
    return None


def _plain(text: str) -> str:
    """The text on one line, with names of options as YAML spells them."""
    return re.sub(r"`([a-z_]+)`", lambda found: f"`{yaml_name(found[1])}`", " ".join(text.split()))
