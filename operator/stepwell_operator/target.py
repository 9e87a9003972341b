"""What a DurableFunction asks for, worked out: the revision, the pool that runs it and the rows that register it. Pure.

Two classes of fields (docs/reference/revisions.md has the table): the source and the pod fields of `runner` make a revision, for
a pod has to be replaced; everything else is applied live.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from stepwell.errors import SpecError
from stepwell.spec.function import FunctionSpec, failure_spec
from stepwell.spec.manifest import Manifest, parse_manifest
from stepwell.spec.source import ConfigMapSource, ImageSource, InlineSource
from stepwell.spec.text import OBJECT_FORM
from stepwell_operator.names import pool_id, revision_of
from stepwell_operator.world import Key, Seen, mapping

DEFAULT_STORE = "default"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a spec isn't accepted: a stable reason of `SpecAccepted` and a sentence."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Code:
    """What a pool's pods execute: Python text, or an image that holds it. `kind` is the name of the source's field."""

    kind: str
    text: str | None = None
    image: str | None = None
    config_map: str | None = None


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """All that a pool's Deployment is made from; the store keeps it with every revision, so that it can be made again."""

    name: str
    code: Code
    pod: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The Deployment's name."""
        source = {"kind": self.code.kind, "text": self.code.text, "image": self.code.image, "configMap": self.code.config_map}
        return pool_id(self.name, {name: value for name, value in source.items() if value is not None}, self.pod)


@dataclass(frozen=True, slots=True)
class Target:
    """A function as it should be."""

    function: FunctionSpec
    failure: FunctionSpec | None
    pool: PoolSpec
    pool_id: str
    revision: str
    handler: str
    replicas: int
    suspended: bool
    strategy: str
    most_revisions: int
    policy: str
    store: str

    def code_row(self) -> bytes:
        """What the store keeps of the revision: the handlers, for runners, and all that its Deployment is made from."""
        pool = {
            "name": self.pool.name,
            "kind": self.pool.code.kind,
            "text": self.pool.code.text,
            "image": self.pool.code.image,
            "configMap": self.pool.code.config_map,
            "pod": self.pool.pod,
        }
        row = {"handler": self.handler, "onFailure": self.function.on_failure, "policy": self.policy, "made": pool}
        return orjson.dumps({name: value for name, value in row.items() if value is not None}, option=orjson.OPT_SORT_KEYS)


def read_pool(code: bytes) -> PoolSpec | None:
    """The pool that a revision's row tells of; None if the row was made by something else."""
    made = orjson.loads(code).get("made")
    if made is None:
        return None
    return PoolSpec(made["name"], Code(made["kind"], made["text"], made["image"], made["configMap"]), made["pod"])


def target_of(seen: Seen, config_maps: Mapping[Key, Mapping[str, str]]) -> Target | Fault:
    """Read a function's spec; `config_maps` holds the data of those that were found."""
    document = {
        "apiVersion": "stepwell.dev/v1alpha1",
        "kind": "DurableFunction",
        "metadata": {"name": seen.name, "namespace": seen.namespace},
        "spec": orjson.loads(seen.spec),
    }
    try:
        manifest = parse_manifest(document, seen.name)
    except SpecError as error:
        return Fault(_reason(error), _sentence(error, seen.name))
    code = _code(manifest, seen.namespace, config_maps)
    if isinstance(code, Fault):
        return code
    pool = PoolSpec(manifest.pool or manifest.name, code, manifest.runner.pod_fields())
    made = pool.id
    return Target(
        function=manifest.spec,
        failure=failure_spec(manifest.spec),
        pool=pool,
        pool_id=made,
        revision=revision_of(made, manifest.source.handler, manifest.spec.on_failure),
        handler=manifest.source.handler,
        replicas=manifest.replicas,
        suspended=manifest.suspend or seen.paused,
        strategy=manifest.revisions.strategy,
        most_revisions=manifest.revisions.max,
        policy=manifest.deletion_policy,
        store=manifest.store or DEFAULT_STORE,
    )


def config_map_of(seen: Seen) -> str | None:
    """The ConfigMap that a spec names, before anything of it is checked."""
    source = mapping(mapping(orjson.loads(seen.spec)).get("source"))
    name = mapping(source.get("configMap")).get("name")
    return name if isinstance(name, str) and OBJECT_FORM.fault(name) is None else None


def _code(manifest: Manifest, namespace: str, config_maps: Mapping[Key, Mapping[str, str]]) -> Code | Fault:
    match manifest.source:
        case InlineSource(code=text):
            return Code("inline", text=text)
        case ImageSource(image=image):
            return Code("image", image=image)
        case ConfigMapSource(name=name, key=key):
            data = config_maps.get((namespace, name))
            if data is None:
                return Fault("SourceNotFound", f"spec.source.configMap.name: there is no ConfigMap {name!r} in this namespace")
            if key not in data:
                there = ", ".join(sorted(data)[:8]) or "none"
                return Fault(
                    "SourceNotFound", f"spec.source.configMap.key: ConfigMap {name!r} has no key {key!r}; it has: {there}"
                )
            return Code("configMap", text=data[key], config_map=name)


REASONS = (
    ("there is no zone", "UnknownTimezone"),
    ("time zone", "UnknownTimezone"),
    ("never fires", "CronNeverFires"),
)


def _reason(error: SpecError) -> str:
    for words, reason in REASONS:
        if words in error.message:
            return reason
    path = error.path or ""
    if ".cron" in path:
        return "InvalidCron"
    if error.column is not None or path.endswith((".if", ".key", ".idempotency")):
        return "InvalidExpression"
    if "own" in error.message and ("engine" in error.message or "operator" in error.message):
        return "ReservedName"
    return "InvalidSpec"


def _sentence(error: SpecError, name: str) -> str:
    return str(error).removeprefix(f"{name}: ")[:1000]
