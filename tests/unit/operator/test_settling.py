"""What can wait is written once, when it has been wanted for long enough; what can't is written at once."""

from typing import Any

import pytest

from stepwell_operator.settling import COUNTS_PATIENCE, GATEWAY_PATIENCE, Owners, Settling, owners_can_wait, status_patience

PATIENCE = 2.0


def test_a_burst_is_written_once() -> None:
    """The seconds run from the first change: however many follow, all of them are due together."""
    settling: Settling[str] = Settling()
    assert [settling.left("well", PATIENCE, now) for now in (10.0, 10.5, 11.5, 12.0, 60.0)] == [2.0, 1.5, 0.5, 0.0, 0.0]


def test_an_endless_burst_is_written_every_so_often() -> None:
    """Once written, the next change waits as long again; a change every tenth of a second for a minute is thirty writes at most."""
    settling: Settling[str] = Settling()
    written = 0
    for tenth in range(600):
        if settling.left("well", PATIENCE, tenth / 10) == 0:
            settling.over("well")
            written += 1
    assert 28 <= written <= 30


def test_what_passes_is_forgotten() -> None:
    """A change that isn't wanted any more leaves nothing: the next one waits from when it comes."""
    settling: Settling[str] = Settling()
    settling.left("one", PATIENCE, 10.0)
    settling.over("one")
    settling.over("one")
    assert settling.left("one", PATIENCE, 500.0) == PATIENCE


def test_each_waits_for_itself() -> None:
    """Neither another key's seconds count, nor their end."""
    settling: Settling[str] = Settling()
    settling.left("one", PATIENCE, 10.0)
    assert settling.left("two", PATIENCE, 11.0) == PATIENCE
    settling.over("two")
    assert settling.left("one", PATIENCE, 11.0) == 1.0


@pytest.mark.parametrize(
    ("case", "there", "wanted", "told", "waits"),
    [
        ("nothing is made yet", [], "a", "", False),
        ("all is as it should be", ["ab", "ab"], "ab", "ab", False),
        ("a second one comes", ["a", "a"], "ab", "a", False),
        ("a third one comes", ["ab", "ab"], "abc", "ab", True),
        ("ten come to two", ["ab"], "abcdefghijkl", "ab", True),
        ("one goes", ["abc", "abc"], "ab", "abc", True),
        ("one of two goes", ["ab"], "a", "ab", True),
        ("one goes whose name was taken out of some", ["ab", "abc"], "ab", "abc", True),
        ("the only one gives way to another", ["a"], "b", "a", False),
        ("one of two gives way to another", ["ab"], "ac", "ab", False),
        ("one is gone that is still believed in", ["a", "ab"], "ab", "ab", True),
        ("nobody has it though two should", ["", ""], "ab", "ab", True),
        ("only one object hangs on one", ["ab", "abc"], "abcd", "ab", True),
        ("one object hangs on one", ["a", "ab"], "abc", "ab", False),
        ("they become too many", ["abc"], "", "abc", True),
        ("they are few again", ["", ""], "abc", "", False),
        ("another operator has begun", ["abc", "abc"], "abcd", "", True),
    ],
)
def test_which_owners_can_wait(case: str, there: list[str], wanted: str, told: str, waits: bool) -> None:
    """A change can wait unless somebody is new to what one function alone holds; what is not there yet never waits."""
    assert owners_can_wait([frozenset(one) for one in there], frozenset(wanted), frozenset(told)) is waits, case


def test_owners_that_are_put_off() -> None:
    """While they are put off whoever is there will do; else exactly the wanted ones."""
    wanted = [{"uid": "a"}, {"uid": "b"}]
    assert Owners(wanted).are(["b", "a"])
    assert not Owners(wanted).are(["a"])
    assert not Owners(wanted).are(["a", "b", "c"])
    assert Owners(wanted, put_off=True).are(["c"])


def status(reason: str | None) -> dict[str, Any]:
    conditions = [{"type": "StoreReady", "status": "True", "reason": "Connected"}]
    return {"conditions": [*conditions, {"type": "Ready", "status": "False", "reason": reason}] if reason else conditions}


@pytest.mark.parametrize(
    ("before", "after", "patience"),
    [
        ("RolloutInProgress", "NoGateway", GATEWAY_PATIENCE),
        ("Available", "NoGateway", GATEWAY_PATIENCE),
        (None, "NoGateway", GATEWAY_PATIENCE),
        ("NoGateway", "NoGateway", 0),
        ("NoGateway", "Available", 0),
        ("Available", "NoRunners", 0),
        (None, "RolloutInProgress", 0),
        (None, None, 0),
    ],
)
def test_which_statuses_can_wait(before: str | None, after: str | None, patience: float) -> None:
    """Of conditions only the news that there is no gateway can wait; what else is to be said once that was told cannot."""
    assert status_patience(status(before), status(after), {"conditions"}) == patience
    assert status_patience({}, {"conditions": "none"}, {"conditions"}) == 0


@pytest.mark.parametrize(
    ("changed", "patience"),
    [
        ({"replicas"}, COUNTS_PATIENCE),
        ({"replicas", "readyReplicas"}, COUNTS_PATIENCE),
        ({"readyReplicas", "observedGeneration"}, 0),
        ({"readyReplicas", "conditions"}, 0),
        ({"runs"}, 0),
    ],
)
def test_counts_of_pods_can_wait(changed: set[str], patience: float) -> None:
    """Ten pods that get ready one by one are not ten statuses; what anybody acts on comes with its counts at once."""
    assert status_patience(status("Available"), status("Available"), changed) == patience
