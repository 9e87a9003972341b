"""A sender of webhooks, who signs as standardwebhooks.com has it."""

import base64
import hashlib
import hmac
from typing import Any


def signed(hook: dict[str, Any], body: bytes, hook_id: str = "msg_1", at: int = 0, secret: str = "") -> dict[str, str]:
    """The headers of a webhook that was sent at this second, signed with this secret or its own."""
    key = base64.b64decode((secret or hook["key"]).removeprefix("whsec_"))
    signature = base64.b64encode(hmac.new(key, f"{hook_id}.{at}.".encode() + body, hashlib.sha256).digest()).decode()
    return {
        "Content-Type": "application/json",
        "webhook-id": hook_id,
        "webhook-timestamp": str(at),
        "webhook-signature": f"v1a,xyz v1,bm9uZQ== v1,{signature}",
    }
