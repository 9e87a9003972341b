"""`DurableFunction` manifests: YAML in, a checked `Manifest` out, and a spec written back as YAML.

A file holds one or more documents. Faults name the file, the document and the path in it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from stepwell.errors import SpecError
from stepwell.spec.document import API_VERSION, read_head
from stepwell.spec.fault import spec_error
from stepwell.spec.function import OPTIONS as FUNCTION_OPTIONS
from stepwell.spec.function import FunctionSpec
from stepwell.spec.object_options import OPTIONS as OBJECT_OPTIONS
from stepwell.spec.object_options import DeletionPolicy, ObjectOptions
from stepwell.spec.option import option_names
from stepwell.spec.revisions import RevisionOptions
from stepwell.spec.runner import RunnerOptions
from stepwell.spec.source import ConfigMapSource, ImageSource, InlineSource, Source, read_source
from stepwell.spec.spelling import check_spelling
from stepwell.spec.text import OBJECT_FORM
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

KIND = "DurableFunction"
MAX_NAME = 52
SOME_IMAGE = "your-registry/your-image:tag"

OWN = frozenset({"source", *option_names(ObjectOptions)})
"""The parts of a manifest's spec that are not the function's configuration."""

_OBJECT_OPTIONS = TypeAdapter(ObjectOptions)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One `DurableFunction`; `namespace` is None where it names none."""

    name: str
    namespace: str | None
    spec: FunctionSpec
    source: Source
    options: ObjectOptions

    @property
    def function_id(self) -> str:
        """The function's id: `functionId`, or else the object's name."""
        return self.spec.id

    @property
    def runner(self) -> RunnerOptions:
        """The pool, and what its pods are like."""
        return self.options.runner

    @property
    def pool(self) -> str | None:
        """The pool that it names."""
        return self.options.runner.pool

    @property
    def replicas(self) -> int:
        """How many runners its pool has."""
        return self.options.replicas

    @property
    def store(self) -> str | None:
        """The DurableStore that it names."""
        return None if self.options.store_ref is None else self.options.store_ref.name

    @property
    def suspend(self) -> bool:
        """Whether new runs and schedules are held back."""
        return self.options.suspend

    @property
    def revisions(self) -> RevisionOptions:
        """What becomes of runs in flight when the code changes."""
        return self.options.revisions

    @property
    def deletion_policy(self) -> DeletionPolicy:
        """What becomes of runs in flight when the object is deleted."""
        return self.options.deletion_policy


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
    head = read_head(document, KIND, at)
    if len(head.name) > MAX_NAME:
        message = (
            f"has {len(head.name)} characters; at most {MAX_NAME} are allowed, for it becomes the prefix of Deployment names"
        )
        raise SpecError(message, f"{at}: metadata.name")
    if "id" in head.spec:
        raise SpecError("a function's id is its metadata.name, or `functionId`; remove this", f"{at}: spec.id")
    options = _options(head.spec, at)
    return Manifest(
        name=head.name,
        namespace=head.namespace,
        spec=_function(options.function_id or head.name, head.spec, at),
        source=read_source(head.spec.get("source"), f"{at}: spec.source"),
        options=options,
    )


def to_manifest(spec: FunctionSpec, handler: str, image: str = SOME_IMAGE) -> str:
    """The spec as a manifest whose source is an image with the handler `module:function`.

    Raise SpecError if the id can't be the name of a Kubernetes object.
    """
    if OBJECT_FORM.fault(spec.id) is not None or len(spec.id) > MAX_NAME:
        better = re.sub(r"[^a-z0-9]+", "-", spec.id.lower())[:MAX_NAME].strip("-") or "my-function"
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


def _function(function_id: str, spec: Mapping[str, Any], at: str) -> FunctionSpec:
    options = {name: value for name, value in spec.items() if name not in OWN}
    check_spelling(options, f"{at}: spec")
    try:
        return FunctionSpec.model_validate({"id": function_id, **options}, by_alias=True, by_name=False)
    except ValidationError as error:
        fault = spec_error(error, FUNCTION_OPTIONS, snake=False, at=f"{at}: spec")
        raise SpecError(fault.message, re.sub(r"\bspec\.id$", "spec.functionId", fault.path), fault.column) from None


def _options(spec: Mapping[str, Any], at: str) -> ObjectOptions:
    own = {name: value for name, value in spec.items() if name in OWN and name != "source"}
    try:
        return _OBJECT_OPTIONS.validate_python(own, by_alias=True, by_name=False)
    except ValidationError as error:
        raise spec_error(error, OBJECT_OPTIONS, snake=False, at=f"{at}: spec") from None
