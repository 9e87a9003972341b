"""What has to be done for one function, decided from what was observed. Pure: the same observation gives the same plan.

A new revision is registered first, its Deployment made, and only when a pod of it is ready do new runs begin on it; the revision
before keeps its Deployment until the store has said twice, some seconds apart, that no run is pinned to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from stepwell.store.registry import RevisionRow
from stepwell_operator.facts import WellFacts, name_of, owner_of
from stepwell_operator.target import Fault, PoolSpec, Target, read_pool
from stepwell_operator.world import Child, Seen


class Phase(StrEnum):
    """Where a function's newest revision stands."""

    CURRENT = "Current"
    COMING = "Coming"
    """Its pods aren't ready yet; new runs begin on the revision before."""
    REFUSED = "Refused"
    """There are as many revisions with runs as may be."""


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything a plan is made from. `now` is monotonic; `settle` how far apart two answers lie before a revision is drained."""

    seen: Seen
    target: Target | Fault
    well: WellFacts
    children: Mapping[str, Child]
    """The Deployments of this namespace's pools, by pool id."""
    owned: frozenset[str]
    """The pool ids whose Deployments this function is an owner of."""
    now: float
    settle: float

    @property
    def function_id(self) -> str:
        """By what the store knows this function."""
        return function_id_of(self.seen.name, self.target, self.well)


@dataclass(frozen=True, slots=True)
class Register:
    """Write the function's rows: its spec, with `revision` and `pool` for new runs, and the revisions that runners load."""

    target: Target
    revision: str
    pool: str
    revisions: tuple[RevisionRow, ...]


@dataclass(frozen=True, slots=True)
class Move:
    """Hand every live run of the function to this revision."""

    function_id: str
    revision: str
    pool: str


@dataclass(frozen=True, slots=True)
class Forget:
    """Ask the store to let go of a revision that no run is pinned to; it refuses if one is."""

    function_id: str
    revision: str


@dataclass(frozen=True, slots=True)
class Draining:
    """A revision that isn't current and isn't gone. `live` and `due` are None while the store hasn't told."""

    revision: str
    pool: str
    live: int | None
    due: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, in this order: register, make pools, move, forget; and where things stand, for the status."""

    register: Register | None = None
    pools: Mapping[str, PoolSpec] = field(default_factory=dict[str, PoolSpec])
    """The pools that this function has part in from now on, by their ids."""
    dropped: frozenset[str] = frozenset()
    """Pools that it had part in and has no more."""
    move: Move | None = None
    forget: tuple[Forget, ...] = ()
    again: float | None = None
    """Look again after so many seconds, even if nothing is heard."""
    phase: Phase = Phase.CURRENT
    current: str | None = None
    """The revision that new runs begin on."""
    current_pool: str | None = None
    draining: tuple[Draining, ...] = ()
    accepted: bool = True


def plan(seen: Observed) -> Plan:
    """Decide what to do for a function."""
    if not seen.well.ready:
        return _without_store(seen)
    made = _kept(seen) if isinstance(seen.target, Fault) else _towards(seen, seen.target)
    made = _drained(seen, made)
    if not made.accepted and made.current is None:
        return made  # of what the well knows nothing, nothing goes
    return replace(made, dropped=frozenset(seen.owned - set(made.pools)))


def rows_of(seen: Observed) -> Sequence[RevisionRow]:
    """The revisions that the store knows of this function."""
    return seen.well.revisions.get(seen.function_id, ())


def function_id_of(name: str, target: Target | Fault, well: WellFacts) -> str:
    """By what the store knows a function; while its spec isn't accepted, by whose row is in the store. Empty: by nothing."""
    if not isinstance(target, Fault):
        return target.function.id
    own = next((row.function_id for row in well.functions.values() if row.owner == owner_of(name)), None)
    return own or ("" if name in well.functions else name)


def holder_of(name: str, target: Target, well: WellFacts) -> str | None:
    """The other DurableFunction that owns, in this well, what this one asks to be known by."""
    owners = (name_of(well.functions[one]) for one in ids_of(target) if one in well.functions)
    return next((owner for owner in owners if owner not in {None, name}), None)


def ids_of(target: Target) -> tuple[str, ...]:
    """By what the store is to know a function, and its clean-up function if it has one."""
    return (target.function.id, *([target.failure.id] if target.failure else []))


def taken(target: Target, well: WellFacts, holder: str) -> Fault:
    """What is wrong with a function whose id is another's: two that shared one would take its runs from each other."""
    return Fault(
        "FunctionIdTaken",
        f"the functionId {target.function.id!r} is that of DurableFunction {holder!r}, in the same store ({well.store}): delete "
        f"one of the two; this one, applied anew with another spec.functionId, is a function of its own",
    )


def _without_store(seen: Observed) -> Plan:
    """Nothing is known, so nothing goes: what there is stays, scaled as asked."""
    target = seen.target
    if isinstance(target, Fault):
        return Plan(accepted=False, phase=Phase.COMING)
    there = target.pool_id in seen.children
    return Plan(pools={target.pool_id: target.pool} if there else {}, phase=Phase.CURRENT if there else Phase.COMING)


def _kept(seen: Observed) -> Plan:
    """The spec isn't accepted: the last one that was goes on."""
    row = seen.well.functions.get(seen.function_id)
    if row is None:
        return Plan(accepted=False, phase=Phase.COMING)
    pools = {
        one.pool: pool for one in rows_of(seen) if one.revision == row.revision and (pool := read_pool(one.code)) is not None
    }
    return Plan(pools=pools, current=row.revision, current_pool=row.pool, accepted=False)


def _towards(seen: Observed, target: Target) -> Plan:
    """From what is registered to what is asked for."""
    row = seen.well.functions.get(target.function.id)
    known = {one.revision: one for one in rows_of(seen)}
    if row is None or row.revision == target.revision or row.revision not in known:
        return _promoted(seen, target)
    if target.revision not in known and len(known) >= target.most_revisions:
        return _refused(seen, target, known, row.revision)
    child = seen.children.get(target.pool_id)
    ready = target.replicas == 0 or (child is not None and child.observed >= child.generation and child.ready > 0)
    if ready and target.revision in known:
        return _promoted(seen, target)
    pools = {target.pool_id: target.pool, **_pool_at(known[row.revision])}
    register = _register(seen, target, row.revision, row.pool)
    return Plan(register=register, pools=pools, phase=Phase.COMING, current=row.revision, current_pool=row.pool)


def _promoted(seen: Observed, target: Target) -> Plan:
    """New runs begin on the target."""
    return Plan(
        register=_register(seen, target, target.revision, target.pool_id),
        pools={target.pool_id: target.pool},
        current=target.revision,
        current_pool=target.pool_id,
    )


def _refused(seen: Observed, target: Target, known: Mapping[str, RevisionRow], current: str) -> Plan:
    pool = known[current].pool
    register = _register(seen, target, current, pool, keep=True)
    return Plan(register=register, pools=_pool_at(known[current]), phase=Phase.REFUSED, current=current, current_pool=pool)


def _register(seen: Observed, target: Target, revision: str, pool: str, *, keep: bool = False) -> Register | None:
    """What has to be written, or None if the well says it already. `keep`: the target's own revision isn't made known."""
    row = seen.well.functions.get(target.function.id)
    known = {one.revision: one for one in rows_of(seen)}
    code = target.code_row()
    wanted = () if keep else (RevisionRow(target.function.id, target.revision, target.pool_id, code, 0),)
    news = tuple(one for one in wanted if one.revision not in known or known[one.revision].code != one.code)
    same = (
        row is not None
        and (row.revision, row.pool, row.owner, row.spec, row.active)
        == (revision, pool, owner_of(seen.seen.name), target.function.to_json(), not target.suspended)
        and _failure_same(seen, target, revision)
    )
    return None if same and not news else Register(target, revision, pool, news)


def _failure_same(seen: Observed, target: Target, revision: str) -> bool:
    failure = target.failure
    if failure is None:
        left = seen.well.functions.get(f"{target.function.id}-failure")
        return left is None or not left.active  # the store keeps the row of one that was taken out
    row = seen.well.functions.get(failure.id)
    return row is not None and (row.spec, row.revision, row.active) == (failure.to_json(), revision, True)


def _pool_at(row: RevisionRow) -> dict[str, PoolSpec]:
    pool = read_pool(row.code)
    return {} if pool is None else {row.pool: pool}


def _drained(seen: Observed, made: Plan) -> Plan:
    """Revisions that are neither current nor coming: kept while runs are pinned to them, or while nobody knows."""
    coming = None if isinstance(seen.target, Fault) or made.phase is Phase.REFUSED else seen.target.revision
    pools = dict(made.pools)
    draining: list[Draining] = []
    forget: list[Forget] = []
    for row in rows_of(seen):
        if row.revision in {made.current, coming}:
            continue
        live, due = _work(seen, row.function_id, row.revision)
        if live == 0 and _is_settled(seen, row.function_id, row.revision):
            forget.append(Forget(row.function_id, row.revision))
        draining.append(Draining(row.revision, row.pool, live, due))
        pools |= _pool_at(row)
    move = None
    if draining and not isinstance(seen.target, Fault) and seen.target.strategy == "Replace" and made.phase is Phase.CURRENT:
        move = Move(seen.target.function.id, seen.target.revision, seen.target.pool_id)
    again = seen.settle if draining else None
    return replace(made, pools=pools, draining=tuple(draining), forget=tuple(forget), move=move, again=again)


def _work(seen: Observed, function_id: str, revision: str) -> tuple[int | None, int | None]:
    """Live and due runs of a revision, those of its clean-up function counted in; None if the store hasn't told."""
    if seen.well.work is None:
        return None, None
    rows = [seen.well.work.get((name, revision)) for name in (function_id, f"{function_id}-failure")]
    return sum(row.live for row in rows if row), sum(row.due for row in rows if row)


def _is_settled(seen: Observed, function_id: str, revision: str) -> bool:
    since = seen.well.zero_since.get((function_id, revision))
    return since is not None and seen.now - since >= seen.settle
