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


def pytest_sessionfinish(session: pytest.Session) -> None:
    """One of several processes hands its account to the one that reports."""
    told = getattr(session.config, "workeroutput", None)
    if told is not None:
        told["code blocks"] = {"ran": dict(RAN), "not run": NOT_RUN}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add what one of several processes ran; one that died tells nothing."""
    told = getattr(node, "workeroutput", {}).get("code blocks", {"ran": {}, "not run": {}})
    RAN.update(told["ran"])
    NOT_RUN.update(told["not run"])


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """List them."""
    if RAN or NOT_RUN:
        told = ", ".join(f"{count} {language}" for language, count in sorted(RAN.items()))
        terminalreporter.write_sep("-", f"code blocks in the docs: {sum(RAN.values())} run ({told}), {len(NOT_RUN)} not run")
        for place, reason in sorted(NOT_RUN.items()):
            terminalreporter.write_line(f"  not run {place}: {reason}")
