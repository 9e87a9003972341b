"""Two DurableFunctions that ask to be known by one id in one store: the one that has it keeps it."""

import pytest
from cluster.operation import Place, condition, eventually, function, left, says

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]
TAKEN = says("SpecAccepted", "False", "FunctionIdTaken")


def test_a_function_id_is_one_functions(place: Place) -> None:
    """A second function with the id of another is refused and harms nothing, there or when it is deleted; it takes over in time."""
    place.apply(function("one"))
    place.ready("one")
    run_id, dsn = place.start_run("one"), place.dsn()
    place.apply(function("two", functionId="one"))
    said = place.until("two", TAKEN)
    assert "DurableFunction 'one'" in condition(said, "SpecAccepted")["message"]
    assert condition(said, "Ready")["reason"] == "SpecInvalid"
    assert "SpecRejected" in eventually(lambda: place.events("two"))
    assert condition(place.read("one"), "Ready")["reason"] == "Available"
    place.delete("two")
    place.api.wait_gone(place.path("two"), 60)
    place.apply(function("two", functionId="one"))
    place.until("two", TAKEN)
    assert left(dsn, run_id) == ("queued", ["one"])
    assert len(place.runners()) == 1
    place.delete("one")
    place.ready("two")
    assert left(dsn, run_id)[1] == ["one"]
    eventually(lambda: [name[:4] for name in place.runners()] == ["two-"])
