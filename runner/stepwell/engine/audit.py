"""The audit's lines in the log: one for each act that the store has a row of. No payload in them."""

import orjson
import structlog

from stepwell.store.access import AuditRow
from stepwell.store.registry import FunctionRow

LOGGER = "stepwell.audit"


def tell(act: AuditRow) -> None:
    """One line in the log for an act."""
    structlog.get_logger(LOGGER).info(
        "audit",
        actor=act.actor,
        verb=act.verb,
        object=act.object,
        decision=act.decision,
        request_id=act.request_id,
        detail=orjson.loads(act.detail),
    )


def tell_change(actor: str, row: FunctionRow, was: FunctionRow | None) -> None:
    """The line that goes with the row that a store itself writes when a function's row changes; none where it writes none."""
    if was is not None and _told(row) == _told(was):
        return
    verb = "retire" if not row.active else "register" if was is None else "change"
    detail = orjson.dumps({"revision": row.revision}).decode()
    tell(AuditRow(0, actor, verb, f"functions/{row.function_id}", "allowed", None, detail))


def _told(row: FunctionRow) -> tuple[object, ...]:
    """What of a function's row is audited."""
    return row.revision, row.owner, row.spec, row.active
