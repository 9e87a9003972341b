"""`DurableStore` manifests: which database of the user's own holds a namespace's well."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError, field_validator

from stepwell.spec.document import STORE_NAME_FORM, read_head
from stepwell.spec.fault import refusal, spec_error
from stepwell.spec.option import Option, option, option_names
from stepwell.spec.text import DataKey, ObjectName, Text

STORE_KIND = "DurableStore"

SchemaName = Annotated[
    str, Text(63, "a schema's name of lower-case letters, digits and `_`, at most 63", "^[a-z_][a-z0-9_]{0,62}$")
]


@option
class StoreSecret(Option):
    """The Secret of this namespace that holds the address of the database."""

    name: ObjectName
    """The Secret's name."""
    key: DataKey = "dsn"
    """The key in it whose value is the address, such as postgresql://user:password@host/database."""


@option
class DurableStoreSpec(Option):
    """Which database holds the well of the functions that name this store."""

    secret_ref: StoreSecret
    """The Secret of this namespace that holds the address of the database."""
    schema: SchemaName | None = None
    """The schema of the database that is the well, made if it isn't there; if left out, the one that the address names, else
    `stepwell`."""

    @field_validator("schema")
    @classmethod
    def _check_schema(cls, value: str | None) -> str | None:
        if value is not None and value.startswith("pg_"):
            raise refusal("names that begin with `pg_` are Postgres's own; choose another")
        return value


@dataclass(frozen=True, slots=True)
class DurableStore:
    """One `DurableStore`; `namespace` is None where it names none."""

    name: str
    namespace: str | None
    spec: DurableStoreSpec


def parse_store(document: object, at: str = "manifest") -> DurableStore:
    """Read one document that YAML or JSON has parsed already, or raise SpecError. `at` leads the paths of faults."""
    head = read_head(document, STORE_KIND, at, STORE_NAME_FORM)
    return DurableStore(head.name, head.namespace, _spec(head.spec, at))


OPTIONS = {"": option_names(DurableStoreSpec), "secretRef": option_names(StoreSecret)}
_ADAPTER = TypeAdapter(DurableStoreSpec)


def _spec(given: Mapping[str, Any], at: str) -> DurableStoreSpec:
    try:
        return _ADAPTER.validate_python(dict(given), by_alias=True, by_name=False)
    except ValidationError as error:
        raise spec_error(error, OPTIONS, snake=False, at=f"{at}: spec") from None
