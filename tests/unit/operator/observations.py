"""Made-up observations: a function, its well and its Deployments, as small as a test needs them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import orjson

from stepwell.store.registry import FunctionRow, RevisionRow, RevisionWork
from stepwell_operator.facts import READY, WellFacts, owner_of
from stepwell_operator.plan import Observed, Register
from stepwell_operator.target import Fault, Target, target_of
from stepwell_operator.world import Child, Seen

SETTLE = 5.0
NAME = "one"


def spec_of(version: int = 1, **more: Any) -> dict[str, Any]:
    """A spec whose code differs from version to version."""
    code = f"async def main(ctx):\n    return {version}\n"
    return {"triggers": [{"event": "go"}], "source": {"inline": {"code": code, "handler": "main"}}, **more}


def seen_of(spec: Mapping[str, Any] | None = None, **more: Any) -> Seen:
    """An object as last seen."""
    made = Seen("shop", NAME, "uid-1", 7, 3, "2026-01-01T00:00:00Z", False, {}, (), orjson.dumps(spec or spec_of()), b"{}")
    return replace(made, **more)


def target_at(version: int = 1, **more: Any) -> Target:
    """What a spec asks for; it has to be an accepted one."""
    made = target_of(seen_of(spec_of(version, **more)), {})
    assert isinstance(made, Target), made
    return made


def revision_row(target: Target) -> RevisionRow:
    """The row of a target's revision."""
    return RevisionRow(target.function.id, target.revision, target.pool_id, target.code_row(), 1)


def register_of(target: Target) -> Register:
    """What registers a target, its own revision for new runs."""
    return Register(target, target.revision, target.pool_id, (revision_row(target),))


def function_row(target: Target, *, at: Target | None = None, active: bool = True) -> FunctionRow:
    """The function's row, with the revision of `at` for new runs."""
    where = at or target
    return FunctionRow(target.function.id, where.revision, where.pool_id, owner_of(NAME), target.function.to_json(), active)


def work_of(target: Target, live: int, *, failure: bool = False) -> RevisionWork:
    """So many live runs of a target's revision, or of its clean-up function's."""
    name = target.function.id + ("-failure" if failure else "")
    return RevisionWork(name, target.revision, target.pool_id, live, live, 0, 0, None)


def well_of(
    row: FunctionRow | None = None, revisions: Iterable[Target] = (), work: Iterable[RevisionWork] | None = ()
) -> WellFacts:
    """A well that answers; `work` None: it hasn't told what runs."""
    facts = WellFacts("shop", "default", READY, "fine", "stepwell-store", "d1", gateway=True)
    facts.functions = {row.function_id: row} if row is not None else {}
    rows = [revision_row(one) for one in revisions]
    facts.revisions = {row.function_id: [one for one in rows if one.function_id == row.function_id] for row in rows}
    facts.work = None if work is None else {(one.function_id, one.revision): one for one in work}
    facts.index()
    return facts


def child_of(pool: str, *, ready: int = 1, desired: int = 1, **more: Any) -> Child:
    """A runner Deployment as last seen."""
    made = Child(
        "Deployment", "shop", pool, f"uid-{pool}", 9, 1, 1, "a", {}, ("uid-1",), desired, desired, desired, ready, b"{}", False
    )
    return replace(made, **more)


def observed(target: Target | Fault, well: WellFacts, children: Iterable[Child] = (), *, now: float = 100.0) -> Observed:
    """An observation in which the function owns all these Deployments."""
    by_name = {one.name: one for one in children}
    return Observed(seen_of(), target, well, by_name, frozenset(by_name), now, SETTLE)
