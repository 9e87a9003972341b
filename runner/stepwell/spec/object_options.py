"""What a `DurableFunction` says beside the function's configuration and its source: how it stands in the cluster."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from stepwell.spec.document import STORE_NAME_FORM
from stepwell.spec.fault import refusal
from stepwell.spec.option import Option, option, option_names
from stepwell.spec.revisions import RevisionOptions
from stepwell.spec.runner import OPTIONS as RUNNER_OPTIONS
from stepwell.spec.runner import RunnerOptions
from stepwell.spec.text import Text

MAX_REPLICAS = 1000

ID_FORM = Text(128, "an id of letters, digits, `.`, `_` and `-`, such as process-order", "^[A-Za-z0-9._-]+$")
FunctionId = Annotated[str, ID_FORM]
DeletionPolicy = Literal["Cancel", "Drain"]


def _replicas(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_REPLICAS:
        raise refusal(f"must be a whole number from 0 to {MAX_REPLICAS}, not {str(value)[:60]!r}")
    return value


@option
class StoreRef(Option):
    """The DurableStore of this namespace whose database holds the function's runs."""

    name: Annotated[str, STORE_NAME_FORM]
    """The DurableStore's name; where none is called `default`, `default` is the well that the operator makes."""


@option
class ObjectOptions(Option):
    """How a function stands in the cluster."""

    function_id: FunctionId | None = None
    """The function's id; its metadata.name if left out. Runs are keyed by it, so it never changes."""
    suspend: Annotated[bool, Field(strict=True)] = False
    """Whether new runs and schedules are held back. Runs in flight go on."""
    replicas: Annotated[int, Field(strict=True, ge=0, le=MAX_REPLICAS), BeforeValidator(_replicas)] = 1
    """How many runners its pool has. Functions that share a pool get the largest of their numbers."""
    runner: RunnerOptions = RunnerOptions()
    """The pool that the function runs in, and what its pods are like."""
    store_ref: StoreRef | None = None
    """The DurableStore of this namespace whose database holds the function's runs; `default` if left out."""
    revisions: RevisionOptions = RevisionOptions()
    """What becomes of runs in flight when the code changes."""
    deletion_policy: DeletionPolicy = "Cancel"
    """When the object is deleted, Cancel ends its runs at once; Drain keeps it until its runs have ended, for an hour at most."""


OPTIONS: dict[str, tuple[str, ...]] = {
    "": option_names(ObjectOptions),
    "storeRef": option_names(StoreRef),
    "revisions": option_names(RevisionOptions),
    **{f"runner.{place}".rstrip("."): names for place, names in RUNNER_OPTIONS.items()},
}
"""The names of the options, by where they stand."""
