"""What of a registration is asked of a store, whichever it is. Pure."""

from collections.abc import Iterable, Sequence

from stepwell.store.registry import FunctionRow, ScheduleRow


def wanted_schedules(functions: Iterable[FunctionRow], schedules: Iterable[ScheduleRow]) -> Sequence[ScheduleRow]:
    """The schedules that are to fire: a tick of a function that starts nothing would be in the ledger without its run."""
    resting = {row.function_id for row in functions if not row.active}
    return [row for row in schedules if row.function_id not in resting]
