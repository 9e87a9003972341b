"""What all tests share: one Postgres server for the whole session, started when the first test asks for it; hypothesis' settings.

A busy machine makes no property false: hypothesis doesn't time examples, nor how long it takes to draw them. The first test that
draws text on a fresh machine pays for a table of all of Unicode, seconds of it, and would be blamed for a slow strategy.

The same examples are drawn each time, so that a failure is of what was changed. STEPWELL_SEEDS=random draws other ones.

Where several processes share the tests (`make test`), those of a folder in TOGETHER stay in one of them: they share what is dear to
start or to fetch.
"""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ("postgres_server",)

settings.register_profile(
    "unhurried",
    deadline=None,
    derandomize=os.environ.get("STEPWELL_SEEDS") != "random",
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
settings.load_profile("unhurried")

HERE = Path(__file__).parent
TOGETHER = {"cluster": "cluster", "chart": "cluster", "monitoring": "monitoring"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Name the group of a test, by its folder."""
    for item in items:
        folder = item.path.relative_to(HERE).parts[0]
        if folder in TOGETHER:
            item.add_marker(pytest.mark.xdist_group(TOGETHER[folder]))
