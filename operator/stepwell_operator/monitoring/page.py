"""The tables of the reference page of metrics, made from the table of metrics. Pure."""

import re
from collections.abc import Iterable

from stepwell.metrics.catalogue import CATALOGUE, By, Label, Metric

TABLES: dict[str, frozenset[By]] = {
    "counted": frozenset({By.DOOR, By.DISPATCH, By.CRON, By.EXECUTION}),
    "read from the store": frozenset({By.STORE}),
    "operator": frozenset({By.OPERATOR}),
    "every process": frozenset({By.ALL}),
}
PLACE = re.compile(r"(<!-- metrics: ([a-z ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def page(text: str) -> str:
    """The page with its tables made anew; what stands around them stays."""
    return PLACE.sub(lambda found: f"{found[1]}\n{table(TABLES[found[2]])}\n{found[3]}", text)


def table(by: frozenset[By]) -> str:
    """The metrics that these parts have, as a Markdown table."""
    return "\n".join(_lines(one for one in CATALOGUE if one.by in by)) + "\n"


def _lines(rows: Iterable[Metric]) -> Iterable[str]:
    yield "| metric | type | labels | by | |"
    yield "|---|---|---|---|---|"
    for one in rows:
        labels = ", ".join(_label(label) for label in one.labels)
        yield f"| `{one}` | {one.type} | {labels} | {one.by} | {one.help} |"


def _label(label: Label) -> str:
    if label.name == "step":
        return "[`step`]"
    values = "I1 to I20" if label.name == "invariant" else ", ".join(label.values)
    return f"`{label.name}`" + (f": {values}" if values else "")
