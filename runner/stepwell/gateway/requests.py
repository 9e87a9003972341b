"""What requests must look like: read with these models, and described by them in OpenAPI. Unknown fields are ignored.

Events alone are read by `engine.events`, as they come from user code too; their model here describes what that takes.
"""

from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StrictBool


class EventRequest(BaseModel):
    """One event to send. `ts` is ms since 1970; `id` makes it unique.

    `traceparent` is the sender's span, else the header's; what is no traceparent is left out.
    """

    name: str = Field(min_length=1, max_length=255)
    data: dict[str, Any] | None = {}
    id: str | None = None
    ts: int | None = None
    v: str | None = None
    traceparent: Any = None


class InvokeRequest(BaseModel):
    """What the function gets as `ctx.event.data`."""

    model_config = ConfigDict(extra="ignore")

    data: dict[str, Any] = {}


class BulkRequest(BaseModel):
    """Which runs: of one function, created in a span of time, and for which `if` (CEL over `event`) holds.

    `dry_run`: only count them.
    """

    model_config = ConfigDict(extra="ignore")

    function_id: str = Field(min_length=1, max_length=300)
    started_after: AwareDatetime | None = None
    started_before: AwareDatetime | None = None
    if_: str | None = Field(default=None, alias="if", max_length=1024)
    dry_run: StrictBool = False


class CancellationRequest(BulkRequest):
    """Which live runs to cancel; of any live status unless some are named."""

    status: list[Literal["QUEUED", "RUNNING", "SLEEPING", "WAITING"]] = Field(default=[], max_length=4)


class RerunRequest(BulkRequest):
    """Which ended runs to start anew; those that failed unless statuses are named."""

    status: list[Literal["COMPLETED", "FAILED", "CANCELLED", "SKIPPED"]] = Field(default=["FAILED"], min_length=1, max_length=4)


class PauseRequest(BaseModel):
    """Why a function's runs are to wait. `by` names a person where the key doesn't."""

    model_config = ConfigDict(extra="ignore")

    reason: str = Field(default="", max_length=500)
    by: str | None = Field(default=None, min_length=1, max_length=100)


class KeyRequest(BaseModel):
    """A key to make: `events` are the names that it may send, wildcards such as `shop/*` among them, or `*` for all.

    `webhook`: no key to send along, but a secret that signs what is posted to `/hooks/{key_id}`.
    """

    model_config = ConfigDict(extra="ignore")

    name: str = Field(min_length=1, max_length=63)
    events: list[str] = Field(default=["*"], min_length=1, max_length=50)
    webhook: StrictBool = False
