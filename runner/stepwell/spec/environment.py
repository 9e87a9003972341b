"""Environment variables of a function's pods, spelt as in a Pod: given as text, or out of a Secret or ConfigMap."""

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from stepwell.spec.fault import refusal
from stepwell.spec.option import Option, option
from stepwell.spec.text import DataKey, ObjectName, Text

RESERVED = "STEPWELL_"
RESERVED_FAULT = f"names that begin with `{RESERVED}` are the operator's own; choose another"

Flag = Annotated[bool, Field(strict=True)]
VariableName = Annotated[str, Text(253, "a variable's name of letters, digits and `_`", "^[A-Za-z_][A-Za-z0-9_]*$")]
VariableValue = Annotated[str, Text(8192, "text", None, 0)]


@option
class KeyRef(Option):
    """One key of a Secret or ConfigMap of the same namespace."""

    name: ObjectName
    """The name of the Secret or ConfigMap."""
    key: DataKey
    """The key in it."""
    optional: Flag = False
    """Whether pods start without it."""


@option
class ValueFrom(Option):
    """Where a value comes from: exactly one of `secretKeyRef` and `configMapKeyRef`."""

    secret_key_ref: KeyRef | None = None
    """A key of a Secret of this namespace."""
    config_map_key_ref: KeyRef | None = None
    """A key of a ConfigMap of this namespace."""

    @model_validator(mode="after")
    def _check_one(self) -> "ValueFrom":
        if (self.secret_key_ref is None) == (self.config_map_key_ref is None):
            raise refusal("exactly one of `secretKeyRef` or `configMapKeyRef` must be set")
        return self


@option
class Variable(Option):
    """One environment variable: exactly one of `value` and `valueFrom`."""

    name: VariableName
    """The variable's name. Names that begin with `STEPWELL_` are the operator's own."""
    value: VariableValue | None = None
    """Its value; `$(OTHER)` stands for another variable's, as in a Pod."""
    value_from: ValueFrom | None = None
    """The Secret or ConfigMap that holds its value."""

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if value.startswith(RESERVED):
            raise refusal(RESERVED_FAULT)
        return value

    @model_validator(mode="after")
    def _check_one(self) -> "Variable":
        if (self.value is None) == (self.value_from is None):
            raise refusal("exactly one of `value` or `valueFrom` must be set")
        return self


@option
class ObjectRef(Option):
    """A Secret or ConfigMap of the same namespace."""

    name: ObjectName
    """The name of the Secret or ConfigMap."""
    optional: Flag = False
    """Whether pods start without it."""


@option
class VariablesFrom(Option):
    """All keys of a Secret or ConfigMap as variables: exactly one of `secretRef` and `configMapRef`."""

    prefix: VariableName | None = None
    """What is put before each key."""
    secret_ref: ObjectRef | None = None
    """A Secret of this namespace."""
    config_map_ref: ObjectRef | None = None
    """A ConfigMap of this namespace."""

    @field_validator("prefix")
    @classmethod
    def _check_prefix(cls, value: str | None) -> str | None:
        if value is not None and value.startswith(RESERVED):
            raise refusal(RESERVED_FAULT)
        return value

    @model_validator(mode="after")
    def _check_one(self) -> "VariablesFrom":
        if (self.secret_ref is None) == (self.config_map_ref is None):
            raise refusal("exactly one of `secretRef` or `configMapRef` must be set")
        return self
