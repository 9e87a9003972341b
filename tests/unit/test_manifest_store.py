"""`DurableStore` manifests: read, and refused with their place."""

from typing import Any

import pytest
from crd_cases import document

from stepwell.errors import SpecError
from stepwell.spec.durable_store import DurableStore, DurableStoreSpec, StoreSecret, parse_store


def test_a_store_is_read() -> None:
    """A Secret's name is enough; key and schema may be said."""
    assert parse_store(document({"secretRef": {"name": "db"}}, "DurableStore", "own")) == DurableStore(
        "own", None, DurableStoreSpec(StoreSecret("db"))
    )
    read = parse_store(document({"secretRef": {"name": "db", "key": "url"}, "schema": "shop"}, "DurableStore"))
    assert (read.spec.secret_ref.name, read.spec.secret_ref.key, read.spec.schema) == ("db", "url", "shop")


@pytest.mark.parametrize(
    ("spec", "path", "says"),
    [
        ({}, "s.yaml: spec.secretRef", "is missing"),
        ({"secretRef": {"name": "db"}, "dsn": "postgresql://"}, "s.yaml: spec.dsn", "there is no such option"),
        ({"secretRef": {"nam": "db", "name": "db"}}, "s.yaml: spec.secretRef.nam", "did you mean `name`?"),
        ({"secret_ref": {"name": "db"}, "secretRef": {"name": "db"}}, "s.yaml: spec.secret_ref", "did you mean `secretRef`?"),
        ({"secretRef": {"name": "DB"}}, "s.yaml: spec.secretRef.name", "lower-case"),
        ({"secretRef": {"name": "db", "key": "a b"}}, "s.yaml: spec.secretRef.key", "a key of letters"),
        ({"secretRef": {"name": "db"}, "schema": "Shop"}, "s.yaml: spec.schema", "a schema's name"),
        ({"secretRef": {"name": "db"}, "schema": "pg_shop"}, "s.yaml: spec.schema", "Postgres's own"),
        ({"secretRef": {"name": "db"}, "schema": "s" * 64}, "s.yaml: spec.schema", "at most 63"),
    ],
)
def test_what_is_wrong_with_a_store_is_told_with_its_place(spec: dict[str, Any], path: str, says: str) -> None:
    """Each fault names the file and the path, and says what to write."""
    with pytest.raises(SpecError) as caught:
        parse_store(document(spec, "DurableStore"), "s.yaml")
    assert caught.value.path == path
    assert says in caught.value.message


@pytest.mark.parametrize("name", ["n" * 41, "a.b", "A", ""])
def test_a_store_has_a_name_that_fits_a_service(name: str) -> None:
    """A store's name becomes part of its gateway's Service's: 40 characters and no dots."""
    with pytest.raises(SpecError, match=r"metadata\.name"):
        parse_store(document({"secretRef": {"name": "db"}}, "DurableStore", name))


def test_a_function_is_no_store() -> None:
    """Another kind is refused, whatever it holds."""
    with pytest.raises(SpecError, match=r"needs apiVersion stepwell\.dev/v1alpha1 and kind DurableStore"):
        parse_store(document({"secretRef": {"name": "db"}}))
