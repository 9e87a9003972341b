"""Events as they come in: checked, given an id, hashed and written down as one JSON document."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from stepwell import values
from stepwell.engine.trace import parse_traceparent
from stepwell.errors import SpecError
from stepwell.ids import Ids, check_event_id
from stepwell.store.records import EventRow

OURS = ("stepwell/", "inngest/")
MAX_NAME = 255
EARLIEST_TS = 315_532_800_000
LATEST_TS = 4_102_444_800_000
"""`ts` is in ms, from 1980 to 2100, as Inngest has it."""

FAILED = "stepwell/function.failed"
FINISHED = "stepwell/function.finished"
CANCELLED = "stepwell/function.cancelled"
INVOKED = "stepwell/function.invoked"
SCHEDULED = "stepwell/scheduled.timer"
SYSTEM_PREFIX = "stepwell/function."


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event offered by somebody. `ts` is ms since 1970; a `ts` in the future delays the runs that it starts.

    `traceparent` is the span that sent it (W3C Trace Context); it is kept with the event and is no part of what was said, so the
    same event may come again from another span.
    """

    name: str
    data: Mapping[str, Any]
    id: str | None = None
    ts: int | None = None
    v: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Fact:
    """An event with its id: the row to store and the document that expressions and user code see."""

    row: EventRow
    document: dict[str, Any]


def parse_event(obj: object, path: str = "event") -> NewEvent:
    """Read one event from decoded JSON; raise SpecError naming the field that is wrong. Unknown fields are ignored."""
    if not isinstance(obj, Mapping):
        raise SpecError('an event is a JSON object such as {"name": "order/created", "data": {}}', path)
    event = cast("Mapping[str, object]", obj)
    data = event.get("data")
    if data is None:
        data = {}
    if not isinstance(data, Mapping):
        raise SpecError("must be a JSON object", f"{path}.data")
    return NewEvent(
        name=check_name(event.get("name"), f"{path}.name"),
        data=cast("Mapping[str, Any]", data),
        id=_id(event.get("id"), f"{path}.id"),
        ts=_ts(event.get("ts"), f"{path}.ts"),
        v=_version(event.get("v"), f"{path}.v"),
        traceparent=traceparent_of(event.get("traceparent")),
    )


def traceparent_of(value: object) -> str | None:
    """A traceparent, or None for what is none: a broken one never costs an event."""
    return value if isinstance(value, str) and parse_traceparent(value) is not None else None


def refuse_ours(events: Sequence[NewEvent]) -> None:
    """Raise SpecError if a name begins with a prefix that only the engine may use."""
    for event in events:
        if event.name.startswith(OURS):
            raise SpecError(
                f"{event.name!r}: names that begin with stepwell/ or inngest/ are the engine's own; choose another", "name"
            )


def make_fact(event: NewEvent, now: int, ids: Ids) -> Fact:
    """Give the event its id and time, encode it strictly, and hash what the sender said."""
    said: dict[str, Any] = {"name": event.name, "data": event.data}
    if event.ts is not None:
        said["ts"] = event.ts
    if event.v is not None:
        said["v"] = event.v
    ts = event.ts if event.ts is not None else now // 1000
    event_id = event.id or ids.ulid(now // 1000)
    document: dict[str, Any] = {"id": event_id, **said, "ts": ts}
    if event.traceparent is not None:
        document["traceparent"] = event.traceparent
    data = values.encode(document, "event")
    values.check_size(f"event {event.name!r}", len(data), values.MAX_EVENT)
    digest = hashlib.sha256(values.canonical(said)).digest()
    return Fact(EventRow(event_id, event.name, data, digest, ts), document)


def system_event(name: str, event_id: str, data: Mapping[str, Any], now: int, ids: Ids) -> Fact:
    """An event of the engine's own, with an id that makes a second one of it a duplicate."""
    return make_fact(NewEvent(name, data, id=event_id), now, ids)


def check_name(name: object, path: str) -> str:
    """An event's name; SpecError for what none can have."""
    if not isinstance(name, str) or not name:
        raise SpecError('an event needs a name, such as "order/created"', path)
    if len(name) > MAX_NAME:
        raise SpecError(f"{len(name)} characters; a name has at most {MAX_NAME}", path)
    if not name.isprintable():
        raise SpecError("a name has printable characters only", path)
    return name


def _id(value: object, path: str) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise SpecError("an id is text", path)
    check_event_id(value, path)
    return value


def _ts(value: object, path: str) -> int | None:
    if value is None or (value == 0 and not isinstance(value, bool)):
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not EARLIEST_TS <= value <= LATEST_TS:
        raise SpecError("ts is a whole number of milliseconds since 1970, between 1980 and 2100", path)
    return value


def _version(value: object, path: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise SpecError("v is text", path)
