"""YAML within limits: nothing in a text can make more of itself, and nothing in it is silently dropped."""

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import yaml

from stepwell.errors import SpecError

if TYPE_CHECKING:
    from yaml import SafeLoader
else:  # built without libyaml, PyYAML reads the same, slower
    SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

MAX_BYTES = 1_048_576
MAX_DOCUMENTS = 100
MAX_DEPTH = 20
DEEPER = (yaml.MappingStartEvent, yaml.SequenceStartEvent)
SHALLOWER = (yaml.MappingEndEvent, yaml.SequenceEndEvent)


class _Reader(SafeLoader):
    """PyYAML's safe loader, which takes the last of two equal keys, made to refuse the second."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """The mapping, if every key is text and stands once."""
        seen: set[str] = set()
        for key, _value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key has to be text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice in one mapping", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Writer(yaml.SafeDumper):
    """PyYAML's safe dumper with text of several lines as a block and lists indented."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent the items of a list below its name."""
        del indentless
        return super().increase_indent(flow, indentless=False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, "|" if "\n" in text else None)  # pyright: ignore[reportUnknownMemberType]


_Writer.add_representer(str, _text)


def load_documents(text: str | bytes, file: str) -> list[Any]:
    """The documents of a text, None for an empty one, or SpecError naming file, line and column."""
    size = len(text.encode("utf-8", "surrogatepass")) if isinstance(text, str) else len(text)
    if size > MAX_BYTES:
        raise SpecError(f"it has {size} bytes; a manifest file has at most {MAX_BYTES}", file)
    try:
        _check_shape(text, file)
        return list(yaml.load_all(text, Loader=_Reader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        raise SpecError(f"{where}not YAML that can be read: {error.problem or error.context}", file) from None
    except (yaml.YAMLError, UnicodeError, ValueError) as error:
        raise SpecError(f"not YAML that can be read: {' '.join(str(error).split())[:200]}", file) from None


def dump_document(document: dict[str, Any]) -> str:
    """One document as YAML, in the order given."""
    return yaml.dump(document, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=120)


def _check_shape(text: str | bytes, file: str) -> None:
    depth = documents = 0
    for event in yaml.parse(text, Loader=SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise SpecError(f"{_line(event)}aliases (*{event.anchor}) are not allowed in a manifest; write the value out", file)
        depth += isinstance(event, DEEPER) - isinstance(event, SHALLOWER)
        documents += isinstance(event, yaml.DocumentStartEvent)
        if depth > MAX_DEPTH:
            raise SpecError(f"{_line(event)}nested deeper than {MAX_DEPTH} levels", file)
        if documents > MAX_DOCUMENTS:
            raise SpecError(f"more than {MAX_DOCUMENTS} documents in one file", file)


def _line(event: yaml.Event) -> str:
    return "" if event.start_mark is None else f"line {event.start_mark.line + 1}: "
