"""The bound cells as families of prometheus-client, made anew at each scrape.

A process has one registry. Its text is written in a thread, so that however many series there are, a scrape never holds up
the event loop: a collector is given what it may read from there. Families made of cells write themselves (`exposition`);
whatever else is registered is written by prometheus-client.
"""

import asyncio
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric as MetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from stepwell.metrics.catalogue import Metric
from stepwell.metrics.cells import Labels, Spread
from stepwell.metrics.exposition import Cells, pages

Family = tuple[Metric, Cells]
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The names are ASCII, so that this version has all that is needed; every scraper knows it."""
GZIP = 16 + zlib.MAX_WBITS
LIGHTLY = 1
"""Names and labels repeat so much that the lightest packing leaves a twentieth."""


class CellCollector(Collector):
    """Tells a registry what `families` gives at the moment that it is asked, all of it under this namespace."""

    def __init__(self, namespace: str, families: Callable[[], Iterable[Family]]) -> None:
        self._namespace = namespace
        self._families = families

    def collect(self) -> Iterator[MetricFamily]:
        """The families with their samples."""
        for metric, cells in self._families():
            yield CellFamily(metric, self._namespace, cells)


class CellFamily(MetricFamily):
    """A row of the table with its cells. Samples are made only if somebody asks for them; the text needs none."""

    def __init__(self, metric: Metric, namespace: str, cells: Cells) -> None:
        self._metric, self._namespace, self._cells = metric, namespace, cells
        super().__init__(metric.name.removesuffix("_total"), metric.help, metric.type)

    @property
    def samples(self) -> list[Sample]:
        """One for each line. An empty label is none, and left out; no series tells when another was made."""
        return [one for labels, value in self._cells for one in _samples(self._metric, self._told(labels), value)]

    @samples.setter
    def samples(self, none: list[Sample]) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The base class begins without any."""

    def pages(self) -> Iterator[str]:
        """The text, in pieces."""
        return pages(self._metric, self._namespace, self._cells)

    def _told(self, labels: Labels) -> dict[str, str]:
        values = (self._namespace, *labels) if self._metric.namespaced else labels
        return {name: text for name, text in zip(self._metric.label_names, values, strict=True) if text}


def registry_of(namespace: str, families: Callable[[], Iterable[Family]]) -> CollectorRegistry:
    """A registry of this process's own, with nothing in it but what `families` gives."""
    registry = CollectorRegistry()
    registry.register(CellCollector(namespace, families))
    return registry


def written(registry: CollectorRegistry) -> bytes:
    """The registry's text, in Prometheus' format."""
    return b"".join(_pieces(registry))


async def answered(registry: CollectorRegistry, accepted: str = "") -> tuple[bytes, dict[str, str]]:
    """What a scrape is answered with, and its headers; packed if `accepted` (the `Accept-Encoding`) has gzip, as Prometheus' has.

    It is made in a thread, and packing lets go of the interpreter at every piece, so that the event loop goes on.
    """
    headers = {"Content-Type": CONTENT_TYPE, "Vary": "Accept-Encoding"}
    if not _takes_gzip(accepted):
        return await asyncio.to_thread(written, registry), headers
    return await asyncio.to_thread(_packed, registry), {**headers, "Content-Encoding": "gzip"}


def _packed(registry: CollectorRegistry) -> bytes:
    packer = zlib.compressobj(LIGHTLY, wbits=GZIP)
    return b"".join((*map(packer.compress, _pieces(registry)), packer.flush()))


def _pieces(registry: CollectorRegistry) -> Iterator[bytes]:
    for family in registry.collect():
        if isinstance(family, CellFamily):
            yield from map(str.encode, family.pages())
        else:
            yield generate_latest(_Alone(family))


class _Alone(Collector):
    def __init__(self, family: MetricFamily) -> None:
        self._family = family

    def collect(self) -> Iterator[MetricFamily]:
        yield self._family


def _samples(metric: Metric, told: dict[str, str], value: "float | Spread") -> Iterator[Sample]:
    if not isinstance(value, Spread):
        yield Sample(metric.name, told, value)
        return
    so_far = list(accumulate(value.counts))
    for bound, count in zip((*map(repr, metric.buckets), "+Inf"), so_far, strict=True):
        yield Sample(metric.bucket, {**told, "le": bound}, count)
    yield Sample(metric.count, told, so_far[-1])
    yield Sample(metric.sum, told, value.sum)


def _takes_gzip(accepted: str) -> bool:
    for part in accepted.lower().split(","):
        name, _, quality = part.partition(";")
        if name.strip() == "gzip":
            return quality.replace(" ", "").rstrip("0.") != "q="
    return False
