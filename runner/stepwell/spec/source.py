"""Where a manifest's code comes from: inline text, a container image, or a ConfigMap."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, cast

from stepwell.errors import SpecError
from stepwell.spec.text import FUNCTION_FORM, KEY_FORM, OBJECT_FORM, PATH_FORM, Text

MAX_CODE = 65_536
MAX_IMAGE = 512

CODE_FORM = Text(MAX_CODE, "Python code")
IMAGE_FORM = Text(MAX_IMAGE, "an image such as registry/shop:1.4", "^[!-~]+$")
MAP_FORM = Text(OBJECT_FORM.most, "the name of a ConfigMap in this namespace", OBJECT_FORM.pattern)
DATA_FORM = Text(KEY_FORM.most, "a key of the ConfigMap, such as orders.py", KEY_FORM.pattern)


@dataclass(frozen=True, slots=True)
class InlineSource:
    """At most 64 KiB of Python and the function in it that is the handler."""

    code: Annotated[str, CODE_FORM]
    """Python, at most 64 KiB; it can import what the runner's image has: the standard library and stepwell."""
    handler: Annotated[str, FUNCTION_FORM]
    """The name of the function in the code that is run."""


@dataclass(frozen=True, slots=True)
class ImageSource:
    """A container image and the handler in it, as `module:function`."""

    image: Annotated[str, IMAGE_FORM]
    """The image, which has stepwell installed, such as registry/shop:1.4."""
    handler: Annotated[str, PATH_FORM]
    """The function in it that is run, as module:function."""


@dataclass(frozen=True, slots=True)
class ConfigMapSource:
    """One key of a ConfigMap, which holds Python, and the function in it that is the handler."""

    name: Annotated[str, MAP_FORM]
    """The name of the ConfigMap."""
    key: Annotated[str, DATA_FORM]
    """The key in it whose value is the code."""
    handler: Annotated[str, FUNCTION_FORM]
    """The name of the function in the code that is run."""


Source = InlineSource | ImageSource | ConfigMapSource


def read_source(given: object, at: str) -> Source:
    """Read `{inline | image | configMap: {…}}`, exactly one of them, or raise SpecError."""
    if not isinstance(given, Mapping):
        raise SpecError("needs exactly one of inline, image and configMap, as a mapping", at)
    kinds = list(cast("Mapping[str, Any]", given))
    if kinds == ["http"]:
        raise SpecError("http sources are not supported yet; use inline, image or configMap", f"{at}.http")
    if len(kinds) != 1 or kinds[0] not in READERS:
        raise SpecError(f"needs exactly one of inline, image and configMap, not {', '.join(map(str, kinds)) or 'none'}", at)
    return READERS[kinds[0]](_Fields(cast("Mapping[str, Any]", given)[kinds[0]], f"{at}.{kinds[0]}"))


class _Fields:
    """The fields of one source, taken out one by one; what is left over is a fault."""

    def __init__(self, given: object, at: str) -> None:
        if not isinstance(given, Mapping):
            raise SpecError("must be a mapping", at)
        self._given = dict(cast("Mapping[str, Any]", given))
        self._at = at

    def text(self, name: str, form: Text) -> str:
        """The text of a field that has this form."""
        value = self._given.pop(name, None)
        fault = form.fault(value) if isinstance(value, str) else None
        if not isinstance(value, str) or fault is not None:
            shown = "it is missing" if value is None else f"not {str(value)[:60]!r}"
            raise self.fault(name, fault or f"must be {form.looks}; {shown}")
        return value

    def end(self) -> None:
        """Refuse what nobody asked for."""
        for name in self._given:
            raise SpecError("there is no such option", f"{self._at}.{name}")

    def fault(self, name: str, message: str) -> SpecError:
        """A fault in one field."""
        return SpecError(message, f"{self._at}.{name}")


def _inline(fields: _Fields) -> Source:
    code = fields.text("code", Text(sys.maxsize, CODE_FORM.looks))
    size = len(code.encode("utf-8", "surrogatepass"))
    if size > MAX_CODE:
        raise fields.fault("code", f"the code has {size} bytes; at most {MAX_CODE} fit inline, so build an image")
    source = InlineSource(code, fields.text("handler", FUNCTION_FORM))
    fields.end()
    return source


def _image(fields: _Fields) -> Source:
    source = ImageSource(fields.text("image", IMAGE_FORM), fields.text("handler", PATH_FORM))
    fields.end()
    return source


def _config_map(fields: _Fields) -> Source:
    source = ConfigMapSource(fields.text("name", MAP_FORM), fields.text("key", DATA_FORM), fields.text("handler", FUNCTION_FORM))
    fields.end()
    return source


READERS: dict[str, Callable[[_Fields], Source]] = {"inline": _inline, "image": _image, "configMap": _config_map}
SOURCES: dict[str, type[Source]] = {"inline": InlineSource, "configMap": ConfigMapSource, "image": ImageSource}
"""Every kind of source by its name in a manifest."""
