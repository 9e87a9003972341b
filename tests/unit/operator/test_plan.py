"""What is decided for a function, case by case."""

from dataclasses import replace

import pytest
from unit.operator.observations import (
    NAME,
    SETTLE,
    child_of,
    function_row,
    observed,
    revision_row,
    target_at,
    well_of,
    work_of,
)

from stepwell_operator.facts import WellFacts
from stepwell_operator.plan import Forget, Move, Phase, Plan, function_id_of, holder_of, plan, taken
from stepwell_operator.target import Fault

ONE, TWO, THREE = target_at(1), target_at(2), target_at(3)
FAULT = Fault("InvalidExpression", "spec.triggers[0].if: it doesn't compile")


def quiet(made: Plan) -> bool:
    """Whether nothing is to be done."""
    return made.register is None and not made.dropped and made.move is None and not made.forget


def test_a_first_revision_is_current_at_once() -> None:
    """What was never registered is registered with its revision for new runs, whether or not a pod is ready."""
    made = plan(observed(ONE, well_of()))
    assert made.register is not None
    assert (made.register.revision, made.register.pool) == (ONE.revision, ONE.pool_id)
    assert [row.revision for row in made.register.revisions] == [ONE.revision]
    assert set(made.pools) == {ONE.pool_id}
    assert (made.phase, made.current) == (Phase.CURRENT, ONE.revision)


def test_what_is_as_it_should_be_is_left_alone() -> None:
    """A registered function with its Deployment and no other revision needs nothing, and nobody looks again."""
    made = plan(observed(ONE, well_of(function_row(ONE), [ONE]), [child_of(ONE.pool_id)]))
    assert quiet(made)
    assert made.again is None


@pytest.mark.parametrize(
    "child",
    [
        None,
        child_of(TWO.pool_id, ready=0),
        child_of(TWO.pool_id, ready=1, generation=2, observed=1),
    ],
    ids=["no Deployment", "no pod ready", "ready pods of an older spec"],
)
def test_a_revision_is_not_promoted_before_its_pods_are_ready(child: object) -> None:
    """Until a pod of the newest Deployment is ready, new runs begin on the revision before, and both Deployments stand."""
    children = [child_of(ONE.pool_id), *([child] if child is not None else [])]
    made = plan(observed(TWO, well_of(function_row(ONE), [ONE]), children))
    assert made.phase is Phase.COMING
    assert made.register is not None
    assert made.register.revision == made.current == ONE.revision
    assert set(made.pools) == {ONE.pool_id, TWO.pool_id}
    assert not made.dropped


def test_a_revision_is_promoted_once_it_is_registered_and_ready() -> None:
    """Ready pods of a revision that the store knows make it current; one that it doesn't know yet is made known first."""
    children = [child_of(ONE.pool_id), child_of(TWO.pool_id)]
    unknown = plan(observed(TWO, well_of(function_row(ONE), [ONE]), children))
    assert unknown.phase is Phase.COMING
    made = plan(observed(TWO, well_of(function_row(TWO, at=ONE), [ONE, TWO]), children))
    assert made.phase is Phase.CURRENT
    assert made.register is not None
    assert made.register.revision == TWO.revision


def test_with_no_replicas_a_revision_is_promoted_without_pods() -> None:
    """Scaled to zero there is no pod to wait for."""
    none = target_at(2, replicas=0)
    made = plan(observed(none, well_of(function_row(none, at=ONE), [ONE, none]), [child_of(none.pool_id, ready=0, desired=0)]))
    assert made.phase is Phase.CURRENT


def test_a_live_edit_is_registered_while_a_revision_is_coming() -> None:
    """Retries that were edited together with the code hold for new runs on the old revision at once."""
    target = target_at(2, retries=9)
    made = plan(observed(target, well_of(function_row(ONE), [ONE]), [child_of(ONE.pool_id)]))
    assert made.register is not None
    assert made.register.target.function.retries == 9
    assert made.register.revision == ONE.revision


def draining(work: object, *, since: float | None, now: float = 100.0) -> Plan:
    facts = well_of(function_row(TWO), [ONE, TWO], work)  # type: ignore[arg-type]
    if since is not None:
        facts.zero_since[ONE.function.id, ONE.revision] = since
    return plan(observed(TWO, facts, [child_of(ONE.pool_id), child_of(TWO.pool_id)], now=now))


def test_a_drained_revision_goes_after_the_second_answer() -> None:
    """A revision is let go of when the store has said for the settling time that no run is pinned to it."""
    assert draining([], since=100.0 - SETTLE).forget == (Forget(ONE.function.id, ONE.revision),)


@pytest.mark.parametrize(
    ("work", "since"),
    [
        (None, None),
        (None, 0.0),
        ([], None),
        ([], 100.0 - SETTLE / 2),
        ([work_of(ONE, 1)], None),
        ([work_of(ONE, 1)], 0.0),
        ([work_of(ONE, 1, failure=True)], 0.0),
    ],
    ids=["unknown", "unknown now", "first answer", "too early", "one run", "one run, stale zero", "a clean-up run"],
)
def test_a_revision_stays_while_runs_may_be_pinned_to_it(work: object, since: float | None) -> None:
    """Unknown, stale and positive answers alike keep a revision and its Deployment, and another look is due."""
    made = draining(work, since=since)
    assert made.forget == ()
    assert ONE.pool_id in made.pools
    assert not made.dropped
    assert made.again == SETTLE
    assert [one.revision for one in made.draining] == [ONE.revision]


def test_a_pool_goes_once_its_last_revision_is_forgotten() -> None:
    """When the store has let go of a revision, its Deployment has no part in the plan any more."""
    made = plan(observed(TWO, well_of(function_row(TWO), [TWO]), [child_of(ONE.pool_id), child_of(TWO.pool_id)]))
    assert made.dropped == {ONE.pool_id}


@pytest.mark.parametrize("target", [ONE, TWO, FAULT], ids=["the same", "another", "a fault"])
def test_without_the_store_nothing_goes(target: object) -> None:
    """While the store doesn't answer no Deployment is dropped, no revision forgotten and nothing registered."""
    made = plan(observed(target, WellFacts("shop", "default", "Unreachable"), [child_of(ONE.pool_id)]))  # type: ignore[arg-type]
    assert quiet(made)


def test_at_the_cap_a_new_revision_is_refused() -> None:
    """With as many revisions as may be, a new one is neither made known nor given a Deployment; live edits still hold."""
    target = target_at(3, revisions={"max": 2}, retries=9)
    facts = well_of(function_row(TWO), [ONE, TWO], [work_of(ONE, 1), work_of(TWO, 1)])
    made = plan(observed(target, facts, [child_of(ONE.pool_id), child_of(TWO.pool_id)]))
    assert made.phase is Phase.REFUSED
    assert made.register is not None
    assert made.register.revisions == ()
    assert made.register.revision == made.current == TWO.revision
    assert made.register.target.function.retries == 9
    assert set(made.pools) == {ONE.pool_id, TWO.pool_id}


def test_a_revision_that_is_known_is_within_the_cap() -> None:
    """At the cap a rollback to a revision that is still kept is taken."""
    target = target_at(1, revisions={"max": 2})
    facts = well_of(function_row(TWO), [ONE, TWO], [work_of(ONE, 1), work_of(TWO, 1)])
    made = plan(observed(target, facts, [child_of(ONE.pool_id), child_of(TWO.pool_id)]))
    assert (made.phase, made.current) == (Phase.CURRENT, ONE.revision)
    assert [one.revision for one in made.draining] == [TWO.revision]


def test_a_coming_revision_that_is_edited_away_drains() -> None:
    """A revision that never became current is kept like any other until the store says that nothing is pinned to it."""
    facts = well_of(function_row(TWO, at=ONE), [ONE, TWO], [])
    made = plan(observed(THREE, facts, [child_of(ONE.pool_id), child_of(TWO.pool_id, ready=0)]))
    assert (made.phase, made.current) == (Phase.COMING, ONE.revision)
    assert [one.revision for one in made.draining] == [TWO.revision]


def test_a_fault_keeps_what_runs() -> None:
    """A spec that isn't accepted leaves the last good revision current, its Deployment standing and the rest draining."""
    facts = well_of(function_row(TWO), [ONE, TWO], [work_of(ONE, 1)])
    made = plan(observed(FAULT, facts, [child_of(ONE.pool_id), child_of(TWO.pool_id)]))
    assert quiet(made)
    assert (made.accepted, made.current) == (False, TWO.revision)
    assert set(made.pools) == {ONE.pool_id, TWO.pool_id}


def test_a_fault_of_which_the_well_knows_nothing_drops_nothing() -> None:
    """Where the well has no row of a function whose spec isn't accepted, the Deployments that it owns stay."""
    made = plan(observed(FAULT, well_of(), [child_of(ONE.pool_id)]))
    assert quiet(made)


def test_replace_moves_runs_once_the_new_revision_is_current() -> None:
    """With the strategy Replace live runs are handed over, and only when the new revision's pods are ready."""
    target = target_at(2, revisions={"strategy": "Replace"})
    children = [child_of(ONE.pool_id), child_of(target.pool_id, ready=0)]
    facts = well_of(function_row(target, at=ONE), [ONE, target], [work_of(ONE, 1)])
    assert plan(observed(target, facts, children)).move is None
    facts = well_of(function_row(target), [ONE, target], [work_of(ONE, 1)])
    assert plan(observed(target, facts, children)).move == Move("one", target.revision, target.pool_id)


def test_a_suspended_function_is_registered_as_inactive() -> None:
    """Suspending writes the row again, and nothing else."""
    target = target_at(1, suspend=True)
    made = plan(observed(target, well_of(function_row(ONE), [ONE]), [child_of(ONE.pool_id)]))
    assert made.register is not None
    assert made.register.target.suspended
    assert not made.register.revisions
    assert quiet(plan(observed(target, well_of(function_row(target, active=False), [ONE]), [child_of(ONE.pool_id)])))


def test_a_clean_up_function_is_registered_and_taken_out() -> None:
    """`onFailure` adds a row of its own, and its removal is noticed while that row is there."""
    target = target_at(1, onFailure="tidy")
    facts = well_of(function_row(target), [target])
    assert plan(observed(target, facts, [child_of(target.pool_id)])).register is not None
    facts = well_of(function_row(ONE), [ONE])
    facts.functions["one-failure"] = function_row(ONE)
    assert plan(observed(ONE, facts, [child_of(ONE.pool_id)])).register is not None
    facts.functions["one-failure"] = function_row(ONE, active=False)
    assert quiet(plan(observed(ONE, facts, [child_of(ONE.pool_id)])))


def test_a_row_of_another_owner_is_taken_over() -> None:
    """A function that a pool or a manifest registered belongs to the object from now on."""
    row = function_row(ONE)
    other = type(row)(row.function_id, row.revision, row.pool, "pool/x", row.spec)
    assert plan(observed(ONE, well_of(other, [ONE]), [child_of(ONE.pool_id)])).register is not None


def test_a_revision_row_that_says_something_else_is_written_again() -> None:
    """A revision whose stored code isn't what the target states is registered again."""
    facts = well_of(function_row(ONE), [ONE])
    old = revision_row(ONE)
    facts.revisions["one"] = [type(old)(old.function_id, old.revision, old.pool, b'{"handler":"main"}', old.created)]
    made = plan(observed(ONE, facts, [child_of(ONE.pool_id)]))
    assert made.register is not None
    assert [row.code for row in made.register.revisions] == [ONE.code_row()]


def test_a_function_id_has_one_holder() -> None:
    """Whoever owns the row of what a function asks to be known by holds it, its clean-up function's too; nobody holds it from itself."""
    row = function_row(ONE)
    failing = target_at(1, onFailure="clean")
    assert failing.failure is not None
    clean = replace(row, function_id=failing.failure.id)
    assert holder_of("two", ONE, well_of(row, [ONE])) == NAME
    assert holder_of(NAME, ONE, well_of(row, [ONE])) is None
    assert holder_of("two", ONE, well_of()) is None
    assert (holder_of("two", failing, well_of(clean)), holder_of("two", ONE, well_of(clean))) == (NAME, None)
    assert holder_of("two", ONE, well_of(replace(row, owner="tests"))) is None, "whoever that is, it isn't a function"


def test_a_function_whose_id_is_taken_does_nothing() -> None:
    """It has no part in what the store knows by that id, not even when it is the id's namesake; and nothing of its own goes."""
    well = well_of(replace(function_row(ONE), owner="dfn/other"), [ONE, TWO])
    fault = taken(ONE, well, "other")
    made = plan(observed(fault, well, [child_of(ONE.pool_id)]))
    assert made == Plan(accepted=False, phase=Phase.COMING)
    assert function_id_of(NAME, fault, well) == ""
    assert "'one'" in fault.message
    assert "'other'" in fault.message
