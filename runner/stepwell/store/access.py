"""Who may send to a well, and what was done there by whom; the conventions are those of `records.py`."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key that was given out. `kind` is `send` (`proof` is its SHA-256) or `webhook` (`proof` is the secret that signs).

    `events` are the names that it may send, with the wildcards that triggers know.
    """

    key_id: str
    name: str
    kind: str
    proof: bytes = field(repr=False)
    events: tuple[str, ...]
    created: int
    created_by: str
    revoked: int | None = None
    revoked_by: str | None = None


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One privileged act: who did what to which thing, and whether they were let.

    `detail` is JSON text; `audit_id` is the store's.
    """

    at: int
    actor: str
    verb: str
    object: str
    decision: str
    request_id: str | None = None
    detail: str = "{}"
    audit_id: int = 0


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which acts to list, newest first. `before` is the cursor: only smaller ids."""

    actor: str | None = None
    verb: str | None = None
    object: str | None = None
    before: int | None = None
    limit: int = 20
