"""Does an object that we made still say what we said? Pure.

The API server adds defaults to maps, so a map may hold more than we stated; a list may not, since what somebody added to one of
ours (a container, a volume, a variable) would run with our pods.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, cast

import orjson

from stepwell_operator.names import APPLIED
from stepwell_operator.world import Child, rest_of

SUFFIXES = {
    "": Decimal(1), "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "k": Decimal(1000),
    "M": Decimal(10) ** 6, "G": Decimal(10) ** 9, "T": Decimal(10) ** 12, "P": Decimal(10) ** 15, "E": Decimal(10) ** 18,
    "Ki": Decimal(2) ** 10, "Mi": Decimal(2) ** 20, "Gi": Decimal(2) ** 30, "Ti": Decimal(2) ** 40, "Pi": Decimal(2) ** 50,
    "Ei": Decimal(2) ** 60,
}  # fmt: skip


def is_as_stated(child: Child, document: Mapping[str, Any], *, any_owners: bool = False) -> bool:
    """Whether a child that was seen is what `document` states, or is but for its owners."""
    metadata = document["metadata"]
    owners = tuple(sorted(owner["uid"] for owner in metadata["ownerReferences"]))
    return (
        child.applied == metadata["annotations"][APPLIED]
        and (any_owners or child.owners == owners)
        and _covers(child.labels, metadata["labels"])
        and child.rest == rest_of(document)
        and ("spec" not in document or _covers(orjson.loads(child.spec or b"{}"), document["spec"]))
    )


def undoing(there: Any, stated: Any, path: tuple[str, ...] = ()) -> Any:
    """A JSON merge patch by which what is there becomes what is stated; defaults of the API server stay."""
    if not isinstance(stated, Mapping) or not isinstance(there, Mapping):
        return cast("Any", stated)
    wanted, found = cast("Mapping[str, Any]", stated), cast("Mapping[str, Any]", there)
    more = {name: None for name in found if name not in wanted} if _is_whole(path) else {}
    return {name: undoing(found.get(name), value, (*path, name)) for name, value in wanted.items()} | more


WHOLE = {"limits", "requests", "nodeSelector", "selector", "podSelector", "matchLabels"}


def _is_whole(path: tuple[str, ...]) -> bool:
    """Whether a map here means something else with one key more: other nodes, no pod."""
    return bool(path) and path[-1] in WHOLE


def _covers(there: Any, stated: Any, path: tuple[str, ...] = ()) -> bool:  # noqa: PLR0911 - a case a line
    if isinstance(stated, Mapping):
        if not isinstance(there, Mapping):
            return not stated and there is None
        found = cast("Mapping[str, Any]", there)
        if _is_whole(path) and set(found) != set(cast("Mapping[str, Any]", stated)):
            return False
        return all(_covers(found.get(name), value, (*path, name)) for name, value in cast("Mapping[str, Any]", stated).items())
    if isinstance(stated, Sequence) and not isinstance(stated, str):
        items = cast("Sequence[Any]", stated)
        if not isinstance(there, Sequence) or isinstance(there, str):
            return not items and there is None
        found_items = cast("Sequence[Any]", there)
        return len(found_items) == len(items) and all(map(_covers, found_items, items, [path] * len(items)))
    if len(path) > 1 and path[-2] in {"limits", "requests"}:
        return _quantity(there) == _quantity(stated)
    return there == stated


def _quantity(value: Any) -> Decimal | None:
    """A Kubernetes quantity as a number: the server rewrites `1000m` as `1`."""
    text = str(value)
    digits = text.rstrip("numkMGTPEKi")
    try:
        return Decimal(digits) * SUFFIXES[text[len(digits) :]]
    except (InvalidOperation, KeyError):
        return None
