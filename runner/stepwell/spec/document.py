"""What every manifest has: apiVersion, kind, metadata, spec."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from stepwell.errors import SpecError
from stepwell.spec.text import LABEL_FORM, OBJECT_FORM, Text

API_VERSION = "stepwell.dev/v1alpha1"
STORE_NAME_FORM = Text(
    40, "a store's name of lower-case letters, digits and `-`, at most 40", "^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$"
)
"""A store's name becomes a part of the name of its gateway's Service, which has 63 characters and no dots."""
NAMESPACE_FORM = Text(LABEL_FORM.most, "the name of a namespace", LABEL_FORM.pattern)


@dataclass(frozen=True, slots=True)
class Head:
    """A document's name, its namespace (None where it names none), and its spec, not read yet."""

    name: str
    namespace: str | None
    spec: Mapping[str, Any]


def read_head(document: object, kind: str, at: str, name: Text = OBJECT_FORM) -> Head:
    """Read the outside of a document of this kind, whose name has this form, or raise SpecError."""
    given = _mapping(document, at)
    if given.get("apiVersion") != API_VERSION or given.get("kind") != kind:
        said = f"{given.get('apiVersion')!r} and {given.get('kind')!r}"
        raise SpecError(f"needs apiVersion {API_VERSION} and kind {kind}, not {said}", at)
    _only(given, ("apiVersion", "kind", "metadata", "spec", "status"), at)
    metadata = _mapping(given.get("metadata"), f"{at}: metadata")
    spec = _mapping(given.get("spec"), f"{at}: spec")
    namespace = metadata.get("namespace")
    return Head(
        name=_text(metadata.get("name"), name, f"{at}: metadata.name"),
        namespace=None if namespace is None else _text(namespace, NAMESPACE_FORM, f"{at}: metadata.namespace"),
        spec=spec,
    )


def _mapping(value: object, at: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise SpecError("is missing" if value is None else f"must be a mapping, not {str(value)[:60]!r}", at)
    return cast("Mapping[str, Any]", value)


def _only(given: Mapping[str, Any], known: tuple[str, ...], at: str) -> None:
    for name in given:
        if name not in known:
            raise SpecError(f"{name!r}: there is no such option; there are: {', '.join(known)}", at)


def _text(value: object, form: Text, at: str) -> str:
    fault = form.fault(value) if isinstance(value, str) else None
    if not isinstance(value, str) or fault is not None:
        raise SpecError("is missing" if value is None else fault or f"must be {form.looks}, not {str(value)[:60]!r}", at)
    return value
