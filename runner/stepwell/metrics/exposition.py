"""Prometheus' text, written from cells: the same bytes as prometheus-client's own writer makes, for a fraction of the time.

`generate_latest` makes a dictionary of every line's labels, and sorts, checks and escapes it anew at each scrape. Here what the
lines of a family have in common is put together once, as a pattern, and each line is one filling of it. A test holds both to the
same bytes.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

from prometheus_client.utils import floatToGoString  # pyright: ignore[reportUnknownVariableType] - untyped

from stepwell.metrics.catalogue import Metric
from stepwell.metrics.cells import Labels, Spread

Cells = Sequence[tuple[Labels, "float | Spread"]]
MOST_CELLS = 250
"""So many cells are in one piece of text: a third of a millisecond's work, after which packing lets other threads go on."""


def pages(metric: Metric, namespace: str, cells: Cells) -> Iterator[str]:
    """A family's text in pieces: what it is, then its lines. A label without a value is left out."""
    yield f"# HELP {metric.name} {_line(metric.help)}\n# TYPE {metric.name} {metric.type}\n"
    fillings: dict[tuple[bool, ...], Callable[..., str]] = {}
    texts = _Escaped()
    for begin in range(0, len(cells), MOST_CELLS):
        lines: list[str] = []
        for labels, value in cells[begin : begin + MOST_CELLS]:
            there = tuple(map(bool, labels))
            fill = fillings.get(there) or fillings.setdefault(there, pattern(metric, namespace, there).format)
            told = [texts[label] for label in labels]
            if isinstance(value, Spread):
                lines.append(fill(*told, *map(_figure, accumulate(value.counts)), floatToGoString(value.sum)))
            else:
                lines.append(fill(*told, _figure(value)))
        yield "".join(lines)


def pattern(metric: Metric, namespace: str, there: tuple[bool, ...]) -> str:
    """The lines of one cell that has these of its labels, to be filled with all its labels and then its figures."""
    names = [label.name for label in metric.labels]
    places = {name: f"{{{place}}}" for place, name in enumerate(names) if there[place]}
    if metric.namespaced and namespace:
        places["namespace"] = _escape(namespace).replace("{", "{{").replace("}", "}}")
    if not metric.buckets:
        return _sample(metric.name, places, len(names))
    bounds = [*map(repr, metric.buckets), "+Inf"]
    buckets = [_sample(metric.bucket, {**places, "le": bound}, place) for place, bound in enumerate(bounds, len(names))]
    last = len(names) + len(bounds)
    return "".join((*buckets, _sample(metric.count, places, last - 1), _sample(metric.sum, places, last)))


class _Escaped(dict[str, str]):
    """Label values as they are written."""

    def __missing__(self, label: str) -> str:
        found = self[label] = _escape(label)
        return found


def _figure(value: float) -> str:
    return floatToGoString(value) if value else "0.0"  # most counters have nothing to tell


def _sample(name: str, places: dict[str, str], figure: int) -> str:
    labels = ",".join(f'{label}="{place}"' for label, place in sorted(places.items()))
    return f"{name}{{{{{labels}}}}} {{{figure}}}\n" if labels else f"{name} {{{figure}}}\n"


def _escape(label: str) -> str:
    return _line(label).replace('"', '\\"')


def _line(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
