"""What a token says of itself, unverified: enough to see that nobody need be asked about it. Pure. It lets nobody in."""

import base64
import binascii
from typing import Any, cast

import orjson

from stepwell.settings import TOKEN_DOTS

LONGEST_TOKEN = 16 * 1024
LEEWAY = 60
"""Seconds that the API server's clock may be behind ours."""
BOUND = "kubernetes.io"
"""The claim of a ServiceAccount's token as Kubernetes gives it out: that has its audiences, in `aud`, and an end."""


def is_worth_asking(token: str, audience: str, now: int) -> bool:
    """Whether the API server may know this token, at this instant (s): it has a token's shape, isn't over, and isn't for others.

    Where a claim is missing, or is another issuer's to read, the answer is yes.
    """
    parts = token.split(".")
    if len(parts) != TOKEN_DOTS + 1 or len(token) > LONGEST_TOKEN or not all(parts):
        return False
    header, claims = _document(parts[0]), _document(parts[1])
    if header is None or claims is None or _decoded(parts[2]) is None:
        return False
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm.lower() == "none":
        return False
    end = claims.get("exp")
    if isinstance(end, int | float) and end + LEEWAY < now:
        return False
    return BOUND not in claims or audience in _several(claims.get("aud"))


def _several(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else [value]


def _document(part: str) -> dict[str, Any] | None:
    decoded = _decoded(part)
    try:
        document = orjson.loads(decoded or b"")
    except orjson.JSONDecodeError:
        return None
    return cast("dict[str, Any]", document) if isinstance(document, dict) else None


def _decoded(part: str) -> bytes | None:
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
