"""What may be said of a function's pods: a closed list of fields, never a pod spec. The operator's security context holds."""

import re
from typing import Annotated, Any

from pydantic import Field, field_validator

from stepwell.spec.environment import KeyRef, ObjectRef, ValueFrom, Variable, VariablesFrom
from stepwell.spec.fault import refusal
from stepwell.spec.option import Option, option, option_names
from stepwell.spec.placement import Spread, Toleration
from stepwell.spec.quantity import Resources
from stepwell.spec.text import LABEL_KEY_FORM, LABEL_VALUE_FORM, Label, ObjectName, Text, TextMap

MAX_VARIABLES = 100
MAX_VARIABLES_FROM = 20
MAX_LABELS = 32
MAX_TOLERATIONS = 32
MAX_SPREADS = 8
MAX_PULL_SECRETS = 10
MAX_GRACE = 3600

RESERVED = r"^([^/]*\.)?(stepwell\.dev|kubernetes\.io|k8s\.io)/"
RESERVED_FAULT = "names below stepwell.dev, kubernetes.io and k8s.io are the operator's own; choose another"
SYSTEM = "system-"
SYSTEM_FAULT = "the cluster's own classes, which begin with `system-`, are not for functions; choose another"

ANNOTATION_FORM = Text(4096, "text", None, 0)
Labels = Annotated[dict[str, str], TextMap(LABEL_KEY_FORM, LABEL_VALUE_FORM, MAX_LABELS)]
Annotations = Annotated[dict[str, str], TextMap(LABEL_KEY_FORM, ANNOTATION_FORM, MAX_LABELS)]


@option
class PullSecret(Option):
    """A Secret of this namespace with credentials of a registry."""

    name: ObjectName
    """The Secret's name."""


@option
class RunnerOptions(Option):
    """Which pool the function runs in, and what its pods are like. All but `pool` makes a new revision when it changes."""

    pool: Label | None = None
    """Functions that name the same pool and have the same source share their pods; a pool of its own if left out."""
    resources: Resources = Resources()
    """What each pod needs, and what it may use at most."""
    env: Annotated[tuple[Variable, ...], Field(max_length=MAX_VARIABLES)] = ()
    """Environment variables."""
    env_from: Annotated[tuple[VariablesFrom, ...], Field(max_length=MAX_VARIABLES_FROM)] = ()
    """Secrets and ConfigMaps of this namespace whose keys become environment variables."""
    node_selector: Labels | None = None
    """Labels that a node must have."""
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=MAX_TOLERATIONS)] = ()
    """Taints that pods put up with."""
    topology_spread_constraints: Annotated[tuple[Spread, ...], Field(max_length=MAX_SPREADS)] = ()
    """How pods are spread over zones or nodes."""
    labels: Labels | None = None
    """More labels of the pods. Names below stepwell.dev, kubernetes.io and k8s.io are the operator's own."""
    annotations: Annotations | None = None
    """Annotations of the pods. Names below stepwell.dev, kubernetes.io and k8s.io are the operator's own."""
    image_pull_secrets: Annotated[tuple[PullSecret, ...], Field(max_length=MAX_PULL_SECRETS)] = ()
    """Secrets of this namespace with credentials of registries."""
    service_account_name: ObjectName | None = None
    """The pods' ServiceAccount. Its token isn't mounted."""
    runtime_class_name: ObjectName | None = None
    """The pods' RuntimeClass."""
    termination_grace_period_seconds: Annotated[int, Field(strict=True, ge=1, le=MAX_GRACE)] | None = None
    """How long a pod may go on with its steps when it is told to stop; 60 if left out."""
    priority_class_name: ObjectName | None = None
    """The pods' PriorityClass; not one that begins with `system-`."""

    def pod_fields(self) -> dict[str, Any]:
        """What shapes the pods, in YAML's names and without defaults: equal pods have equal fields."""
        fields = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        fields.pop("pool", None)
        return {name: value for name, value in fields.items() if value not in ({}, None)}

    @field_validator("env")
    @classmethod
    def _check_env(cls, value: tuple[Variable, ...]) -> tuple[Variable, ...]:
        _refuse_twice([one.name for one in value])
        return value

    @field_validator("topology_spread_constraints")
    @classmethod
    def _check_spreads(cls, value: tuple[Spread, ...]) -> tuple[Spread, ...]:
        _refuse_twice([f"{one.topology_key} with {one.when_unsatisfiable}" for one in value])
        return value

    @field_validator("image_pull_secrets")
    @classmethod
    def _check_pull_secrets(cls, value: tuple[PullSecret, ...]) -> tuple[PullSecret, ...]:
        _refuse_twice([one.name for one in value])
        return value

    @field_validator("labels", "annotations")
    @classmethod
    def _check_reserved(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        for name in value or ():
            if re.match(RESERVED, name) is not None:
                raise refusal(RESERVED_FAULT, f"[{name}]")
        return value

    @field_validator("priority_class_name")
    @classmethod
    def _check_priority(cls, value: str | None) -> str | None:
        if value is not None and value.startswith(SYSTEM):
            raise refusal(SYSTEM_FAULT)
        return value


def _refuse_twice(names: list[str]) -> None:
    for place, name in enumerate(names):
        if name in names[:place]:
            raise refusal(f"{name!r} stands in this list twice; remove one of them", f"[{place}]")


OPTIONS: dict[str, tuple[str, ...]] = {
    "": option_names(RunnerOptions),
    "resources": option_names(Resources),
    "env[]": option_names(Variable),
    "env[].valueFrom": option_names(ValueFrom),
    "env[].valueFrom.secretKeyRef": option_names(KeyRef),
    "env[].valueFrom.configMapKeyRef": option_names(KeyRef),
    "envFrom[]": option_names(VariablesFrom),
    "envFrom[].secretRef": option_names(ObjectRef),
    "envFrom[].configMapRef": option_names(ObjectRef),
    "tolerations[]": option_names(Toleration),
    "topologySpreadConstraints[]": option_names(Spread),
    "imagePullSecrets[]": option_names(PullSecret),
}
"""The names of the options, by where they stand."""
