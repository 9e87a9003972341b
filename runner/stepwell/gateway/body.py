"""Request bodies: counted while they stream in, refused before they are parsed."""

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request

from stepwell import values
from stepwell.errors import TooLarge
from stepwell.gateway.places import Places

BLANKS = b" \t\r\n"


async def read_json(request: Request, thing: str, most: int, most_list: int = 0) -> object:
    """The decoded JSON body. `most` bytes at most, or `most_list` where it begins as a list.

    Raises TooLarge, or HTTPException 400 (no JSON), 408 (too slow), 415 (another kind) or 503 (too many at once).
    """
    return parse_json(await read_body(request, thing, most, most_list), thing)


async def read_body(request: Request, thing: str, most: int, most_list: int = 0) -> bytes:
    """The body as it was sent, of a request that says it is JSON. While it comes it holds no place of those who are worked on."""
    _check_kind(request)
    seconds: float = request.app.state.settings.body_seconds
    places: Places = request.app.state.places
    try:
        async with places.body(seconds):
            return await _read(request, thing, most, most_list)
    except TimeoutError:
        raise HTTPException(408, f"the body did not arrive within {seconds:g} s") from None


def parse_json(body: bytes, thing: str) -> object:
    """What a body says."""
    if not body.strip(BLANKS):
        raise HTTPException(400, "the body is empty; it is JSON")
    try:
        return values.parse(body, thing)
    except orjson.JSONDecodeError as error:
        raise HTTPException(400, f"the body is not JSON: {error.msg}, line {error.lineno} column {error.colno}") from None


async def _read(request: Request, thing: str, most: int, most_list: int) -> bytes:
    limit: int | None = None
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max(most, most_list):
        raise _too_large(thing, max(most, most_list))
    pieces: list[bytes] = []
    size = 0
    async for piece in request.stream():
        pieces.append(piece)
        size += len(piece)
        if limit is None and (start := piece.lstrip(BLANKS)):
            limit = max(most, most_list) if start.startswith(b"[") else most
        if size > (limit if limit is not None else most):
            raise _too_large(thing, limit if limit is not None else most)
    return b"".join(pieces)


def _too_large(thing: str, limit: int) -> TooLarge:
    return TooLarge(f"the {thing} is over its limit of {limit // 1024} KiB; keep large data elsewhere and send where it lies")


def _check_kind(request: Request) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        # A page of another site can send text/plain and forms unasked; JSON it can't.
        raise HTTPException(415, "send JSON with 'Content-Type: application/json'")
    if request.headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
        raise HTTPException(415, "send the body as it is, without Content-Encoding")
