"""Text of a known form: one statement of it serves the check, the message and the schema of the custom resource.

The patterns are read by Python and by the API server (Go): ASCII classes alone, nothing that looks ahead or behind.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from stepwell.spec.fault import refusal

SHOWN = 60

JsonSchema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Text:
    """Text that fits a pattern and has `least` to `most` characters; `looks` is how a person would say it."""

    most: int
    looks: str
    pattern: str | None = None
    least: int = 1

    def fault(self, value: str) -> str | None:
        """What is wrong with this text; None if nothing is."""
        if self.pattern is not None and re.fullmatch(self.pattern, value) is None:
            return f"must be {self.looks}, not {value[:SHOWN]!r}"
        if len(value) > self.most:
            return f"has {len(value)} characters; at most {self.most} are allowed"
        if len(value) < self.least:
            return f"must be {self.looks}; it is empty"
        return None

    def schema(self) -> JsonSchema:
        """The form as JSON schema."""
        bounds: JsonSchema = {"type": "string", "maxLength": self.most}
        if self.least:
            bounds["minLength"] = self.least
        if self.pattern is not None:
            bounds["pattern"] = self.pattern
        return bounds

    def _check(self, value: str) -> str:
        fault = self.fault(value)
        if fault is not None:
            raise refusal(fault)
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, core_schema.str_schema(strict=True))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        return self.schema()


@dataclass(frozen=True, slots=True)
class TextMap:
    """A mapping of text to text with at most `most` entries."""

    keys: Text
    values: Text
    most: int

    def _check(self, value: dict[str, str]) -> dict[str, str]:
        if len(value) > self.most:
            raise refusal(f"has {len(value)} entries; at most {self.most} are allowed")
        for key, item in value.items():
            for form, given in ((self.keys, key), (self.values, item)):
                fault = form.fault(given)
                if fault is not None:
                    raise refusal(fault, f"[{key[:SHOWN]}]")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        text = core_schema.str_schema(strict=True)
        return core_schema.no_info_after_validator_function(self._check, core_schema.dict_schema(text, text))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        return {
            "type": "object",
            "maxProperties": self.most,
            "propertyNames": self.keys.schema(),
            "additionalProperties": self.values.schema(),
        }


_LABEL = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_SUBDOMAIN = "[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"
_WORD = "[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_IDENTIFIER = "[A-Za-z_][A-Za-z0-9_]*"

LABEL_FORM = Text(63, "a name of lower-case letters, digits and `-`", f"^{_LABEL}$")
OBJECT_FORM = Text(253, "a name of lower-case letters, digits, `-` and `.`", f"^{_SUBDOMAIN}$")
KEY_FORM = Text(253, "a key of letters, digits, `-`, `_` and `.`", "^[-A-Za-z0-9_.]+$")
LABEL_KEY_FORM = Text(
    317, "a name such as team or example.com/team, of letters, digits, `-`, `_` and `.`", f"^({_SUBDOMAIN}/)?{_WORD}$"
)
LABEL_VALUE_FORM = Text(63, "a label's value: letters, digits, `-`, `_` and `.`, at most 63", f"^({_WORD})?$", 0)
FUNCTION_FORM = Text(200, "the name of a function in the code", f"^{_IDENTIFIER}$")
PATH_FORM = Text(
    255,
    "module:function, such as shop.orders:process_order",
    rf"^{_IDENTIFIER}(\.{_IDENTIFIER})*:{_IDENTIFIER}(\.{_IDENTIFIER})*$",
)
CLEANUP_FORM = Text(
    255,
    "the name of a function beside the handler, or module:function",
    rf"^({_IDENTIFIER}(\.{_IDENTIFIER})*:)?{_IDENTIFIER}(\.{_IDENTIFIER})*$",
)

Label = Annotated[str, LABEL_FORM]
ObjectName = Annotated[str, OBJECT_FORM]
DataKey = Annotated[str, KEY_FORM]
LabelKey = Annotated[str, LABEL_KEY_FORM]
LabelValue = Annotated[str, LABEL_VALUE_FORM]
