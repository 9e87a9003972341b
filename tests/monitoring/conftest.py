"""Prometheus itself, where it can be had; else the tests that need it are skipped, and say why."""

from collections.abc import Generator
from functools import cache
from pathlib import Path

import pytest
from monitoring.debian import CannotHave, prometheus_folder


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Fetch it before the first test that needs it: a slow mirror's minutes are not that test's."""
    if "prometheus" in getattr(item, "fixturenames", ()):
        _fetched()
    return (yield)


@pytest.fixture(scope="session")
def prometheus() -> Path:
    """The folder with `prometheus` and `promtool`."""
    found = _fetched()
    if isinstance(found, CannotHave):
        pytest.skip(f"no Prometheus: {found}")
    return found


@cache
def _fetched() -> Path | CannotHave:
    try:
        return prometheus_folder()
    except CannotHave as reason:
        return reason
