"""Where figures are kept: plain numbers on the event loop's thread, so that counting a step costs well under a microsecond.

A cell is bound once to its labels and then only added to; nothing is looked up and no lock is taken on the way. The shelf turns
its cells into prometheus-client's families when somebody asks.
"""

from bisect import bisect_left
from collections.abc import Iterator

from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString  # pyright: ignore[reportUnknownVariableType]

from stepwell.metrics.catalogue import DROPPED_SERIES, Metric, Type


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


class Shelf(Collector):
    """All cells of a process, by metric and labels. `most` is how many series it will hold; what it refuses is counted."""

    def __init__(self, namespace: str, most: int) -> None:
        self.namespace = namespace
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

    def collect(self) -> Iterator[Family]:
        """The families that have cells; asked from another thread it may be a moment behind, and never fails."""
        for metric, counts in list(self._counts.items()):
            family = family_of(metric)
            for labels, cell in list(counts.items()):
                family.add_sample(metric.name, self._named(metric, labels), cell.value)
            yield family
        for metric, spreads in list(self._spreads.items()):
            family = family_of(metric)
            for labels, cell in list(spreads.items()):
                _add_spread(family, metric.name, self._named(metric, labels), cell)
            yield family

    def describe(self) -> list[Family]:
        """Names are checked against the table, not by the registry."""
        return []

    def _admits(self, series: int) -> bool:
        if self.size + series > self.most:
            self.dropped.inc(series)
            return False
        self.size += series
        return True

    def _named(self, metric: Metric, labels: Labels) -> dict[str, str]:
        return named(metric, (self.namespace, *labels) if metric.namespaced else labels)


def family_of(metric: Metric) -> Family:
    """An empty family of this metric; a counter's name is without its `_total`, as the library wants it."""
    name = metric.name.removesuffix("_total") if metric.type is Type.COUNTER else metric.name
    return Family(name, metric.help, metric.type.value)


def named(metric: Metric, values: Labels) -> dict[str, str]:
    """Labels by name. An empty one is the same as none to Prometheus, and is left out."""
    return {name: value for name, value in zip(metric.label_names, values, strict=False) if value}


def _add_spread(family: Family, name: str, labels: dict[str, str], cell: Spread) -> None:
    total = 0
    counts = tuple(cell.counts)
    for bound, count in zip((*cell.bounds, float("inf")), counts, strict=True):
        total += count
        family.add_sample(f"{name}_bucket", {**labels, "le": floatToGoString(bound)}, total)
    family.add_sample(f"{name}_count", labels, total)
    family.add_sample(f"{name}_sum", labels, cell.sum)


def _without(cells: "dict[Labels, Count] | dict[Labels, Spread]", function_id: str) -> int:
    """Drop a function's cells; how many there were. The function is the first label of every metric that has it."""
    gone = [labels for labels in cells if labels[0] == function_id]
    for labels in gone:
        del cells[labels]
    return len(gone)
