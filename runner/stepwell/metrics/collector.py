"""The bound cells as families of prometheus-client, made anew at each scrape and written out by it.

A process has one registry. Text is written in a thread, so that however many series there are, a scrape never holds up the event
loop: a collector is given what it may read from there.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as MetricFamily
from prometheus_client.registry import Collector

from stepwell.metrics.catalogue import Metric, Type
from stepwell.metrics.cells import Labels, Spread

Family = tuple[Metric, Iterable[tuple[Labels, "float | Spread"]]]
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The names are ASCII, so that this version has all that is needed; every scraper knows it."""
_KINDS: dict[Type, type[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]] = {
    Type.COUNTER: CounterMetricFamily,
    Type.GAUGE: GaugeMetricFamily,
    Type.HISTOGRAM: HistogramMetricFamily,
}


class CellCollector(Collector):
    """Tells a registry what `families` gives at the moment that it is asked, all of it under this namespace."""

    def __init__(self, namespace: str, families: Callable[[], Iterable[Family]]) -> None:
        self._namespace = namespace
        self._families = families

    def collect(self) -> Iterator[MetricFamily]:
        """The families with their samples."""
        for metric, samples in self._families():
            yield family_of(metric, self._namespace, samples)


def registry_of(namespace: str, families: Callable[[], Iterable[Family]]) -> CollectorRegistry:
    """A registry of this process's own, with nothing in it but what `families` gives."""
    registry = CollectorRegistry()
    registry.register(CellCollector(namespace, families))
    return registry


def written(registry: CollectorRegistry) -> bytes:
    """The registry's text, in Prometheus' format."""
    return generate_latest(registry)


async def written_aside(registry: CollectorRegistry) -> bytes:
    """The same, written in a thread."""
    return await asyncio.to_thread(written, registry)


def family_of(metric: Metric, namespace: str, samples: Iterable[tuple[Labels, "float | Spread"]]) -> MetricFamily:
    """A row of the table with its samples. An empty label is none, and left out; no series tells when another was made."""
    family = _KINDS[metric.type](metric.name, metric.help)
    names = metric.label_names
    bounds = [*map(repr, metric.buckets), "+Inf"]
    for labels, value in samples:
        values = (namespace, *labels) if metric.namespaced else labels
        told = {name: text for name, text in zip(names, values, strict=True) if text}
        if isinstance(value, Spread):
            _add_spread(family, metric, told, zip(bounds, tuple(value.counts), strict=True), value.sum)
        else:
            family.add_sample(metric.name, told, value)
    return family


def _add_spread(
    family: MetricFamily, metric: Metric, told: dict[str, str], counts: Iterable[tuple[str, int]], total: float
) -> None:
    so_far = 0
    for bound, count in counts:
        so_far += count
        family.add_sample(metric.bucket, {**told, "le": bound}, so_far)
    family.add_sample(metric.count, told, so_far)
    family.add_sample(metric.sum, told, total)
