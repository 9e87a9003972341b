"""Short ways to say what goes into a pile."""

import time

from stepwell.store.records import Claim, EventRow, Start, StepKind, StepRow, TriggerKind

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def ulid(number: int, at_ms: int | None = None) -> str:
    """A run id of that millisecond (now)."""
    rest, digits = time.time_ns() // 1_000_000 if at_ms is None else at_ms, ""
    for _ in range(10):
        rest, digit = divmod(rest, 32)
        digits = ALPHABET[digit] + digits
    return f"{digits}{number:016d}"


def start(run_id: str, **more: object) -> Start:
    """A run of `f` that is due."""
    given = {"event_ids": (f"e-{run_id}",), "trigger": TriggerKind.EVENT, **more}
    return Start(run_id=run_id, function_id="f", revision="r1", pool="p", input=b"[]", created=1, due=0, **given)


def event(event_id: str, body_hash: bytes = b"h", **more: int) -> EventRow:
    """A small event."""
    return EventRow(event_id, "n", b"{}", body_hash, 1, **more)


def step(step_id: str, value: bytes = b"1", kind: StepKind = StepKind.RUN) -> StepRow:
    """A recorded step."""
    return StepRow(step_id, 0, kind, True, value, 1, 5, 6)


def claim(room: int = 10, runner_id: str = "A", **more: object) -> Claim:
    """A claim of everything that `f` has due."""
    return Claim(runner_id, ("p",), ("f",), room, **more)
