"""How an exception is recorded: name, message, tries, stack and causes as JSON. Writing one never fails."""

import traceback
from typing import Any, cast

import orjson

from stepwell.errors import Cause

MAX_STACK = 8 * 1024
MAX_MESSAGE = 8 * 1024
MAX_CAUSES = 5
MAX_FRAMES = 20


def encode_error(error: BaseException, attempts: int) -> bytes:
    """The JSON `{"name", "message", "attempts", "stack", "cause": {"name", "message", "cause": …}}` of an exception.

    The stack has source lines and no values of variables. What can't be encoded is replaced; long texts are cut.
    """
    document: dict[str, Any] = {**_said(error), "attempts": attempts, "stack": _stack(error)}
    cause = _cause(error, [error])
    if cause is not None:
        document["cause"] = cause
    return orjson.dumps(document)


def decode_error(data: bytes) -> tuple[str, str, Cause | None, int]:
    """Name, message, cause and attempts of a recorded error."""
    document = cast("dict[str, Any]", orjson.loads(data))
    return (
        str(document.get("name", "Error")),
        str(document.get("message", "")),
        _read_cause(document.get("cause")),
        int(document.get("attempts", 1)),
    )


def _said(error: BaseException) -> dict[str, Any]:
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide the error
        message = "its message can't be read: __str__ raised"
    return {"name": _clean(type(error).__name__, MAX_MESSAGE), "message": _clean(message, MAX_MESSAGE)}


def _stack(error: BaseException) -> str:
    """The innermost part of the traceback: its end names the error."""
    try:
        told = "".join(traceback.format_exception(error, limit=-MAX_FRAMES))
    except Exception:  # noqa: BLE001 - a broken exception must not hide the error
        told = "its traceback can't be read\n"
    kept = _clean(told, len(told)).encode()[-MAX_STACK:]
    return kept.decode("utf-8", "ignore")


def _cause(error: BaseException, seen: list[BaseException]) -> dict[str, Any] | None:
    """What it was raised from. An error out of the journal knows its own cause; `seen` breaks cycles."""
    recorded = getattr(error, "cause", None)
    if isinstance(recorded, Cause):
        return _of_record(recorded, len(seen))
    inner = error.__cause__ or _first(error) or (None if error.__suppress_context__ else error.__context__)
    if inner is None or len(seen) > MAX_CAUSES or any(inner is one for one in seen):
        return None
    document = _said(inner)
    deeper = _cause(inner, [*seen, inner])
    if deeper is not None:
        document["cause"] = deeper
    return document


def _first(error: BaseException) -> BaseException | None:
    """The first error of a group: its own message says no more than that there are some."""
    return cast("BaseExceptionGroup[BaseException]", error).exceptions[0] if isinstance(error, BaseExceptionGroup) else None


def _of_record(cause: Cause, depth: int) -> dict[str, Any]:
    document: dict[str, Any] = {"name": _clean(cause.name, MAX_MESSAGE), "message": _clean(cause.message, MAX_MESSAGE)}
    if cause.cause is not None and depth < MAX_CAUSES:
        document["cause"] = _of_record(cause.cause, depth + 1)
    return document


def _read_cause(document: Any) -> Cause | None:
    if not isinstance(document, dict):
        return None
    found = cast("dict[str, Any]", document)
    return Cause(str(found.get("name", "Error")), str(found.get("message", "")), _read_cause(found.get("cause")))


def _clean(text: str, most: int) -> str:
    """Text that JSON and every store can hold, cut to `most` characters."""
    cut = text if len(text) <= most else f"{text[:most]}…"
    return cut.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
