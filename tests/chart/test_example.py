"""examples/cluster does what its comment says, wherever it is applied."""

from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from chart.rendering import ROOT

from stepwell import Event
from stepwell.loading import load
from stepwell.testing import Durable

EXAMPLES = sorted((ROOT / "examples" / "cluster").glob("*.yaml"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_an_example_goes_where_it_is_applied(file: Path) -> None:
    """Every example is valid and names no namespace."""
    loaded = load([str(file)])
    assert not loaded.errors
    assert not loaded.notes
    for document in yaml.safe_load_all(file.read_text(encoding="utf-8")):
        assert "namespace" not in document["metadata"]


async def test_an_order_is_processed(durable: Durable) -> None:
    """An event starts the run, the charge is tried twice, the run sleeps and ends; a crash at any commit changes nothing."""
    (function,) = load([str(ROOT / "examples" / "cluster" / "orders.yaml")]).functions
    run = await durable.send(function, Event(name="order/created", data={"orderId": "1", "total": 30}))
    await durable.advance(timedelta(seconds=10))
    assert await run.result() == {"order": "1", "parcel": "parcel-1", "receipt": "1/30", "tries": 2}
    assert run.steps == ["charge", "cool-off", "ship"]
    await durable.crash_everywhere(
        function, Event(name="order/created", data={"orderId": "2", "total": 5}), advance=timedelta(seconds=10)
    )
