"""On which nodes a function's pods may stand, spelt as in a Pod."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stepwell.spec.fault import refusal
from stepwell.spec.option import Option, option
from stepwell.spec.text import LabelKey, LabelValue


@option
class Toleration(Option):
    """Lets pods onto nodes with a matching taint."""

    key: LabelKey | None = None
    """The taint's key; all taints if left out (then `operator` must be Exists)."""
    operator: Literal["Exists", "Equal"] = "Equal"
    """Equal: the taint has this `value`. Exists: any value will do."""
    value: LabelValue | None = None
    """The taint's value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """The taint's effect; every effect if left out."""
    toleration_seconds: Annotated[int, Field(strict=True, ge=0, le=86_400 * 366)] | None = None
    """How long pods stay after a NoExecute taint was added; for ever if left out."""

    @model_validator(mode="after")
    def _check_fit(self) -> "Toleration":
        if self.key is None and self.operator != "Exists":
            raise refusal("`operator` must be 'Exists' when `key` is not set", "operator")
        if self.operator == "Exists" and self.value:
            raise refusal("`value` may not be specified when `operator` is 'Exists'", "value")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise refusal("`tolerationSeconds` may only be specified when `effect` is 'NoExecute'", "tolerationSeconds")
        return self


@option
class Spread(Option):
    """Spreads a pool's pods over the values of a node label; the operator adds the selector."""

    max_skew: Annotated[int, Field(strict=True, ge=1, le=1000)]
    """By how many pods two values of the label may differ."""
    topology_key: LabelKey
    """The node label, such as topology.kubernetes.io/zone."""
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"]
    """What happens to a pod that would break this."""
    min_domains: Annotated[int, Field(strict=True, ge=1, le=1000)] | None = None
    """How many values of the label there should be at least; with DoNotSchedule only."""
    node_affinity_policy: Literal["Honor", "Ignore"] | None = None
    """Whether nodes count that the node selector leaves out; Honor if left out."""
    node_taints_policy: Literal["Honor", "Ignore"] | None = None
    """Whether taints count; Ignore if left out."""

    @model_validator(mode="after")
    def _check_fit(self) -> "Spread":
        if self.min_domains is not None and self.when_unsatisfiable != "DoNotSchedule":
            raise refusal("`minDomains` may only be specified when `whenUnsatisfiable` is 'DoNotSchedule'", "minDomains")
        return self
