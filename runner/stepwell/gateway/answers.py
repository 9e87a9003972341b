"""What every route answers with: `{"data", "metadata"}`, or an RFC 9457 problem document. Never any internals."""

import base64
import binascii
import random
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from starlette.responses import Response

from stepwell.clock import rfc3339
from stepwell.errors import (
    SpecError,
    StepwellError,
    StoreError,
    TooLarge,
    Unknown,
    ValueRefused,
    problem,
)

NO_STORE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
CURSOR_MARK = "1:"


class BadCursor(StepwellError):
    """The cursor is not one that the gateway gave out."""

    code = "DF0404"


class EventConflict(StepwellError):
    """An event with this id and another body was accepted before; the first one stays."""

    code = "DF0403"


class AlreadyEnded(StepwellError):
    """The run has ended, so there is nothing to cancel."""

    code = "DF0405"


class Forbidden(StepwellError):
    """Whoever asks is known, and may not do this."""

    code = "DF0407"


class KeyLimit(StepwellError):
    """A name has two live keys already, as many as a rotation needs."""

    code = "DF0406"


class PausedByManifest(StepwellError):
    """The function is paused by an annotation of its manifest, which would pause it again."""

    code = "DF0408"


STATUSES: tuple[tuple[type[StepwellError], int], ...] = (
    (Unknown, 404),
    (Forbidden, 403),
    (EventConflict, 409),
    (AlreadyEnded, 409),
    (KeyLimit, 409),
    (PausedByManifest, 409),
    (TooLarge, 413),
    (ValueRefused, 400),
    (SpecError, 400),
    (BadCursor, 400),
    (StoreError, 503),
)


def answer(data: object, now: int, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The data, with the instant (µs) it was true at."""
    return json_response({"data": data, "metadata": {"fetched_at": rfc3339(now)}}, status, headers)


def page(data: list[Any], now: int, cursor: str | None) -> Response:
    """One page of a list; `metadata.cursor` asks for the next one and is null on the last."""
    return json_response({"data": data, "metadata": {"fetched_at": rfc3339(now), "cursor": cursor}}, 200)


def json_response(document: object, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """JSON as it stands; stored payloads inside it keep their bytes (`orjson.Fragment`)."""
    return Response(orjson.dumps(document), status, {**NO_STORE, **(headers or {})}, "application/json")


def status_of(error: StepwellError) -> int:
    """The HTTP status for an error that is the asker's or the store's; 500 for any other."""
    return next((status for kind, status in STATUSES if isinstance(error, kind)), 500)


def refusal(error: StepwellError, status: int | None = None, **more: Any) -> Response:
    """An error that people can mend, as a problem document."""
    code = status or status_of(error)
    if code == HTTPStatus.INTERNAL_SERVER_ERROR:
        return plain_problem(500, UNEXPECTED)
    document = dict(problem(error, code, **more))
    if isinstance(error, SpecError | ValueRefused) and error.path:
        document["path"] = error.path
    if isinstance(error, StoreError):
        document["detail"] = "the store can't be used now; nothing was accepted that was not acknowledged, so ask again"
    return _problem(document, code, retry_later() if code == HTTPStatus.SERVICE_UNAVAILABLE else {})


UNEXPECTED = "an unexpected error; it was logged, and asking again is safe"


def plain_problem(status: int, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> Response:
    """A problem of HTTP's own kind (404, 405, 415, …)."""
    document = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}
    return _problem(document, status, headers or {})


def retry_later() -> dict[str, str]:
    """Ask for another try in one or two seconds, so that callers don't come back all at once."""
    return {"Retry-After": str(random.randint(1, 2))}  # noqa: S311  # spreads retries, guards nothing


def make_cursor(last_id: str) -> str:
    """An opaque cursor for what comes after this id."""
    return base64.urlsafe_b64encode(f"{CURSOR_MARK}{last_id}".encode()).decode().rstrip("=")


def read_cursor(cursor: str | None) -> str | None:
    """The id a cursor stands for; BadCursor if it is none of ours."""
    if cursor is None:
        return None
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        text = ""
    if not text.startswith(CURSOR_MARK) or len(text) == len(CURSOR_MARK) or "\0" in text:
        raise BadCursor("this cursor is none of ours: leave it out, or take metadata.cursor of the page before")
    return text.removeprefix(CURSOR_MARK)


def _problem(document: Mapping[str, Any], status: int, headers: Mapping[str, str]) -> Response:
    return Response(orjson.dumps(document), status, {**NO_STORE, **headers}, "application/problem+json")
