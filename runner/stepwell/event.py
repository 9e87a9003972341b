"""The event, as user code sends and receives it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic

from typing_extensions import TypeVar

DataT = TypeVar("DataT", default=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Event(Generic[DataT]):
    """A named, immutable fact.

    `data` is JSON (or the trigger's model). `id` makes it unique: sent again within 7 days it is the same event. `ts` is ms
    since 1970; one in the future delays the runs that it starts. `v` is the version of the data's shape, if you keep one.
    """

    name: str
    data: DataT = field(default_factory=dict)  # type: ignore[assignment]
    id: str | None = None
    ts: int | None = None
    v: str | None = None


def event_of(document: Mapping[str, Any], data: Any) -> Event[Any]:
    """The event that a stored document tells of, with its data as given."""
    return Event(document["name"], data, document.get("id"), document.get("ts"), document.get("v"))
