"""What Prometheus sees. The table of all metrics is `catalogue`; a process has one `Metrics`."""

from stepwell.metrics.function import FunctionMetrics
from stepwell.metrics.process import Metrics

__all__ = ["FunctionMetrics", "Metrics"]
