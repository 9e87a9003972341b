"""What can wait, waits until it has been wanted for some seconds: then it is written once, as it is wanted by then. Pure.

| what can wait                                 | how long           | because                                     |
|-----------------------------------------------|--------------------|---------------------------------------------|
| other owners of what functions share          | `OWNERS_PATIENCE`  | functions come and go in bursts             |
| a status that lacks the gateway's pod alone   | `GATEWAY_PATIENCE` | it is seldom far behind; a roll-over is no news |
| a status in which only pods are counted anew  | `COUNTS_PATIENCE`  | pods come and go one by one                 |

Everything else is written at once: the first owners, the second one, any other status. The seconds run from the first change and
not anew with each, so that a burst without an end is written every so often. What isn't wanted any more by then never was.
"""

from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from stepwell_operator.world import Document, listed

K = TypeVar("K", bound=Hashable)
OWNERS_PATIENCE = 2.0
GATEWAY_PATIENCE = 8.0
COUNTS_PATIENCE = 2.0
COUNTS = frozenset({"replicas", "readyReplicas"})


@dataclass(slots=True)
class Settling(Generic[K]):
    """Since when (monotonic seconds) something that can wait has been wanted of each key."""

    _since: dict[K, float] = field(default_factory=dict[K, float])

    def left(self, key: K, patience: float, now: float) -> float:
        """For how many seconds more this waits; 0 once it has for long enough."""
        return max(0.0, self._since.setdefault(key, now) + patience - now)

    def over(self, key: K) -> None:
        """It is written, or not wanted any more: what comes next waits from then on."""
        self._since.pop(key, None)


@dataclass(frozen=True, slots=True)
class Owners:
    """Owner references that something is to have; while they are `put_off`, those that are there may stay."""

    wanted: list[Document]
    put_off: bool = False

    def are(self, there: Iterable[str]) -> bool:
        """Whether nothing has to be done where these uids own it."""
        return self.put_off or frozenset(there) == uids(self.wanted)


def uids(owners: Iterable[Document]) -> frozenset[str]:
    """Whom owner references name."""
    return frozenset(owner["uid"] for owner in owners)


def owners_can_wait(there: Collection[frozenset[str]], wanted: frozenset[str], told: frozenset[str]) -> bool:
    """Whether a change from the owners that each object has to the wanted ones can wait. `told`: whom we last said.

    It can't for somebody who never was an owner where one function alone is: what is shared, the gateway's keys too, would go
    with that one (`kubectl apply` of its successor, `kubectl delete` of it). It can for somebody who was: if it was the garbage
    collector that took the name out, then the function is gone and we are the last to hear of it.
    """
    different = [one for one in there if one != wanted]
    return bool(different) and all(wanted <= one | told or len(one & wanted) > 1 for one in different)


def status_patience(before: Mapping[str, Any], after: Mapping[str, Any], changed: Collection[str]) -> float:
    """How long a status whose parts `changed` can wait, in seconds; 0 if it says anything that somebody acts on."""
    if _ready_reason(after) == "NoGateway" != _ready_reason(before):
        return GATEWAY_PATIENCE
    return COUNTS_PATIENCE if COUNTS.issuperset(changed) else 0.0


def _ready_reason(status: Mapping[str, Any]) -> str:
    return next((one["reason"] for one in listed(status.get("conditions")) if one["type"] == "Ready"), "")
