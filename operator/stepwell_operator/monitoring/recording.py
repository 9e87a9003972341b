"""Recording rules: the two ratios that the burn-rate alerts look at, over each of their windows. Pure data."""

from collections.abc import Iterator

from stepwell.metrics import catalogue as m

WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
INGEST_ERRORS = "stepwell:ingest_errors:ratio_rate"
SLOW_STARTS = "stepwell:slow_starts:ratio_rate"


def recorded(series: str, window: str) -> str:
    """The name of a ratio over a window."""
    if window not in WINDOWS:
        raise ValueError(f"{window} is not recorded; there are {', '.join(WINDOWS)}")
    return f"{series}{window}"


def recordings() -> Iterator[tuple[str, str]]:
    """(name, expression) of every recording rule."""
    for window in WINDOWS:
        yield recorded(INGEST_ERRORS, window), _share_refused(window)
    for window in WINDOWS:
        yield recorded(SLOW_STARTS, window), _share_slow(window)


def _share_refused(window: str) -> str:
    refused = f'sum by (namespace) (rate({m.EVENTS_RECEIVED}{{result="unavailable"}}[{window}]))'
    offered = f'sum by (namespace) (rate({m.EVENTS_RECEIVED}{{result=~"accepted|duplicate|unavailable"}}[{window}]))'
    return f"{refused} / {offered}"


def _share_slow(window: str) -> str:
    fast = f'sum by (namespace) (rate({m.RUN_QUEUE_WAIT.bucket}{{le="5.0"}}[{window}]))'
    return f"1 - {fast} / sum by (namespace) (rate({m.RUN_QUEUE_WAIT.count}[{window}]))"
