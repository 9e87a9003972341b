"""What a status says, and that it says it rarely."""

import itertools
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import hypothesis.strategies as st
import orjson
import pytest
from hypothesis import given
from unit.operator.observations import child_of, function_row, observed, target_at, well_of, work_of

from stepwell.store.registry import PauseRow, ScheduleRow
from stepwell_operator.facts import WellFacts
from stepwell_operator.notes import notes_between
from stepwell_operator.plan import Observed, plan
from stepwell_operator.status import patch_between, rounded, status_of
from stepwell_operator.target import Fault
from stepwell_operator.world import Trouble

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
ONE, TWO, THREE = target_at(1), target_at(2), target_at(3)
KINDS = [
    "Ready",
    "SpecAccepted",
    "StoreReady",
    "RunnersAvailable",
    "Progressing",
    "SchedulesReady",
    "Draining",
    "Suspended",
    "Paused",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3), max_leaves=5
)


def told(seen: Observed, trouble: Trouble | None = None, refused: str | None = None, now: datetime = NOW) -> dict[str, Any]:
    return status_of(seen, plan(seen), trouble, refused, "", now)


def conditions(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}


def after(seen: Observed, status: dict[str, Any]) -> Observed:
    """The same observation, once this status has been written."""
    return replace(seen, seen=replace(seen.seen, status=orjson.dumps(status)))


WELL = observed(ONE, well_of(function_row(ONE), [ONE]), [child_of(ONE.pool_id)])
COMING = observed(TWO, well_of(function_row(TWO, at=ONE), [ONE, TWO]), [child_of(ONE.pool_id), child_of(TWO.pool_id, ready=0)])
DRAINS = observed(TWO, well_of(function_row(TWO), [ONE, TWO], [work_of(ONE, 3)]), [child_of(ONE.pool_id), child_of(TWO.pool_id)])
FULL = target_at(3, revisions={"max": 2})
REFUSED = observed(
    FULL, well_of(function_row(TWO), [ONE, TWO], [work_of(ONE, 3)]), [child_of(ONE.pool_id), child_of(TWO.pool_id)]
)
INVALID = observed(Fault("InvalidCron", "spec.triggers[0].cron: no"), well_of(function_row(ONE), [ONE]), [child_of(ONE.pool_id)])
NO_STORE = observed(ONE, WellFacts("shop", "default", "Unreachable", "it doesn't answer"), [child_of(ONE.pool_id)])
NOTHING = observed(ONE, well_of(), [])
NO_GATEWAY = observed(ONE, replace(well_of(function_row(ONE), [ONE]), gateway=False), [child_of(ONE.pool_id)])
ZERO = observed(
    target_at(1, replicas=0), well_of(function_row(target_at(1, replicas=0)), [ONE]), [child_of(ONE.pool_id, ready=0, desired=0)]
)
PAUSED = target_at(1, suspend=True)
SUSPENDED = observed(PAUSED, well_of(function_row(PAUSED, active=False), [ONE]), [child_of(ONE.pool_id)])
SINCE = 1_767_254_400_000_000


def paused(seen: Observed, source: str = "api", reason: str = "", by: str = "ada", since: int = SINCE) -> Observed:
    """The same, with its function paused."""
    return replace(seen, well=replace(seen.well, pauses={"one": PauseRow("one", since, by, reason, source)}))


HELD = paused(WELL, reason="the bank is down")
ANNOTATED = paused(WELL, "manifest")
ALL = {
    "well": WELL, "coming": COMING, "drains": DRAINS, "refused": REFUSED, "invalid": INVALID, "no store": NO_STORE,
    "nothing": NOTHING, "no gateway": NO_GATEWAY, "zero": ZERO, "suspended": SUSPENDED, "held": HELD, "annotated": ANNOTATED,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "ready", "others"),
    [
        (
            "well",
            ("True", "Available"),
            {"RunnersAvailable": ("True", "MinimumReplicasAvailable"), "Progressing": ("False", "Complete")},
        ),
        ("no gateway", ("False", "NoGateway"), {"RunnersAvailable": ("True", "MinimumReplicasAvailable")}),
        ("coming", ("True", "RolloutInProgress"), {"Progressing": ("True", "NewRevision")}),
        ("drains", ("True", "Available"), {"Draining": ("True", "RevisionsDraining")}),
        (
            "refused",
            ("False", "RevisionLimitReached"),
            {"Draining": ("True", "RevisionLimitReached"), "Progressing": ("False", "RevisionLimitReached")},
        ),
        (
            "invalid",
            ("False", "SpecInvalid"),
            {"SpecAccepted": ("False", "InvalidCron"), "RunnersAvailable": ("True", "MinimumReplicasAvailable")},
        ),
        (
            "no store",
            ("False", "StoreUnavailable"),
            {"StoreReady": ("False", "Unreachable"), "SchedulesReady": ("Unknown", "StoreUnavailable")},
        ),
        (
            "nothing",
            ("False", "NoRunners"),
            {"RunnersAvailable": ("False", "NoDeployment"), "SchedulesReady": ("False", "Behind")},
        ),
        ("zero", ("True", "Available"), {"RunnersAvailable": ("True", "ScaledToZero")}),
        ("suspended", ("False", "Suspended"), {"Suspended": ("True", "UserRequest"), "SchedulesReady": ("False", "Suspended")}),
        ("held", ("True", "Paused"), {"Paused": ("True", "UserRequest"), "SchedulesReady": ("True", "Registered")}),
        ("annotated", ("True", "Paused"), {"Paused": ("True", "Annotation"), "Suspended": ("False", "NotSuspended")}),
    ],
)
def test_ready_sums_up_the_others(name: str, ready: tuple[str, str], others: dict[str, tuple[str, str]]) -> None:
    """Every condition is there from the first visit, `Ready` first, and says what is the matter."""
    status = told(ALL[name])
    assert [one["type"] for one in status["conditions"]] == KINDS
    found = conditions(status)
    assert found["Ready"] == ready
    assert {kind: found[kind] for kind in others} == others
    assert all(one["observedGeneration"] == status["observedGeneration"] == 3 for one in status["conditions"])


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_status_that_was_written_is_not_written_again(name: str) -> None:
    """The same observation an hour later gives the same status, to the byte: there is nothing to patch."""
    first = told(ALL[name])
    again = told(after(ALL[name], first), now=NOW + timedelta(hours=1))
    assert patch_between(first, again) == {}


@pytest.mark.parametrize("name", sorted(ALL))
def test_messages_hold_no_counters_and_no_times(name: str) -> None:
    """What counts or moves stands in fields of its own: a message has no number that a run or a second could change."""
    for live in (1, 2, 57, 1_000_000):
        seen = ALL[name]
        facts = replace(
            seen.well,
            work={key: replace(row, live=live, due=live) for key, row in (seen.well.work or {}).items()} or seen.well.work,
        )
        other = told(replace(seen, well=facts), now=NOW + timedelta(seconds=live))
        assert [one["message"] for one in other["conditions"]] == [one["message"] for one in told(seen)["conditions"]]
    for one in told(ALL[name])["conditions"]:
        one["message"] = one["message"].replace("2026-01-01T08:00:00Z", "")  # when somebody paused it: that doesn't move
        assert not re.search(r"\d{2}:\d{2}|\b\d+ (run|pod|second|replica)", one["message"]), one


def test_a_transition_time_moves_with_the_status_alone() -> None:
    """Another reason or message keeps `lastTransitionTime`; another status moves it, of that condition only."""
    first = told(WELL)
    later = NOW + timedelta(minutes=5)
    drained = observed(TWO, DRAINS.well, DRAINS.children.values())
    second = told(after(drained, first), now=later)
    times = {one["type"]: one["lastTransitionTime"] for one in second["conditions"]}
    assert times.pop("Draining") == "2026-01-01T12:05:00Z"
    assert set(times.values()) == {"2026-01-01T12:00:00Z"}
    coming = told(after(COMING, first), now=later)
    ready = coming["conditions"][0]
    assert (ready["reason"], ready["lastTransitionTime"]) == ("RolloutInProgress", "2026-01-01T12:00:00Z")


@given(
    before=st.dictionaries(st.text(max_size=3), JSON, max_size=5),
    now=st.dictionaries(st.text(max_size=3), JSON.filter(lambda one: one is not None), max_size=5),
)
def test_a_patch_makes_what_is_of_what_was(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Applied as a JSON merge patch to the status before, the difference gives the status after, and is empty for the same."""
    patch = patch_between(before, now)
    merged = {**before, **patch}
    assert {name: value for name, value in merged.items() if value is not None or name in now} == now
    assert patch_between(now, now) == {}
    assert all(before.get(name) != value or (value is None and name in before) for name, value in patch.items())


@given(count=st.integers(0, 10**12))
def test_a_big_count_is_rounded(count: int) -> None:
    """Up to 99 counts are exact; above they have two digits, never more than a tenth too low, and so rarely change."""
    assert rounded(count) <= count
    assert count - rounded(count) <= count / 10
    assert count >= 100 or rounded(count) == count
    assert len(str(rounded(count)).rstrip("0")) <= 2


def test_what_is_wrong_with_a_pod_is_told_of_its_own_revision() -> None:
    """A sick pod of a coming revision is named, and the revision before still serves."""
    status = told(COMING, Trouble("ImagePullFailed", "no such image", "ImagePullBackOff"))
    found = {one["type"]: one for one in status["conditions"]}
    assert (found["RunnersAvailable"]["status"], found["RunnersAvailable"]["reason"]) == ("False", "ImagePullFailed")
    assert found["RunnersAvailable"]["message"] == (
        "no runner of the new revision: 0/1 pods ready (ImagePullBackOff: no such image); "
        "the revision before serves; correct the image's name, or give the pull secret"
    )
    assert (status["currentRevision"], status["targetRevision"]) == (ONE.revision, TWO.revision)


def test_what_the_server_refused_is_told() -> None:
    """When a child was refused, the server's own words stand in the condition."""
    found = {one["type"]: one for one in told(WELL, refused="violates PodSecurity")["conditions"]}
    assert found["RunnersAvailable"]["reason"] == "PodsRefused"
    assert "violates PodSecurity" in found["RunnersAvailable"]["message"]


def test_a_pause_is_told() -> None:
    """Who paused a function, since when, why and what ends it stand in `Paused`, and in `Ready` as long as nothing worse does."""
    message = "paused by ada since 2026-01-01T08:00:00Z"
    ready, *_, condition = told(HELD)["conditions"]
    assert condition["message"] == f"{message}: the bank is down; its runs wait; to let them go on, `stepwell resume one`"
    assert (ready["status"], ready["reason"], ready["message"]) == ("True", "Paused", condition["message"])
    by_manifest = told(ANNOTATED)["conditions"][-1]["message"]
    assert by_manifest == f"{message}; its runs wait; to let them go on, take the annotation stepwell.dev/paused-by off"
    assert conditions(told(paused(NO_GATEWAY)))["Ready"] == ("False", "NoGateway")
    assert conditions(told(paused(NO_STORE)))["Paused"] == ("Unknown", "StoreUnavailable")
    assert conditions(told(paused(INVALID)))["Paused"] == ("True", "UserRequest")
    assert "\n" not in told(paused(WELL, by="a\nb", reason="c\x1b[1m"))["conditions"][-1]["message"]


def test_a_pause_and_its_end_are_events() -> None:
    """A pause, another one's pause and the end are told once each; a first status without a pause and one seen again are not."""
    steps = [told(one) for one in (WELL, HELD, HELD, paused(WELL, by="bob"), WELL, WELL)]
    notes = [list(notes_between(before, after)) for before, after in itertools.pairwise([{}, *steps])]
    assert [[note.reason for note in some] for some in notes] == [[], ["Paused"], [], ["Paused"], ["Resumed"], []]
    assert "paused by bob" in notes[3][0].message


def test_revisions_are_listed_with_their_phases() -> None:
    """The current, the coming and every draining revision stand in the status, with what still runs on them."""
    assert [(one["id"], one["phase"]) for one in told(COMING)["revisions"]] == [
        (ONE.revision, "Current"),
        (TWO.revision, "Coming"),
    ]
    assert told(DRAINS)["revisions"][1] == {
        "id": ONE.revision,
        "pool": ONE.pool_id,
        "phase": "Draining",
        "activeRuns": 3,
        "dueRuns": 0,
    }
    silent = observed(TWO, well_of(function_row(TWO), [ONE, TWO], None), DRAINS.children.values())
    assert told(silent)["revisions"][1] == {"id": ONE.revision, "pool": ONE.pool_id, "phase": "Draining"}


def test_ticks_are_told_as_they_are_planned() -> None:
    """Last and next tick come from the store's rows; a suspended function has no next one."""
    target = target_at(1, triggers=[{"cron": "@daily"}])
    facts = well_of(function_row(target), [target])
    row = ScheduleRow("one/@daily", "one", b"{}", 1, 86_400_000_000, 2 * 86_400_000_000)
    facts.schedules = {"one": [row]}
    status = told(observed(target, facts, [child_of(target.pool_id)]))
    assert status["schedules"] == [
        {"cron": "@daily", "lastScheduleTime": "1970-01-02T00:00:00Z", "nextScheduleTime": "1970-01-03T00:00:00Z"}
    ]
    assert status["nextScheduleTime"] == "1970-01-03T00:00:00Z"
    held = target_at(1, triggers=[{"cron": "@daily"}], suspend=True)
    status = told(observed(held, facts, [child_of(held.pool_id)]))
    assert "nextScheduleTime" not in status


@pytest.mark.parametrize("seen", [WELL, COMING, DRAINS, REFUSED], ids=["well", "coming", "drains", "refused"])
def test_what_the_store_told_stays_while_it_is_away(seen: Observed) -> None:
    """Revisions, runs and what draws pods keep their last values, also under an operator that has not reached the store yet."""
    before = told(seen)
    away = replace(after(seen, before), well=NO_STORE.well)
    kept = ("currentRevision", "selector", "revisions", "draining", "runs")
    now = told(away)
    assert {name: now.get(name) for name in kept} == {name: before.get(name) for name in kept}
    assert conditions(now)["Draining"] == ("Unknown", "StoreUnavailable")


def test_of_a_function_that_no_store_ever_knew_nothing_is_said() -> None:
    """Without a store and a status from before there is no current revision, and no run."""
    status = told(NO_STORE)
    assert "currentRevision" not in status
    assert (status["revisions"], status["draining"], status["runs"]["active"]) == ([], 0, 0)
