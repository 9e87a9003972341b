"""The chart as Helm renders it. Without Helm (no Go here to build it with) these tests are skipped, and say so."""

import contextlib

import pytest
from chart.rendering import Chart
from cluster.toolchain.build import TOOLS, CannotBuild, build


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Build before the first test, whose time limit is for the test and not for a compiler."""
    if any("chart" in getattr(item, "fixturenames", ()) for item in session.items):
        # What stands in the way is told by the fixture, as the reason of a skip.
        with contextlib.suppress(CannotBuild):
            build(TOOLS)


@pytest.fixture(scope="session")
def chart() -> Chart:
    """The chart, and Helm to render it with."""
    try:
        return Chart(build(TOOLS) / "helm")
    except CannotBuild as reason:
        pytest.skip(f"no Helm to render the chart with: {reason}")
