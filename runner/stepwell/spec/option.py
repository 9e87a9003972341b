"""The form that all options of a function share: frozen data that pydantic checks, with faults told as SpecError."""

import functools
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Literal, Self, TypeVar, cast, dataclass_transform

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass as checked_dataclass

from stepwell.spec.fault import spec_error

T = TypeVar("T")


def yaml_name(name: str) -> str:
    """How YAML spells an option: `max_runtime` is `maxRuntime`, `if_` is `if`."""
    return to_camel(name.rstrip("_"))


CONFIG = ConfigDict(extra="forbid", alias_generator=yaml_name, validate_by_name=True, validate_by_alias=True)


class Option:
    """What every option can do beside holding its fields; the names are pydantic's."""

    __slots__ = ()

    @classmethod
    def model_validate(cls, given: object) -> Self:
        """Read it from a mapping (YAML's names or Python's), or raise SpecError naming every fault."""
        try:
            return _adapter(cls).validate_python(given)
        except ValidationError as error:
            raise spec_error(error, {"": option_names(cls)}, snake=False) from None

    @classmethod
    def model_validate_json(cls, given: bytes | str) -> Self:
        """Read it from JSON."""
        try:
            return _adapter(cls).validate_json(given)
        except ValidationError as error:
            raise spec_error(error, {"": option_names(cls)}, snake=False) from None

    def model_dump(
        self,
        *,
        mode: Literal["json", "python"] = "python",
        by_alias: bool = False,
        exclude_none: bool = False,
        exclude_defaults: bool = False,
    ) -> dict[str, Any]:
        """The fields as a mapping that `model_validate` reads; durations are text."""
        return _adapter(type(self)).dump_python(
            self, mode=mode, by_alias=by_alias, exclude_none=exclude_none, exclude_defaults=exclude_defaults
        )

    def model_dump_json(self, *, by_alias: bool = False, exclude_none: bool = False) -> str:
        """The fields as JSON that `model_validate_json` reads."""
        return _adapter(type(self)).dump_json(self, by_alias=by_alias, exclude_none=exclude_none).decode()


@dataclass_transform(frozen_default=True)
def option(cls: type[T]) -> type[T]:
    """Make a class an option: frozen and slotted, checked when made, its first field also by position."""
    made = cast("Any", checked_dataclass(frozen=True, slots=True, config=CONFIG)(cls))
    check = cast("Callable[..., None]", made.__init__)

    @functools.wraps(check)
    def init(self: object, *positional: Any, **named: Any) -> None:
        try:
            check(self, *positional, **named)
        except ValidationError as error:
            raise spec_error(error, {"": option_names(made)}, snake=True, at=made.__name__) from None

    made.__init__ = init
    return cast("type[T]", made)


def option_names(cls: Any) -> tuple[str, ...]:
    """The option names of a class, as YAML spells them."""
    return tuple(yaml_name(field.name) for field in fields(cls))


@functools.cache
def _adapter(cls: type[T]) -> TypeAdapter[T]:
    return TypeAdapter(cls)
