"""`DurableFunction` manifests: YAML in, a checked `Manifest` out, and a spec written back as YAML.

A file holds one or more documents. Faults name the file, the document and the path in it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from stepwell.errors import SpecError
from stepwell.spec.function import FunctionSpec, validate
from stepwell.spec.source import ConfigMapSource, ImageSource, InlineSource, Source, read_source
from stepwell.spec.yaml_text import dump_document, load_documents

__all__ = [
    "API_VERSION",
    "KIND",
    "ConfigMapSource",
    "ImageSource",
    "InlineSource",
    "Manifest",
    "Source",
    "parse_manifest",
    "parse_manifests",
    "to_manifest",
]

API_VERSION = "stepwell.dev/v1alpha1"
KIND = "DurableFunction"
MAX_REPLICAS = 1000
SOME_IMAGE = "your-registry/your-image:tag"

OWN = frozenset({"source", "replicas", "runner", "storeRef", "suspend"})
"""The parts of a manifest's spec that are not the function's configuration."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Manifest:
    """One `DurableFunction`. `spec.id` is its name; `namespace`, `pool` and `store` are None where it names none."""

    name: str
    namespace: str | None
    spec: FunctionSpec
    source: Source
    replicas: int = 1
    pool: str | None = None
    store: str | None = None
    suspend: bool = False


def parse_manifests(text: str | bytes, file: str = "manifest") -> list[Manifest]:
    """Read every document of a YAML text, or raise one SpecError that names every fault by file, document and path."""
    documents = [(place, document) for place, document in enumerate(load_documents(text, file), start=1) if document is not None]
    if not documents:
        raise SpecError(f"it holds no {KIND}", file)
    made: list[Manifest] = []
    faults: list[SpecError] = []
    for place, document in documents:
        at = file if len(documents) == 1 else f"{file}, document {place}"
        try:
            made.append(_distinct(parse_manifest(document, at), made, at))
        except SpecError as error:
            faults.append(error)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise SpecError("\n".join(str(fault) for fault in faults))
    return made


def parse_manifest(document: object, at: str = "manifest") -> Manifest:
    """Read one document that YAML or JSON has parsed already. `at` leads the paths of faults."""
    given = _mapping(document, at)
    if given.get("apiVersion") != API_VERSION or given.get("kind") != KIND:
        said = f"{given.get('apiVersion')!r} and {given.get('kind')!r}"
        raise SpecError(f"needs apiVersion {API_VERSION} and kind {KIND}, not {said}", at)
    _only(given, ("apiVersion", "kind", "metadata", "spec", "status"), at)
    metadata = _mapping(given.get("metadata"), f"{at}: metadata")
    spec = _mapping(given.get("spec"), f"{at}: spec")
    name = _text(metadata.get("name"), _NAME, "a name of lower-case letters, digits, `-` and `.`", f"{at}: metadata.name")
    namespace = metadata.get("namespace")
    if "id" in spec:
        raise SpecError("a function's id is its metadata.name; remove this", f"{at}: spec.id")
    return Manifest(
        name=name,
        namespace=None if namespace is None else _text(namespace, _LABEL, "the name of a namespace", f"{at}: metadata.namespace"),
        spec=_function(name, spec, at),
        source=read_source(spec.get("source"), f"{at}: spec.source"),
        replicas=_replicas(spec.get("replicas", 1), f"{at}: spec.replicas"),
        pool=_named(spec.get("runner"), "pool", _LABEL, f"{at}: spec.runner"),
        store=_named(spec.get("storeRef"), "name", _NAME, f"{at}: spec.storeRef"),
        suspend=_flag(spec.get("suspend", False), f"{at}: spec.suspend"),
    )


def to_manifest(spec: FunctionSpec, handler: str, image: str = SOME_IMAGE) -> str:
    """The spec as a manifest whose source is an image with the handler `module:function`.

    Raise SpecError if the id can't be the name of a Kubernetes object.
    """
    if _NAME.fullmatch(spec.id) is None:
        better = re.sub(r"[^a-z0-9]+", "-", spec.id.lower()).strip("-") or "my-function"
        raise SpecError(f"{spec.id!r} can't be the name of a Kubernetes object; an id such as {better!r} can", "id")
    options = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"id"})
    source = {"image": {"image": image, "handler": handler}}
    return dump_document(
        {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": spec.id}, "spec": {"source": source, **options}}
    )


def _distinct(manifest: Manifest, others: list[Manifest], at: str) -> Manifest:
    if any((other.namespace, other.name) == (manifest.namespace, manifest.name) for other in others):
        raise SpecError(f"{manifest.name!r} stands in this file twice; give one of them another name", f"{at}: metadata.name")
    return manifest


def _function(name: str, spec: Mapping[str, Any], at: str) -> FunctionSpec:
    options = {option: value for option, value in spec.items() if option not in OWN}
    snake = next((option for option in options if "_" in option), None)
    if snake is not None:
        raise SpecError("a manifest spells its options in camelCase, such as cancelOn", f"{at}: spec.{snake}")
    try:
        return validate({"id": name, **options}, "spec")
    except SpecError as error:
        where = f"{at}: {error.path}" if error.path else at
        raise SpecError(error.message, where, error.column) from None


def _mapping(value: object, at: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise SpecError("is missing" if value is None else f"must be a mapping, not {str(value)[:60]!r}", at)
    return cast("Mapping[str, Any]", value)


def _only(given: Mapping[str, Any], known: tuple[str, ...], at: str) -> None:
    for name in given:
        if name not in known:
            raise SpecError(f"{name!r}: there is no such option; there are: {', '.join(known)}", at)


def _text(value: object, form: re.Pattern[str], looks: str, at: str) -> str:
    if not isinstance(value, str) or form.fullmatch(value) is None:
        raise SpecError("is missing" if value is None else f"must be {looks}, not {str(value)[:60]!r}", at)
    return value


def _named(given: object, option: str, form: re.Pattern[str], at: str) -> str | None:
    """The one option of a small mapping, which may be missing as a whole."""
    if given is None:
        return None
    fields = _mapping(given, at)
    _only(fields, (option,), at)
    value = fields.get(option)
    return None if value is None else _text(value, form, "a name of lower-case letters, digits and `-`", f"{at}.{option}")


def _replicas(value: object, at: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_REPLICAS:
        raise SpecError(f"must be a whole number from 0 to {MAX_REPLICAS}, not {str(value)[:60]!r}", at)
    return value


def _flag(value: object, at: str) -> bool:
    if not isinstance(value, bool):
        raise SpecError(f"must be true or false, not {str(value)[:60]!r}", at)
    return value
