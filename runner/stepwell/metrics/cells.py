"""Where figures are kept: plain numbers on the event loop's thread, so that counting a step costs well under a microsecond.

A cell is bound once to its labels and then only added to; nothing is looked up and no lock is taken on the way.
"""

from bisect import bisect_left
from collections.abc import Iterator

from stepwell.metrics.catalogue import DROPPED_SERIES, Metric


class Count:
    """A number that is added to, or set."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1.0) -> None:
        """Add."""
        self.value += amount

    def set(self, value: float) -> None:
        """Have this value."""
        self.value = value


class Spread:
    """A histogram's cell: how many values fell between two bounds, and their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Take in one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


Labels = tuple[str, ...]


class Shelf:
    """All cells of a process, by metric and labels. `most` is how many series it will hold; what it refuses is counted."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.size = 0
        self._counts: dict[Metric, dict[Labels, Count]] = {}
        self._spreads: dict[Metric, dict[Labels, Spread]] = {}
        self.dropped = self.count(DROPPED_SERIES)

    def count(self, metric: Metric, *labels: str) -> Count:
        """The cell of a counter or gauge under these labels, in the table's order and without the namespace."""
        cells = self._counts.setdefault(metric, {})
        found = cells.get(labels)
        if found is None:
            found = Count()
            if self._admits(1):
                cells[labels] = found
        return found

    def spread(self, metric: Metric, *labels: str) -> Spread:
        """The cell of a histogram under these labels."""
        cells = self._spreads.setdefault(metric, {})
        found = cells.get(labels)
        if found is None:
            found = Spread(metric.buckets)
            if self._admits(len(metric.buckets) + 3):
                cells[labels] = found
        return found

    def forget(self, function_id: str) -> None:
        """Let go of every series of a function."""
        for metric, counts in self._counts.items():
            if metric.of_function:
                self.size -= _without(counts, function_id)
        for metric, spreads in self._spreads.items():
            if metric.of_function:
                self.size -= _without(spreads, function_id) * (len(metric.buckets) + 3)

    def totals(self, metric: Metric, *places: int) -> dict[Labels, float]:
        """A counter's values, summed over all labels but those in these places."""
        found: dict[Labels, float] = {}
        for labels, cell in list(self._counts.get(metric, {}).items()):
            key = tuple(labels[place] for place in places)
            found[key] = found.get(key, 0.0) + cell.value
        return found

    def families(self) -> Iterator[tuple[Metric, list[tuple[Labels, float | Spread]]]]:
        """What has cells, with its samples; asked from another thread it may be a moment behind, and never fails."""
        for metric, counts in list(self._counts.items()):
            yield metric, [(labels, cell.value) for labels, cell in list(counts.items())]
        for metric, spreads in list(self._spreads.items()):
            yield metric, [(labels, cell) for labels, cell in list(spreads.items())]

    def _admits(self, series: int) -> bool:
        if self.size + series > self.most:
            self.dropped.inc(series)
            return False
        self.size += series
        return True


def _without(cells: "dict[Labels, Count] | dict[Labels, Spread]", function_id: str) -> int:
    """Drop a function's cells; how many there were. The function is the first label of every metric that has it."""
    gone = [labels for labels in cells if labels[0] == function_id]
    for labels in gone:
        del cells[labels]
    return len(gone)
