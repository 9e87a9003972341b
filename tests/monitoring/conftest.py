"""Prometheus itself, where it can be had; else the tests that need it are skipped, and say why."""

from pathlib import Path

import pytest
from monitoring.debian import CannotHave, prometheus_folder


@pytest.fixture(scope="session")
def prometheus() -> Path:
    """The folder with `prometheus` and `promtool`."""
    try:
        return prometheus_folder()
    except CannotHave as reason:
        pytest.skip(f"no Prometheus: {reason}")
