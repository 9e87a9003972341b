"""Which changes of a status are worth an Event."""

from typing import Any

import pytest

from stepwell_operator.notes import Note, notes_between


def status(kind: str, truth: str, reason: str) -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": truth, "reason": reason, "message": "because"}]}


@pytest.mark.parametrize(
    ("kind", "truth", "reason", "told"),
    [
        ("SpecAccepted", "False", "InvalidCron", ["SpecRejected"]),
        ("StoreReady", "False", "Unreachable", ["StoreUnavailable"]),
        ("RunnersAvailable", "False", "ImagePullFailed", ["ImagePullFailed"]),
        ("RunnersAvailable", "False", "PodsNotReady", []),
        ("RunnersAvailable", "True", "MinimumReplicasAvailable", []),
        ("Progressing", "False", "RevisionLimitReached", ["RevisionLimitReached"]),
        ("Draining", "True", "RevisionLimitReached", []),
        ("Ready", "False", "NoGateway", []),
    ],
)
def test_what_is_new_and_loud_is_told_once(kind: str, truth: str, reason: str, told: list[str]) -> None:
    """Of a new reason that is worth an Event its name and its sentence; nothing of one that was there before."""
    after = status(kind, truth, reason)
    for before in ({}, {"conditions": None}, status(kind, "True", "Other")):
        assert list(notes_between(before, after)) == [Note("Warning", one, "because") for one in told]
    assert list(notes_between(after, after)) == []
