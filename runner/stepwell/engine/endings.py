"""The system events that a run's end brings: `function.finished`, and `.failed` or `.cancelled`. Pure."""

from typing import Any, cast

from stepwell import values
from stepwell.engine.dispatch import ENDINGS
from stepwell.engine.events import CANCELLED, FAILED, FINISHED, Fact, system_event
from stepwell.engine.run import RunStatus
from stepwell.errors import TooLarge, ValueRefused
from stepwell.ids import Ids
from stepwell.store.views import RunRow

_OWN = {RunStatus.FAILED: FAILED, RunStatus.CANCELLED: CANCELLED}


def ending_facts(row: RunRow, now: int, ids: Ids) -> tuple[Fact, ...]:
    """The events that tell of this run's end; none for a run that such an event started, and none for a skipped one.

    The id of a failed or cancelled event is the run's id, so that a second one is a duplicate.
    """
    events: list[dict[str, Any]] = values.decode(row.input)
    if row.status not in (RunStatus.COMPLETED, *_OWN) or events[0]["name"] in ENDINGS:
        return ()
    value = values.decode(row.value) if row.value is not None else None
    data: dict[str, Any] = {
        "function_id": row.function_id,
        "run_id": row.run_id,
        "event": events[0],
        "events": events,
        "_inngest": {"status": row.status.value.capitalize()},
    }
    if row.status is RunStatus.COMPLETED:
        data["result"] = value
    else:
        data["error"] = _error(value)
    finished = _fitting(FINISHED, f"{row.run_id}.finished", data, now, ids)
    if row.status not in _OWN:
        return (finished,)
    return (_fitting(_OWN[row.status], row.run_id, data, now, ids), finished)


def _fitting(name: str, event_id: str, data: dict[str, Any], now: int, ids: Ids) -> Fact:
    """The event whole; where that is too large for one, without what can be asked for by `run_id`: `left_out` names it."""
    told, left_out = data, list[str]()
    for leave in (None, "events", "result", "event.data"):
        if leave is not None:
            left_out.append(leave)
            told = {**_without(told, leave), "left_out": left_out}
        try:
            return system_event(name, event_id, told, now, ids)
        except (TooLarge, ValueRefused):  # the latter for what is nested too deeply by now
            continue
    return system_event(name, event_id, {"function_id": data["function_id"], "run_id": data["run_id"]}, now, ids)


def _without(data: dict[str, Any], part: str) -> dict[str, Any]:
    if part == "event.data":
        return {**data, "event": {**data["event"], "data": {}}}
    return {**data, "events": []} if part == "events" else {key: value for key, value in data.items() if key != part}


def _error(value: Any) -> dict[str, Any]:
    error = cast("dict[str, Any]", value) if isinstance(value, dict) else {"name": "Error", "message": str(value)}
    name, message = str(error.get("name", "Error")), str(error.get("message", ""))
    return {"error": f"{name}: {message}", "name": name, "message": message, "stack": str(error.get("stack", ""))}
