"""The two stores, side by side, under whatever hypothesis thinks of."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from model.machine import Wells
from model.pair import Pair

CHOSEN = os.environ.get("STEPWELL_MODEL_EXAMPLES")
EXAMPLES = settings(
    max_examples=int(CHOSEN or 500),
    stateful_step_count=30,
    # The same examples each time in `make test`; other ones each time where somebody asks for a number.
    derandomize=CHOSEN is None,
    database=None,
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)


@pytest.fixture(scope="module")
def pair(postgres_dsn: str) -> Iterator[Pair]:
    """Both stores, for all examples."""
    made = Pair(postgres_dsn)
    yield made
    made.close()


@pytest.mark.timeout(0)
def test_both_stores_keep_every_promise_whatever_is_committed(pair: Pair) -> None:
    """Thirty operations of any kind in any order: both stores answer alike, hold the same rows, and break no invariant."""
    Wells.pair = pair
    run_state_machine_as_test(Wells, settings=EXAMPLES)
