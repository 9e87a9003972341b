"""The row that `commit_pile` answers with, as a PileResult. Pure.

The row tells exceptions only, so that the answer to a pile where all went well is made of constants.
"""

import base64
from collections.abc import Sequence
from typing import Any

import orjson

from stepwell.engine.run import RunStatus
from stepwell.store.postgres.driver import Row
from stepwell.store.records import FOREVER, EventFate, Pile, StepKind, TickOutcome, TriggerKind, Wait
from stepwell.store.results import Candidate, Claimed, Lost, News, Overdue, PileResult, StartResult, TurnResult

Rest = dict[str, Any]

LANDED = TurnResult(landed=True)
FENCED = TurnResult(landed=False)
LOST = ("lease_expired", "restart")
"""What `sweep` says of runs that it took from their runner, among those that are overdue."""
STATUSES = {status.value: status for status in RunStatus}
TRIGGERS = {int(kind): kind for kind in TriggerKind}


def decode(pile: Pile, row: Row) -> PileResult:
    """The answers, in the order of the pile."""
    rest: Rest = orjson.loads(row["out_rest"]) if row["out_rest"] is not None else {}
    version: int = row["out_version"]
    if row["out_stale"]:
        return PileResult(now=row["out_now"], stale=True, registry_version=version)
    if "candidates" in rest:
        return PileResult(row["out_now"], registry_version=version, candidates=tuple(map(_candidate, rest["candidates"])))
    fates = _fates(pile, rest)
    return PileResult(
        now=row["out_now"],
        registry_version=version,
        turns=_turns(pile, rest) if pile.turns else (),
        ticks=tuple(TickOutcome(outcome) if outcome is not None else None for outcome in rest.get("ticks", ())),
        events=fates,
        starts=_starts(pile, rest) if pile.starts else (),
        cancels=tuple(STATUSES[status] if status is not None else None for status in rest.get("cancels", ())),
        claimed=_claimed(row, rest.get("lifted", {})) if row["cd_run"] is not None else (),
        news=tuple(News(run_id, inbox) for run_id, inbox in rest.get("news", ())),
        overdue=tuple(Overdue(*found[:3]) for found in rest.get("overdue") or () if found[2] not in LOST),
        lost=tuple(Lost(*found) for found in rest.get("overdue") or () if found[2] in LOST),
        outbox=tuple(rest.get("outbox") or ()),
        recovered=row["out_recovered"],
        fenced=len(rest.get("fenced", ())),
        ready=_ready(pile, row["out_ready"], rest),
        touched=tuple(sorted(set(row["out_touched"]))) if row["out_touched"] is not None else (),
        next_due=row["out_next_due"] if row["out_next_due"] is not None else FOREVER,
    )


def _turns(pile: Pile, rest: Rest) -> tuple[TurnResult, ...]:
    if rest.keys().isdisjoint(("fenced", "lost", "refused", "signalled")):
        return (LANDED,) * len(pile.turns)
    fenced = set(rest.get("fenced", ()))
    signalled = set(rest.get("signalled", ()))
    lost = set(rest.get("lost", ()))
    refused = set(rest.get("refused", ()))
    steps = opens = 0
    results: list[TurnResult] = []
    for place, turn in enumerate(pile.turns, 1):
        results.append(
            FENCED
            if place in fenced
            else TurnResult(
                landed=True,
                lost=tuple((step.step_id, step.occurrence) for at, step in enumerate(turn.steps, steps + 1) if at in lost),
                refused=tuple((wait.step_id, wait.occurrence) for at, wait in enumerate(turn.opens, opens + 1) if at in refused),
                signalled=place in signalled,
            )
        )
        steps += len(turn.steps)
        opens += len(turn.opens)
    return tuple(results)


def _fates(pile: Pile, rest: Rest) -> tuple[EventFate, ...]:
    fates = rest.get("fates")
    return (EventFate.ACCEPTED,) * len(pile.events) if fates is None else tuple(map(EventFate, fates))


def _starts(pile: Pile, rest: Rest) -> tuple[StartResult, ...]:
    results = [StartResult(landed=True, run_id=start.run_id) for start in pile.starts]
    not_started: list[int] = rest.get("not_started", [])
    taken: list[tuple[int, str]] = rest.get("taken", [])
    for place in not_started:
        results[place - 1] = StartResult(landed=False, run_id=pile.starts[place - 1].run_id)
    for place, run_id in taken:
        start = pile.starts[place - 1]
        invoked = start.turn >= 0 or start.trigger is TriggerKind.INVOKE
        results[place - 1] = StartResult(landed=False, run_id=run_id, skipped=not invoked)
    return tuple(results)


def _ready(pile: Pile, woken: Sequence[str] | None, rest: Rest) -> tuple[str, ...]:
    pools = set(woken or ())
    if pile.starts:
        made, unleased = rest.get("made"), rest.get("unleased") or ()
        pools.update(
            start.pool
            for start in pile.starts
            if (made is None or start.run_id in made) and (start.lease_to is None or start.run_id in unleased)
        )
    return tuple(sorted(pools))


def _candidate(row: list[Any]) -> Candidate:
    run_id, kind, step_id, occurrence, due, opened, attempt, name, match_key, residual, context, target_run, detail = row
    return Candidate(
        run_id,
        Wait(
            kind=StepKind(kind),
            step_id=step_id,
            occurrence=occurrence,
            due=due,
            opened=opened,
            attempt=attempt,
            name=name,
            match_key=match_key,
            residual=residual,
            context=base64.b64decode(context) if context is not None else None,
            target_run=target_run,
            detail=base64.b64decode(detail) if detail is not None else None,
        ),
    )


def _claimed(row: Row, lifted: dict[str, int]) -> tuple[Claimed, ...]:
    columns = (
        row["cd_run"],
        row["cd_function"],
        row["cd_revision"],
        row["cd_epoch"],
        row["cd_inbox"],
        row["cd_attempt"],
        row["cd_steps"],
        row["cd_due"],
        row["cd_created"],
        [TRIGGERS[trigger] for trigger in row["cd_trigger"]],
        row["cd_input"],
        row["cd_recovered"],
        [lifted.get(run_id, 0) for run_id in row["cd_run"]],
    )
    return tuple(sorted(map(Claimed, *columns), key=_by_due))


def _by_due(claimed: Claimed) -> tuple[int, str]:
    return claimed.due, claimed.run_id
