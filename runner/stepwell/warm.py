"""Parked executions that stay in memory, so that they go on where they stood without reading their journal.

How many is bounded by time, count and memory; the oldest are put away first, and what is put away is replayed from its journal.
"""

from collections import OrderedDict
from collections.abc import Iterator

from stepwell.engine.execution import Execution

WARM_FOR = 60_000_000
"""Microseconds. Runs that are due later than this are put away at once; others stay until they are pushed out."""
MOST = 5_000
MOST_BYTES = 256 << 20
"""Of input and results, as JSON; what code keeps beside them isn't known."""


class Warm:
    """The warm executions by run, the one parked longest first."""

    def __init__(self, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._kept: OrderedDict[str, tuple[Execution, int]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[Execution]:
        return iter([execution for execution, _size in self._kept.values()])

    def keep(self, execution: Execution, now: int) -> None:
        """Keep it, and put away those that are too old or too many now; one that is too large alone goes as well."""
        self._kept[execution.run_id] = execution, execution.journal.size
        self._bytes += execution.journal.size
        while self._kept and self._is_full(now):
            self._take_oldest().put_away()

    def take(self, run_id: str) -> Execution | None:
        """The execution of this run, which is kept no longer; None if it isn't here."""
        found = self._kept.pop(run_id, None)
        if found is None:
            return None
        self._bytes -= found[1]
        return found[0]

    def put_away(self) -> None:
        """Put all of them away."""
        while self._kept:
            self._take_oldest().put_away()

    def _is_full(self, now: int) -> bool:
        oldest, _size = next(iter(self._kept.values()))
        return len(self._kept) > self._most or self._bytes > self._most_bytes or oldest.parked_at < now - WARM_FOR

    def _take_oldest(self) -> Execution:
        _run_id, (execution, size) = self._kept.popitem(last=False)
        self._bytes -= size
        return execution
