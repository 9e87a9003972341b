"""How many events each key may send: a bucket of tokens that fills with time. Pure but for its memory."""

from collections import OrderedDict

MOST_CALLERS = 10_000
BURST_SECONDS = 2


class Rates:
    """A bucket for each caller; without a limit there is none."""

    def __init__(self, per_second: int) -> None:
        self._rate = per_second
        self._buckets: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def take(self, caller: str, events: int, now: int) -> float:
        """Take so many events out of the caller's bucket at this instant (µs): 0, or the seconds until there is room.

        A request larger than the whole bucket is let in when the bucket is full, and owes the rest.
        """
        if not self._rate:
            return 0.0
        full = float(self._rate * BURST_SECONDS)
        left, last = self._buckets.get(caller, (full, now))
        left = min(full, left + (now - last) / 1_000_000 * self._rate)
        needed = min(float(events), full)
        if left < needed:
            return (needed - left) / self._rate
        self._buckets[caller] = (left - events, now)
        self._buckets.move_to_end(caller)
        while len(self._buckets) > MOST_CALLERS:
            self._buckets.popitem(last=False)
        return 0.0
