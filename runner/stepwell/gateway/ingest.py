"""`POST /e/{key}`: events in. A 2xx means that every event of the request is committed."""

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, cast

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from stepwell import values
from stepwell.engine.events import NewEvent, make_fact, parse_event, refuse_ours, traceparent_of
from stepwell.engine.well import Receipt, Well
from stepwell.errors import SpecError, StepwellError, StoreError, TooLarge, ValueRefused
from stepwell.gateway.access import Caller, NotAdmittedError
from stepwell.gateway.answers import EventConflict, Forbidden, json_response, refusal
from stepwell.gateway.audit import Audit, Books
from stepwell.gateway.body import read_json
from stepwell.gateway.rates import Rates
from stepwell.ids import Ids
from stepwell.store.records import EventFate

FATES = {EventFate.ACCEPTED: "accepted", EventFate.DUPLICATE: "duplicate", EventFate.CONFLICT: "conflict"}
ANSWERED = {429: "limited", 503: "unavailable"}
REFUSED = frozenset({"invalid", "conflict", "forbidden"})
SHOWN_NAMES = 10
THROWAWAY = Ids()
"""For checking alone; what it makes is never stored."""


@dataclass(slots=True)
class Offered:
    """One event of a request and what became of it: a fault, or a receipt."""

    event: NewEvent | None
    fault: StepwellError | None = None
    receipt: Receipt | None = None

    @property
    def status(self) -> str:
        """Its fate in a word."""
        if self.receipt is not None:
            return FATES.get(self.receipt.fate, "conflict")
        return "forbidden" if isinstance(self.fault, Forbidden) else "invalid"


async def ingest(key: str, request: Request, audit: Books) -> Response:
    """Accept one event or a list of events.

    200: every event is stored (`accepted`, or a `duplicate` of one stored before). In a batch each event is judged alone: what is
    good is stored whatever the others are, and `results` tells the fate of each in the order sent. If any was not taken, the
    answer is a problem document with the same `ids` and `results`: 403 if the key may not send one, else 400 if one is invalid,
    else 413 if one is too large, else 409 if an id was used before with another body. The same request may be sent again any
    number of times.
    """
    del key  # looked at by the route's access

    async def read() -> object:
        return await read_json(request, "request of events", values.MAX_EVENT, values.MAX_BATCH)

    return await take(request, audit.caller, Given(read, traceparent_of(request.headers.get("traceparent"))), audit)


@dataclass(frozen=True, slots=True)
class Given:
    """What is sent, still to be read: one event or a list. `traceparent`: the sender's span, for events that name none."""

    read: Callable[[], Awaitable[object]]
    traceparent: str | None = None


async def take(request: Request, caller: Caller, given: Given, audit: Audit | None = None) -> Response:
    """Take in what a caller sends, and tell the fate of each event. What may do more than send is audited.

    Each event that was judged is counted here; what is raised counts where the answer to it is made (`app`).
    """
    well: Well = request.app.state.well
    began = well.clock.now()
    result = "invalid"
    try:
        body = await given.read()
        offered = _judge(body, caller, given.traceparent)
        request.state.offered = len(offered)
        _limit(request.app.state.rates, caller, len(offered), well.clock.now())
        if audit is not None and caller.is_privileged:
            names = sorted({one.event.name for one in offered if one.event is not None})
            await audit.note("send", "events", count=len(offered), names=names[:SHOWN_NAMES])
        await _send(well, offered)
        for one in offered:
            well.metrics.event_received(_result(one))
        response = _answer(offered, alone=not isinstance(body, list))
        result = "accepted" if response.status_code == 200 else _result(_worst(offered))
    except (StepwellError, HTTPException, NotAdmittedError) as error:
        result = result_of(error)
        raise
    finally:
        well.metrics.ingested(result, (well.clock.now() - began) / 1_000_000)
    return response


def _limit(rates: Rates, caller: Caller, events: int, now: int) -> None:
    seconds = rates.take(caller.name, events, now)
    if seconds:
        detail = f"this key sends more events than it may; there is room again in {seconds:.1f} s"
        raise HTTPException(429, detail, {"Retry-After": str(math.ceil(seconds))})


def result_of(error: Exception) -> str:
    """What an error makes of the events that it keeps out, in the words of `stepwell_events_received_total`."""
    if isinstance(error, TooLarge | StoreError):
        return "too_large" if isinstance(error, TooLarge) else "unavailable"
    status = error.status if isinstance(error, NotAdmittedError) else getattr(error, "status_code", HTTPStatus.BAD_REQUEST)
    if status in ANSWERED:
        return ANSWERED[status]
    return "unauthorized" if isinstance(error, NotAdmittedError) else "invalid"


def _judge(body: object, caller: Caller, traceparent: str | None) -> list[Offered]:
    if not isinstance(body, list):
        return [_parsed(body, "event", caller, traceparent)]
    batch = cast("list[object]", body)
    if len(batch) > values.MAX_BATCH_EVENTS:
        raise TooLarge(f"{len(batch)} events in one request; at most {values.MAX_BATCH_EVENTS}")
    return [_parsed(item, f"events[{place}]", caller, traceparent) for place, item in enumerate(batch)]


def _parsed(item: object, path: str, caller: Caller, traceparent: str | None) -> Offered:
    """An event of its own span, or of the request's; a fault if it is none, or not this caller's to send."""
    try:
        event = parse_event(item, path)
        event = replace(event, traceparent=event.traceparent or traceparent) if traceparent is not None else event
        refuse_ours([event])
        if not caller.may_send(event.name):
            return Offered(None, Forbidden(f"{path}: this key may not send {event.name!r}; it is for {', '.join(caller.events)}"))
    except (SpecError, ValueRefused, TooLarge) as fault:
        return Offered(None, fault)
    return Offered(event)


async def _send(well: Well, offered: Sequence[Offered]) -> None:
    """Send what is good. Only when something in the pile can't be encoded is each event looked at alone."""
    good = [one for one in offered if one.event is not None]
    try:
        await _deliver(well, good)
    except (SpecError, ValueRefused, TooLarge):
        for one in good:
            one.fault = _fault(one.event)
        await _deliver(well, [one for one in good if one.fault is None])


async def _deliver(well: Well, good: Sequence[Offered]) -> None:
    if good:
        receipts = await well.send([one.event for one in good if one.event is not None])
        for one, receipt in zip(good, receipts, strict=True):
            one.receipt = receipt


def _fault(event: NewEvent | None) -> StepwellError | None:
    if event is None:
        return None
    try:
        make_fact(event, 0, THROWAWAY)
    except (SpecError, ValueRefused, TooLarge) as fault:
        return fault
    return None


def _answer(offered: Sequence[Offered], *, alone: bool) -> Response:
    ids = [one.receipt.id for one in offered if one.receipt is not None and one.receipt.fate is not EventFate.CONFLICT]
    results = [_told(one) for one in offered]
    bad = [one for one in offered if one.status in REFUSED]
    if not bad:
        return json_response({"ids": ids, "status": 200, "results": results}, 200)
    error = _error(_worst(offered))
    more: dict[str, Any] = {"ids": ids, "results": results}
    response = refusal(error, **more)
    if alone:
        return response
    detail = f"{len(bad)} of {len(offered)} events were not taken, the others are stored; the first: {_error(bad[0])}"
    return refusal(error, detail=detail, **more)


def _told(one: Offered) -> dict[str, Any]:
    event_id = one.receipt.id if one.receipt is not None else one.event.id if one.event is not None else None
    told: dict[str, Any] = {"id": event_id, "status": one.status}
    if one.status in REFUSED:
        told["error"] = str(_error(one))
    return told


def _error(one: Offered) -> StepwellError:
    if one.fault is not None:
        return one.fault
    known = one.receipt.id if one.receipt is not None else ""
    return EventConflict(f"event {known!r} was accepted before with another body; the first one stays, so choose another id")


def _worst(offered: Sequence[Offered]) -> Offered:
    return max(offered, key=_badness)


def _badness(one: Offered) -> int:
    match one.fault:
        case None:
            return 1 if one.status == "conflict" else 0
        case TooLarge():
            return 2
        case Forbidden():
            return 4
        case _:
            return 3


def _result(one: Offered) -> str:
    if isinstance(one.fault, Forbidden):
        return "unauthorized"
    return "too_large" if isinstance(one.fault, TooLarge) else one.status
