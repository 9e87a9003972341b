"""Prometheus' text format, version 0.0.4: families of the table and their samples as bytes. Pure.

It is written here rather than by prometheus-client, which takes some ten times as long: a gateway of 10,000 functions has
hundreds of thousands of lines. Source: https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from collections.abc import Callable, Iterable, Iterator

from stepwell.metrics.catalogue import Metric
from stepwell.metrics.cells import Labels, Spread

Family = tuple[Metric, Iterable[tuple[Labels, "float | Spread"]]]
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(namespace: str, families: Iterable[Family]) -> bytes:
    """The text of these families; labels stand in the order of their names, and empty ones, which are none, are left out."""
    return "".join(_lines(namespace, families)).encode()


def _lines(namespace: str, families: Iterable[Family]) -> Iterator[str]:
    for metric, samples in families:
        name = metric.name
        yield f"# HELP {name} {_help(metric.help)}\n# TYPE {name} {metric.type.value}\n"
        braced = _braces(metric, namespace)
        bounds = [repr(bound) for bound in metric.buckets]
        for labels, value in samples:
            if isinstance(value, Spread):
                yield from _histogram(name, braced(labels), bounds, value)
            else:
                within = braced(labels)
                yield f"{name}{{{within}}} {float(value)!r}\n" if within else f"{name} {float(value)!r}\n"


def _histogram(name: str, within: str, bounds: list[str], spread: Spread) -> Iterator[str]:
    comma, braces = ("," if within else ""), (f"{{{within}}}" if within else "")
    total = 0
    for bound, count in zip((*bounds, "+Inf"), tuple(spread.counts), strict=True):
        total += count
        yield f'{name}_bucket{{{within}{comma}le="{bound}"}} {total}.0\n'
    yield f"{name}_count{braces} {total}.0\n{name}_sum{braces} {spread.sum!r}\n"


def _braces(metric: Metric, namespace: str) -> Callable[[Labels], str]:
    names = metric.label_names
    order = sorted(range(len(names)), key=names.__getitem__)
    places = [(place, f'{names[place]}="') for place in order]

    def braced(labels: Labels) -> str:
        values = (namespace, *labels) if metric.namespaced else labels
        return ",".join([f'{opened}{_escaped(values[place])}"' for place, opened in places if values[place]])

    return braced


def _escaped(value: str) -> str:
    if '"' in value or "\\" in value or "\n" in value:
        return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return value


def _help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")
