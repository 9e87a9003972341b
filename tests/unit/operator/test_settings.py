"""What the operator makes of its environment."""

import pytest

from stepwell_operator.settings import SettingsError, read_settings

HERE = {"STEPWELL_OPERATOR_NAMESPACE": "stepwell-system"}


@pytest.mark.parametrize("keep", ["59m", "soon"])
def test_a_retention_that_no_gateway_takes_is_refused(keep: str) -> None:
    """What would keep every gateway from starting is told when the operator starts, by the variable's name."""
    with pytest.raises(SettingsError, match="STEPWELL_GATEWAY_KEEP"):
        read_settings({**HERE, "STEPWELL_GATEWAY_KEEP": keep})


def test_history_is_kept_as_long_as_is_asked_for() -> None:
    """A week, unless something else is said."""
    assert read_settings(HERE).gateway_keep == "7d"
    assert read_settings({**HERE, "STEPWELL_GATEWAY_KEEP": "30d"}).gateway_keep == "30d"
