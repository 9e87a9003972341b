"""Documents that name every field of both kinds, and ways to vary them."""

import contextlib
import copy
from collections.abc import Iterator
from random import Random
from typing import Any

from crd_cases import document

from stepwell.errors import SpecError
from stepwell.spec.durable_store import parse_store
from stepwell.spec.manifest import parse_manifest

MAPS = ("runner.labels", "runner.annotations", "runner.nodeSelector", "resources.requests", "resources.limits")
"""The mappings whose names are the user's."""

FULL: dict[str, Any] = {
    "functionId": "Shop.f",
    "triggers": [
        {"event": "order/created", "if": "event.data.total > 100"},
        {"cron": "TZ=Europe/Paris 0 12 * * 5", "jitter": "30s", "missed": "All", "window": "2h", "overlap": "Skip"},
    ],
    "source": {"image": {"image": "registry/shop:1.4", "handler": "shop.orders:go"}},
    "retries": 2,
    "backoff": {"strategy": "exponential", "base": "2s", "max": "10m", "factor": 3, "jitter": "1s"},
    "concurrency": [{"limit": 10, "key": "event.data.customer", "scope": "namespace"}],
    "idempotency": "event.data.id",
    "cancelOn": [{"event": "order/cancelled", "if": "event.data.id == async.data.id", "timeout": "30d"}],
    "timeouts": {"start": "5m", "run": "30m"},
    "checkpointing": {"maxRuntime": "1m", "bufferedSteps": 5, "maxInterval": "1s"},
    "onFailure": "clean_up",
    "runner": {
        "pool": "shop",
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": 1073741824}},
        "env": [
            {"name": "A", "value": "1"},
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}},
            {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k", "optional": False}}},
        ],
        "envFrom": [
            {"prefix": "P_", "secretRef": {"name": "s", "optional": True}},
            {"configMapRef": {"name": "c", "optional": False}},
        ],
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "a", "operator": "Equal", "value": "b", "effect": "NoExecute", "tolerationSeconds": 60}],
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "zone",
                "whenUnsatisfiable": "DoNotSchedule",
                "minDomains": 2,
                "nodeAffinityPolicy": "Honor",
                "nodeTaintsPolicy": "Ignore",
            }
        ],
        "labels": {"team": "a"},
        "annotations": {"note": "b"},
        "imagePullSecrets": [{"name": "r"}],
        "serviceAccountName": "shop",
        "runtimeClassName": "gvisor",
        "terminationGracePeriodSeconds": 30,
        "priorityClassName": "first",
    },
    "storeRef": {"name": "own"},
    "replicas": 3,
    "suspend": True,
    "revisions": {"strategy": "Replace", "max": 5},
    "deletionPolicy": "Drain",
}
VARIANTS: tuple[dict[str, Any], ...] = (
    {name: value for name, value in FULL.items() if name != "onFailure"},
    FULL,
    {
        **FULL,
        "source": {"inline": {"code": "async def go(ctx): ...", "handler": "go"}},
        "backoff": {"strategy": "table", "table": ["1s"]},
    },
    {**FULL, "source": {"configMap": {"name": "shop", "key": "orders.py", "handler": "go"}}, "timeouts": {"finish": "1h"}},
)
STORE_FULL = {"secretRef": {"name": "db", "key": "dsn"}, "schema": "shop"}


def reads(spec: Any, kind: str = "DurableFunction") -> bool:
    try:
        (parse_manifest if kind == "DurableFunction" else parse_store)(document({}, kind) | {"spec": spec})
    except SpecError:
        return False
    return True


def places(value: Any, path: str = "") -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Every place in a document: its path in the schema, and the keys that lead to it."""
    yield path, ()
    if isinstance(value, dict):
        for name, item in value.items():
            step = f"{path}{{}}" if path.endswith(MAPS) else f"{path}.{name}".removeprefix(".")
            yield from ((inner, (name, *keys)) for inner, keys in places(item, step))
    if isinstance(value, list):
        for place, item in enumerate(value):
            yield from ((inner, (place, *keys)) for inner, keys in places(item, f"{path}[]"))


def changed(spec: dict[str, Any], keys: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """The document with another value at a place."""
    made = copy.deepcopy(spec)
    inner: Any = made
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return made


JUNK: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 7, 2000, 0.5, 1.0, 3.5, "", "a", "A", " 30s", "30s", "30", "1.5h", "@daily", "* * * * *", "x y", "ß",
    "\x00", "event.data.a", "app/*", "Skip", "All", "Equal", "Exists", "STEPWELL_A", "m:f", "default", "table", "linear",
    "namespace", "500m", {}, [], ["1s"], [1], {"name": "a"}, {"name": "a", "key": "b"}, {"event": "a"}, {"cron": "@daily"}, {"limit": 1},
    {"key": "a", "operator": "Exists"}, {"example.com/a": "b"}, {"a": None}, {"cpu": "1"},
)  # fmt: skip


def with_junk(spec: dict[str, Any], random: Random) -> dict[str, Any]:
    """The document with one to three places changed, taken out or added."""
    made = copy.deepcopy(spec)
    for _ in range(random.randint(1, 3)):
        keys = random.choice([keys for _path, keys in places(made) if keys])
        with contextlib.suppress(KeyError, IndexError, TypeError):
            made = without(made, keys) if random.random() < 0.2 else changed(made, keys, random.choice(JUNK))
    return made


def without(spec: dict[str, Any], keys: tuple[Any, ...]) -> dict[str, Any]:
    """The document without a place."""
    made = copy.deepcopy(spec)
    inner: Any = made
    for key in keys[:-1]:
        inner = inner[key]
    del inner[keys[-1]]
    return made
