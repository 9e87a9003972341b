"""What `kubectl get` shows of the two kinds, and by which fields their lists can be filtered on the server."""

from typing import Any

Column = dict[str, Any]

WIDE = 1


def _column(name: str, kind: str, path: str, words: str, priority: int = 0) -> Column:
    column = {"name": name, "type": kind, "jsonPath": path, "description": words}
    return {**column, "priority": priority} if priority else column


def _condition(kind: str, part: str) -> str:
    return f'.status.conditions[?(@.type=="{kind}")].{part}'


READY = _column("Ready", "string", _condition("Ready", "status"), "Whether it is ready.")
REASON = _column("Reason", "string", _condition("Ready", "reason"), "Why it is ready, or isn't.")
AGE = _column("Age", "date", ".metadata.creationTimestamp", "When the object was made.")

FUNCTION_COLUMNS = [
    READY,
    REASON,
    _column("Revision", "string", ".status.currentRevision", "The revision on which new runs begin."),
    _column("Replicas", "integer", ".status.readyReplicas", "How many runners are ready."),
    _column("Active", "integer", ".status.runs.active", "Runs that have not ended; rounded."),
    _column(
        "Queued",
        "integer",
        ".status.runs.queued",
        "Runs that wait for a runner, a slot of a limit, their time or another try; rounded.",
    ),
    _column("Suspended", "string", _condition("Suspended", "status"), "Whether new runs are held back."),
    AGE,
    # A column of type `date` shows `<invalid>` for an instant to come.
    _column("Next", "string", ".status.nextScheduleTime", "When the next cron trigger fires.", WIDE),
    _column("Triggers", "string", ".status.triggersSummary", "What starts a run.", WIDE),
    _column("Store", "string", ".status.store", "Where its runs are kept.", WIDE),
    _column("Draining", "integer", ".status.draining", "Old revisions that still have runs.", WIDE),
]
STORE_COLUMNS = [
    READY,
    REASON,
    _column("Schema", "string", ".status.schema", "The schema that is the well."),
    AGE,
    _column("Secret", "string", ".spec.secretRef.name", "The Secret that holds the address.", WIDE),
]

FUNCTION_SELECTABLE = [".spec.suspend", ".spec.runner.pool", ".spec.source.image.image", ".spec.storeRef.name"]
STORE_SELECTABLE = [".spec.secretRef.name"]
