"""At the end of a session: how many code blocks of the docs were run, and which were not, and why."""

from collections import Counter
from typing import Any

import pytest

RAN: Counter[str] = Counter()
NOT_RUN: dict[str, str] = {}


@pytest.fixture
def account() -> tuple[Counter[str], dict[str, str]]:
    """Where the tests note what they ran."""
    return RAN, NOT_RUN


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """List them."""
    if RAN or NOT_RUN:
        told = ", ".join(f"{count} {language}" for language, count in sorted(RAN.items()))
        terminalreporter.write_sep("-", f"code blocks in the docs: {sum(RAN.values())} run ({told}), {len(NOT_RUN)} not run")
        for place, reason in sorted(NOT_RUN.items()):
            terminalreporter.write_line(f"  not run {place}: {reason}")
