"""How much each caller may: a bucket of tokens that fills with time. Pure but for its memory."""

from collections import OrderedDict

MOST_CALLERS = 10_000
BURST_SECONDS = 2


class Rates:
    """A bucket for each caller, of two seconds' worth or as large as is said; without a rate there is no limit."""

    def __init__(self, per_second: float, full: float | None = None) -> None:
        self._rate = per_second
        self._full = float(per_second * BURST_SECONDS) if full is None else full
        self._buckets: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def take(self, caller: str, count: int, now: int) -> float:
        """Take so much out of the caller's bucket at this instant (µs): 0, or the seconds until there is room.

        A request larger than the whole bucket is let in when the bucket is full, and owes the rest.
        """
        if not self._rate:
            return 0.0
        left = self._left(caller, now)
        needed = min(float(count), self._full)
        if left < needed:
            return (needed - left) / self._rate
        self._keep(caller, left - count, now)
        return 0.0

    def give_back(self, caller: str, count: int, now: int) -> None:
        """Put back what was taken and not used."""
        if self._rate:
            self._keep(caller, min(self._full, self._left(caller, now) + count), now)

    def _left(self, caller: str, now: int) -> float:
        left, last = self._buckets.get(caller, (self._full, now))
        return min(self._full, left + (now - last) / 1_000_000 * self._rate)

    def _keep(self, caller: str, left: float, now: int) -> None:
        self._buckets[caller] = (left, now)
        self._buckets.move_to_end(caller)
        while len(self._buckets) > MOST_CALLERS:
            self._buckets.popitem(last=False)
