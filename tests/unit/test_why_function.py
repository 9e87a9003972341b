"""Every function answers too: what holds it back, since when, and what to do; and a pool's pods by their own reason."""

from dataclasses import replace

import pytest

from stepwell.why import FunctionFacts, FunctionState, Paused, Pods, Runners, function_why, no_pods

SECOND = 1_000_000
HOUR = 3600 * SECOND
NOW = 1_763_884_800 * SECOND  # 2025-11-23 08:00:00 UTC
WELL = Runners(1, 1, 1, 500, 3)
FACTS = FunctionFacts("pack", "shop", "dfn/pack", active=True, runners=WELL)


@pytest.mark.parametrize(
    ("facts", "kind", "sentence", "since"),
    [
        (FACTS, "ready", "nothing waits", None),
        (replace(FACTS, next_tick=NOW + HOUR), "ready", "nothing waits; the next tick is at 09:00 UTC", None),
        (
            replace(FACTS, running=1, due=2, due_age=SECOND, resting=3),
            "working",
            "1 running, 2 due, 3 asleep, waiting or to be tried again",
            NOW - SECOND,
        ),
        (replace(FACTS, active=False, resting=2), "inactive", "suspended or deleted: it starts no run; 2 runs in flight, which may end", None),
        (replace(FACTS, paused=Paused("ada", NOW - HOUR)), "paused", "paused by ada since 07:00 UTC", NOW - HOUR),
        (
            replace(FACTS, runners=Runners(), due=1, due_age=HOUR),
            "no_runner",
            "no runner: none is alive for pool 'shop' and function 'pack'; 1 run due, the oldest for 1 h",
            NOW - HOUR,
        ),
        (replace(FACTS, runners=Runners(1)), "no_runner", "no runner: 1 runner of pool 'shop' alive, but none has function 'pack'; no run is due", None),
        (
            replace(FACTS, blocked=7, blocked_age=2 * HOUR, running=2, limits=(2,)),
            "limit",
            "7 runs blocked by the concurrency limit of 2, the oldest for 2 h; 2 running",
            NOW - 2 * HOUR,
        ),
        (
            replace(FACTS, runners=Runners(1, 1, 1, 4, 4), due=9, due_age=SECOND),
            "busy",
            "9 runs due, the oldest for 1 s: 4/4 slots in use",
            NOW - SECOND,
        ),
    ],
)  # fmt: skip
def test_a_function_says_what_holds_it_back(facts: FunctionFacts, kind: str, sentence: str, since: int | None) -> None:
    """The first thing that holds a function back is told, with the age of the oldest that waits, and what happens next."""
    found = function_why(facts, NOW)
    assert (found.kind, found.sentence, found.since) == (kind, sentence, since)
    assert found.next


def test_every_state_is_reached() -> None:
    """The set of states is closed, and the cases above cover it."""
    marks = test_a_function_says_what_holds_it_back.pytestmark  # type: ignore[attr-defined]
    assert {case[1] for mark in marks for case in mark.args[1]} == set(FunctionState)


@pytest.mark.parametrize(
    ("pods", "sentence", "mend"),
    [
        (Pods(0, 3, "ImagePullBackOff", "no such tag"), "no runner: 0/3 pods ready (ImagePullBackOff: no such tag)", "image"),
        (Pods(0, 1, "Unschedulable", "0/3 nodes"), "no runner: 0/1 pods ready (Unschedulable: 0/3 nodes)", "make room"),
        (Pods(0, 1, "OOMKilled", "exit 137"), "no runner: 0/1 pods ready (OOMKilled: exit 137)", "memory"),
        (Pods(0, 2), "no runner: 0/2 pods ready", "as soon as a pod is ready"),
    ],
)
def test_pods_that_are_not_ready_are_counted_and_named(pods: Pods, sentence: str, mend: str) -> None:
    """On a cluster the sentence counts the pods and has the kubelet's own reason; the next action fits it."""
    found = no_pods(pods)
    assert found.sentence == sentence
    assert mend in found.next
