"""The life of a run: one enum, one drawing, one transition table.

    (start) ──▶ queued ◀──────────────┬─────────────┐
       │          │ claim        due / event / child│
       │          ▼                   │             │
       │       running ──park──▶ sleeping | waiting ┘
       │          │                   │
       │          ├──▶ completed      │ cancel, timeout
       │          ├──▶ failed         ▼
       ▼          └──▶ cancelled ◀────┘
    skipped            (also straight from queued)

A run that waits for a retry is `queued` with a due time in the future. The arrow from sleeping and waiting to queued is passed by
time alone: nothing is written then, and whoever reads the row tells it by its due time (`at_rest`).
"""

from enum import StrEnum


class RunStatus(StrEnum):
    """What a run is doing; upper-cased on the wire."""

    QUEUED = "queued"
    RUNNING = "running"
    SLEEPING = "sleeping"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"

    @property
    def is_final(self) -> bool:
        """True where nothing can follow."""
        return not TRANSITIONS[self]


TRANSITIONS: dict[RunStatus, frozenset[RunStatus]] = {
    RunStatus.QUEUED: frozenset({RunStatus.RUNNING, RunStatus.CANCELLED, RunStatus.FAILED}),
    RunStatus.RUNNING: frozenset(
        {
            RunStatus.QUEUED,
            RunStatus.SLEEPING,
            RunStatus.WAITING,
            RunStatus.COMPLETED,
            RunStatus.FAILED,
            RunStatus.CANCELLED,
        }
    ),
    RunStatus.SLEEPING: frozenset({RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.CANCELLED, RunStatus.FAILED}),
    RunStatus.WAITING: frozenset({RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.CANCELLED, RunStatus.FAILED}),
    RunStatus.COMPLETED: frozenset(),
    RunStatus.FAILED: frozenset(),
    RunStatus.CANCELLED: frozenset(),
    RunStatus.SKIPPED: frozenset(),
}
"""Every legal change of a run's status; a run begins as queued or as skipped."""


RESTING = frozenset({RunStatus.SLEEPING, RunStatus.WAITING})


def at_rest(parked: RunStatus, *, is_due: bool) -> RunStatus:
    """What a run that was parked so is doing: once its time has come it is queued, whatever it slept or waited for."""
    return RunStatus.QUEUED if is_due and parked in RESTING else parked


def may_become(before: RunStatus, after: RunStatus) -> bool:
    """Tell whether a run in `before` may go on to `after`."""
    return after in TRANSITIONS[before]
