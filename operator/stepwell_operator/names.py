"""Names, labels and hashes of what the operator makes."""

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

GROUP = "stepwell.dev"
POOL, POOL_ID = f"{GROUP}/pool", f"{GROUP}/pool-id"
APPLIED = f"{GROUP}/applied"
PAUSE = f"{GROUP}/suspend"
PAUSED_BY = f"{GROUP}/paused-by"
PLACE = f"{GROUP}/place"
"""On a well's Secret: a hash of the place that the administrator's address led to when we wrote it."""
FINALIZER = f"{GROUP}/drain"
NAME, COMPONENT, MANAGED_BY = "app.kubernetes.io/name", "app.kubernetes.io/component", "app.kubernetes.io/managed-by"
OPERATOR = "stepwell-operator"
OURS = f"{MANAGED_BY}={OPERATOR}"
RUNNERS = f"{OURS},{COMPONENT}=runner"
"""Selectors of our objects, and of runner pods."""

GATEWAY = "stepwell-gateway"
STORE_SECRET = "stepwell-store"  # noqa: S105 - the name of a Secret
GATEWAY_SECRET = "stepwell-gateway"  # noqa: S105
MOST_POOL = 36
"""A Deployment's name leaves room for the 17 characters that Pods' names add, within a label's 63."""


def digest(value: object, length: int = 8) -> str:
    """A short hash of a value's canonical JSON: equal values give equal hashes, across processes and releases."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:length]


def pool_id(pool: str, source: Mapping[str, Any], pod: Mapping[str, Any]) -> str:
    """The name of the Deployment that runs this source in this pool with these pod fields."""
    return f"{pool[:MOST_POOL].rstrip('-.')}-{digest([pool, source, pod])}".replace(".", "-")


def revision_of(pool: str, handler: str, on_failure: str | None) -> str:
    """The revision of a function: what is executed, and where."""
    return digest([pool, handler, on_failure])


def labels(component: str, **more: str) -> dict[str, str]:
    """The labels of a child; `more` adds ours, such as `pool`."""
    own = {f"{GROUP}/{name.replace('_', '-')}": value for name, value in more.items()}
    return {NAME: "stepwell", COMPONENT: component, MANAGED_BY: OPERATOR, **own}
