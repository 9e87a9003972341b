"""The rows that steps come to where no code's result or error is behind them. Pure."""

from stepwell import values
from stepwell.store.records import StepKind, StepRow, Wait

NOTHING = b"null"


def time_over(wait: Wait, now: int) -> StepRow:
    """A sleep that is over; a wait for which nothing came in time; an invoked run that did not end in time."""
    key = (wait.step_id, wait.occurrence)
    if wait.kind is not StepKind.INVOKE:
        return StepRow(*key, wait.kind, ok=True, value=NOTHING, attempts=1, started=wait.opened, ended=now)
    value = _error("InvokeTimeout", f"run {wait.target_run} did not end in time")
    return StepRow(*key, wait.kind, ok=False, value=value, attempts=1, started=wait.opened, ended=now)


def no_sleep(key: tuple[str, int], now: int) -> StepRow:
    """A sleep until an instant that is past."""
    return StepRow(*key, StepKind.SLEEP, ok=True, value=NOTHING, attempts=1, started=now, ended=now)


def signal_taken(key: tuple[str, int], now: int) -> StepRow:
    """A wait for a signal that another run's wait has already."""
    value = _error("SignalTaken", "another run already waits for this signal")
    return StepRow(*key, StepKind.SIGNAL, ok=False, value=value, attempts=1, started=now, ended=now)


def not_found(key: tuple[str, int], message: str, now: int) -> StepRow:
    """The invocation of a function that isn't there."""
    value = _error("FunctionNotFound", message)
    return StepRow(*key, StepKind.INVOKE, ok=False, value=value, attempts=1, started=now, ended=now)


def signalled(sent: StepRow, *, met: bool) -> StepRow:
    """A signal that was sent, with the store's answer: whether a wait was there to take it."""
    value = b"true" if met else b"false"
    return StepRow(sent.step_id, sent.occurrence, sent.kind, True, value, 1, sent.started, sent.ended)


def _error(name: str, message: str) -> bytes:
    return values.canonical({"name": name, "message": message, "attempts": 1})
