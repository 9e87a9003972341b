"""The two custom resource definitions, whole."""

from copy import deepcopy
from typing import Any

from stepwell.spec.document import API_VERSION
from stepwell.spec.durable_store import STORE_KIND, DurableStoreSpec
from stepwell.spec.function import FunctionSpec
from stepwell.spec.manifest import KIND
from stepwell.spec.object_options import ObjectOptions
from stepwell.spec.source import SOURCES
from stepwell_operator.crd.columns import FUNCTION_COLUMNS, FUNCTION_SELECTABLE, STORE_COLUMNS, STORE_SELECTABLE
from stepwell_operator.crd.rules import FUNCTION_RULES, STORE_RULES, TAUGHT, Rule, taught
from stepwell_operator.crd.schema import Schema, properties, structural
from stepwell_operator.crd.status import FunctionStatus, StoreStatus

GROUP, _, VERSION = API_VERSION.partition("/")
CATEGORY = "stepwell"

DEFAULTS: dict[str, Any] = {
    # Without a value here the scale subresource answers with an error.
    "spec.replicas": 1,
    "spec.suspend": False,
    "spec.retries": 4,
    "spec.deletionPolicy": "Cancel",
    "spec.revisions": {},
    "spec.revisions.strategy": "Pinned",
    "spec.revisions.max": 10,
}
STORE_DEFAULTS = {"spec.secretRef.key": "dsn"}

LIST_KEYS = {
    "spec.runner.env": ["name"],
    "spec.runner.topologySpreadConstraints": ["topologyKey", "whenUnsatisfiable"],
    "spec.runner.imagePullSecrets": ["name"],
    "status.conditions": ["type"],
    "status.revisions": ["id"],
}
"""What tells the entries of a list apart; every other list is one value."""

SCALE = {
    "specReplicasPath": ".spec.replicas",
    "statusReplicasPath": ".status.replicas",
    "labelSelectorPath": ".status.selector",
}
METADATA: Schema = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 253}}}
"""Names the field that a rule about the name is to blame on."""
SOURCE_WORDS = "Where the code comes from: exactly one of `inline`, `configMap` and `image`."
OBJECT_WORDS = {
    "apiVersion": "The version of this kind's form.",
    "kind": "The kind of the object.",
}


def function_definition() -> Schema:
    """The definition of DurableFunction."""
    schema = _object("A durable function: what starts it, where its code is, and how it runs.", _function_spec(), FunctionStatus)
    for path in TAUGHT:
        properties(schema, path).pop("pattern")
    _finish(schema, DEFAULTS, (*FUNCTION_RULES, *(taught(path, form) for path, form in TAUGHT.items())))
    version: Schema = {
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}, "scale": SCALE},
        "additionalPrinterColumns": FUNCTION_COLUMNS,
        "selectableFields": [{"jsonPath": path} for path in FUNCTION_SELECTABLE],
    }
    return _definition(KIND, "dfn", version)


def store_definition() -> Schema:
    """The definition of DurableStore."""
    schema = _object("A database of your own that holds functions' runs.", structural(DurableStoreSpec), StoreStatus)
    _finish(schema, STORE_DEFAULTS, STORE_RULES)
    version: Schema = {
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
        "additionalPrinterColumns": STORE_COLUMNS,
        "selectableFields": [{"jsonPath": path} for path in STORE_SELECTABLE],
    }
    return _definition(STORE_KIND, "dst", version)


def _function_spec() -> Schema:
    function, own = structural(FunctionSpec), structural(ObjectOptions)
    options = {name: field for name, field in function["properties"].items() if name != "id"}
    timeouts = options["timeouts"]["properties"]
    timeouts["run"] = {**timeouts["finish"], "description": "Another name for `finish`."}
    kinds = {name: structural(kind) for name, kind in SOURCES.items()}
    source = {"type": "object", "description": SOURCE_WORDS, "properties": kinds}
    return {
        "type": "object",
        "description": "What the function is, and how it stands in the cluster.",
        "required": ["source"],
        "properties": {**options, "source": source, **own["properties"]},
    }


def _object(words: str, spec: Schema, status: type[Any]) -> Schema:
    named = {name: {"type": "string", "description": text} for name, text in OBJECT_WORDS.items()}
    return {
        "type": "object",
        "description": words,
        "required": ["spec"],
        "properties": {**named, "metadata": deepcopy(METADATA), "spec": deepcopy(spec), "status": structural(status)},
    }


def _finish(schema: Schema, defaults: dict[str, Any], rules: tuple[Rule, ...]) -> None:
    """Add list types, defaults and rules."""
    _type_lists(schema, "")
    for path, value in defaults.items():
        properties(schema, path)["default"] = value
    for rule in rules:
        properties(schema, rule.at).setdefault("x-kubernetes-validations", []).append(rule.document())


def _type_lists(schema: Schema, path: str) -> None:
    if schema.get("type") == "array":
        keys = LIST_KEYS.get(path)
        schema["x-kubernetes-list-type"] = "map" if keys else "atomic"
        if keys:
            schema["x-kubernetes-list-map-keys"] = keys
        _type_lists(schema["items"], f"{path}[]")
    for name, field in schema.get("properties", {}).items():
        _type_lists(field, f"{path}.{name}".removeprefix("."))


def _definition(kind: str, short: str, version: Schema) -> Schema:
    plural = f"{kind.lower()}s"
    names = {
        "kind": kind,
        "listKind": f"{kind}List",
        "plural": plural,
        "singular": kind.lower(),
        "shortNames": [short],
        "categories": [CATEGORY],
    }
    versions = [{"name": VERSION, "served": True, "storage": True, **version}]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": versions},
    }
