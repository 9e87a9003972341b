"""For how long vacuum has been held back. Pure.

Postgres shows every role which transaction id holds vacuum back, but to few when who holds it began. New snapshots move the id
on as soon as nobody holds it, so an id that stays is a snapshot that stays: its age is told from when it was first seen.
"""

from dataclasses import dataclass

from stepwell.store.views import Stats


@dataclass(frozen=True, slots=True)
class Pin:
    """A transaction id that holds vacuum back, and since when (µs) it is known to."""

    xid: int
    since: int


def pin_after(before: Pin | None, stats: Stats) -> Pin | None:
    """What holds vacuum back at this look, after what did at the look before; None where nothing does."""
    found = stats.horizon
    if found is None:
        return None
    seen = before.since if before is not None and before.xid == found.xid else stats.now
    return Pin(found.xid, seen if found.began is None else min(seen, found.began))
