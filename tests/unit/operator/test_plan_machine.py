"""Edits, runs, pods that come and go, a store that falls silent: whatever the order, what runs is never left without its pods."""

from dataclasses import replace

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from unit.operator.observations import NAME, SETTLE, child_of, function_row, observed, target_at, well_of

from stepwell.store.registry import RevisionWork
from stepwell_operator.facts import READY
from stepwell_operator.plan import Observed, Phase, Plan, plan
from stepwell_operator.target import Fault, Target
from stepwell_operator.world import Child

FAULT = Fault("InvalidExpression", "it doesn't compile")
MOST = 3


class Life(RuleBasedStateMachine):
    """One function. `runs` is the truth, by revision; the facts are what the store last told of it."""

    @initialize()
    def begin(self) -> None:
        self.now = 100.0
        self.runs: dict[str, int] = {}
        self.children: dict[str, Child] = {}
        self.well = well_of()
        self.wanted: Target | Fault = target_at(1, revisions={"max": MOST})
        self.pool_of: dict[str, str] = {}

    # --- what happens around it ---

    @rule(version=st.integers(1, 5), suspend=st.booleans(), replicas=st.sampled_from([0, 1, 1, 2]), replace_runs=st.booleans())
    def edit(self, version: int, suspend: bool, replicas: int, replace_runs: bool) -> None:
        revisions = {"max": MOST, "strategy": "Replace" if replace_runs else "Pinned"}
        self.wanted = target_at(version, suspend=suspend, replicas=replicas, revisions=revisions)

    @rule()
    def spoil(self) -> None:
        self.wanted = FAULT

    @rule(ready=st.booleans(), number=st.integers(0, 5))
    def pods(self, ready: bool, number: int) -> None:
        if self.children:
            name = sorted(self.children)[number % len(self.children)]
            self.children[name] = replace(self.children[name], ready=int(ready))

    @rule()
    def start_run(self) -> None:
        row = self.well.functions.get(NAME)
        if row is not None and row.active:
            self.runs[row.revision] = self.runs.get(row.revision, 0) + 1

    @rule(number=st.integers(0, 5))
    def end_run(self, number: int) -> None:
        live = sorted(name for name, count in self.runs.items() if count)
        if live:
            self.runs[live[number % len(live)]] -= 1

    @rule(seconds=st.sampled_from([1.0, SETTLE]))
    def look(self, seconds: float) -> None:
        """The store is asked what runs."""
        self.now += seconds
        self.well.reason = READY
        rows = [
            RevisionWork(NAME, revision, self.pool_of[revision], count, count, 0, 0, None)
            for revision, count in self.runs.items()
            if count
        ]
        self.well.work = {(row.function_id, row.revision): row for row in rows}
        known = {(NAME, row.revision) for row in self.well.revisions.get(NAME, ())}
        idle = known - set(self.well.work)
        self.well.zero_since = {pair: self.well.zero_since.get(pair, self.now) for pair in idle}

    @rule()
    def fall_silent(self) -> None:
        self.well.reason, self.well.work = "Unreachable", None
        self.well.zero_since.clear()

    # --- the operator ---

    @rule()
    def reconcile(self) -> None:
        made = plan(self.see())
        self.check(made)
        self.act(made)

    @rule()
    def come_to_rest(self) -> None:
        """After acting a few times nothing is left to do: only other news can bring something."""
        for _ in range(4):
            made = plan(self.see())
            self.check(made)
            self.act(made)
        made = plan(self.see())
        moved = made.move is None or not any(self.runs.get(one.revision) for one in made.draining)
        assert made.register is None
        assert not made.dropped
        assert moved

    def see(self) -> Observed:
        return observed(self.wanted, self.well, self.children.values(), now=self.now)

    def check(self, made: Plan) -> None:
        if not self.well.ready:
            assert not made.dropped
            assert not made.forget
            assert made.register is None
            return
        for one in made.forget:
            assert self.now - self.well.zero_since[one.function_id, one.revision] >= SETTLE
            assert one.revision != made.current
        for row in self.well.revisions.get(NAME, ()):
            assert row.pool not in made.dropped, "a revision that the store knows keeps its Deployment"
            if self.children.get(row.pool) is not None:
                assert row.pool in made.pools
        before = self.well.functions.get(NAME)
        if made.register is not None and before is not None and made.register.revision != before.revision:
            child = self.children.get(made.register.pool)
            assert made.register.target.replicas == 0 or (child is not None and child.ready)
        if made.phase is Phase.REFUSED:
            assert made.register is None or not made.register.revisions

    def act(self, made: Plan) -> None:
        """What the operator does with a plan, and the store with its questions."""
        rows = {row.revision: row for row in self.well.revisions.get(NAME, ())}
        if made.register is not None:
            at = made.register
            row = function_row(at.target, active=not at.target.suspended)
            self.well.functions[NAME] = replace(row, revision=at.revision, pool=at.pool)
            rows |= {row.revision: row for row in at.revisions}
            self.pool_of |= {row.revision: row.pool for row in at.revisions}
        if made.move is not None:
            moved = sum(self.runs.values())
            self.runs = {made.move.revision: moved} if moved else {}
        for one in made.forget:
            if not self.runs.get(one.revision):
                rows.pop(one.revision, None)
        self.well.revisions = {NAME: list(rows.values())}
        self.well.index()
        for pool in made.pools:
            self.children.setdefault(pool, child_of(pool, ready=0))
        for pool in made.dropped:
            self.children.pop(pool, None)

    @invariant()
    def runs_have_their_pods(self) -> None:
        """Every revision with a run is known to the store, and its Deployment stands."""
        for revision, count in self.runs.items():
            if count:
                assert revision in {row.revision for row in self.well.revisions[NAME]}
                assert self.pool_of[revision] in self.children

    @invariant()
    def no_more_revisions_than_may_be(self) -> None:
        assert len(self.well.revisions.get(NAME, ())) <= MOST


TestLife = Life.TestCase
TestLife.__doc__ = (
    "In any order of edits, runs, readiness and silence of the store, no run loses its pods and every plan comes to rest."
)
TestLife.settings = settings(max_examples=150, stateful_step_count=40)
