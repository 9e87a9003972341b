"""Where a manifest's code comes from: inline text, a container image, or a ConfigMap."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from stepwell.errors import SpecError

MAX_CODE = 65_536
MAX_IMAGE = 512

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_OBJECT = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_KEY = re.compile(r"[A-Za-z0-9._-]{1,253}")


@dataclass(frozen=True, slots=True)
class InlineSource:
    """At most 64 KiB of Python and the function in it that is the handler."""

    code: str
    handler: str


@dataclass(frozen=True, slots=True)
class ImageSource:
    """A container image and the handler in it, as `module:function`."""

    image: str
    handler: str


@dataclass(frozen=True, slots=True)
class ConfigMapSource:
    """One key of a ConfigMap, which holds Python, and the function in it that is the handler."""

    name: str
    key: str
    handler: str


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

    def text(self, name: str, form: re.Pattern[str] | None, looks: str) -> str:
        """The text of a field that has to look like this."""
        value = self._given.pop(name, None)
        if not isinstance(value, str) or not value or (form is not None and form.fullmatch(value) is None):
            shown = "it is missing" if value is None else f"not {str(value)[:60]!r}"
            raise SpecError(f"must be {looks}; {shown}", f"{self._at}.{name}")
        return value

    def end(self) -> None:
        """Refuse what nobody asked for."""
        for name in self._given:
            raise SpecError("there is no such option", f"{self._at}.{name}")

    def fault(self, name: str, message: str) -> SpecError:
        """A fault in one field."""
        return SpecError(message, f"{self._at}.{name}")


def _inline(fields: _Fields) -> Source:
    code = fields.text("code", None, "Python code")
    size = len(code.encode("utf-8", "surrogatepass"))
    if size > MAX_CODE:
        raise fields.fault("code", f"the code has {size} bytes; at most {MAX_CODE} fit inline, so build an image")
    source = InlineSource(code, fields.text("handler", _IDENTIFIER, "the name of a function in the code"))
    fields.end()
    return source


def _image(fields: _Fields) -> Source:
    image = fields.text("image", re.compile(rf"[^\s]{{1,{MAX_IMAGE}}}"), "an image such as registry/shop:1.4")
    source = ImageSource(image, fields.text("handler", _PATH, "module:function, such as shop.orders:process_order"))
    fields.end()
    return source


def _config_map(fields: _Fields) -> Source:
    name = fields.text("name", _OBJECT, "the name of a ConfigMap in this namespace")
    key = fields.text("key", _KEY, "a key of the ConfigMap, such as orders.py")
    source = ConfigMapSource(name, key, fields.text("handler", _IDENTIFIER, "the name of a function in the code"))
    fields.end()
    return source


READERS: dict[str, Callable[[_Fields], Source]] = {"inline": _inline, "image": _image, "configMap": _config_map}
