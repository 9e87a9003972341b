"""A function's status, from what was observed and planned. Pure; no message holds what counts or moves, so it changes rarely."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from stepwell.spec.function import CronTrigger, FunctionSpec
from stepwell.why import Pods, brief, no_pods
from stepwell_operator.names import PAUSED_BY, POOL_ID
from stepwell_operator.plan import Observed, Phase, Plan
from stepwell_operator.target import Fault, Target
from stepwell_operator.world import Child, Trouble, listed, mapping

Document = dict[str, Any]
SUMMARY = 200
KEPT = 50


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition, before it knows when it began."""

    type: str
    status: str
    reason: str
    message: str = ""


def status_of(seen: Observed, made: Plan, trouble: Trouble | None, refused: str | None, warning: str, now: datetime) -> Document:
    """The whole status. `refused`: what the API server said no to when a child was made; `warning` follows the store's words."""
    before: Document = orjson.loads(seen.seen.status)
    conditions = list(_conditions(seen, made, trouble, refused, warning))
    target = None if isinstance(seen.target, Fault) else seen.target
    child = seen.children.get(made.current_pool or (target.pool_id if target else ""))
    status: Document = {
        "observedGeneration": seen.seen.generation,
        "conditions": _dated(conditions, before.get("conditions") or (), seen.seen.generation, now),
        "replicas": child.replicas if child else 0,
        "readyReplicas": child.ready if child else 0,
        "store": f"{seen.well.store}: {seen.well.reason}",
        "draining": len(made.draining),
        "runs": _runs(seen),
        "revisions": _revisions(seen, made),
        "schedules": _schedules(seen),
    }
    pool = made.current_pool or (target.pool_id if target else None)
    selector = f"{POOL_ID}={pool}" if pool else None
    current = made.current
    if not seen.well.ready:  # what only the store knows stays as it told it last
        status |= _as_told(before)
        current = _text(before.get("currentRevision"))
        selector = _text(before.get("selector")) or selector
    optional = {
        "currentRevision": current,
        "targetRevision": target.revision if target else None,
        "selector": selector,
        "triggersSummary": _summary(target.function) if target else _text(before.get("triggersSummary")),
        "nextScheduleTime": min(
            (one["nextScheduleTime"] for one in status["schedules"] if "nextScheduleTime" in one), default=None
        ),
    }
    return status | {name: value for name, value in optional.items() if value is not None}


def patch_between(before: Mapping[str, Any], after: Mapping[str, Any]) -> Document:
    """The JSON merge patch that makes `after` of `before`; empty if they are the same."""
    gone = {name: None for name in before if name not in after}
    return gone | {name: value for name, value in after.items() if before.get(name) != value}


# --- conditions ---


def _conditions(seen: Observed, made: Plan, trouble: Trouble | None, refused: str | None, warning: str) -> Iterable[Condition]:
    target = seen.target
    accepted = _accepted(target)
    store = Condition("StoreReady", _truth(seen.well.ready), seen.well.reason, f"{seen.well.message}{warning}")
    runners = _runners(seen, made, trouble, refused)
    suspended, paused = _suspended(seen), _paused(seen)
    ready = _ready(made, accepted, store, runners, suspended, gateway=seen.well.gateway)
    yield _but_paused(ready, paused)
    yield accepted
    yield store
    yield runners
    yield _progressing(seen, made)
    yield _scheduled(seen, made, suspended)
    yield _draining(seen, made)
    yield suspended
    yield paused


def _ready(  # noqa: PLR0911 - a list of reasons, in order
    made: Plan, accepted: Condition, store: Condition, runners: Condition, suspended: Condition, *, gateway: bool
) -> Condition:
    if accepted.status != "True":
        return Condition("Ready", "False", "SpecInvalid", accepted.message)
    if store.status != "True":
        return Condition("Ready", "False", "StoreUnavailable", store.message)
    if suspended.status == "True":
        return Condition("Ready", "False", "Suspended", suspended.message)
    if made.phase is Phase.REFUSED:
        return Condition(
            "Ready", "False", "RevisionLimitReached", "too many revisions still have runs; the last accepted one serves"
        )
    if runners.status != "True":
        reason = "NoRunners" if made.phase is Phase.CURRENT else "RolloutInProgress"
        return Condition("Ready", "False", reason, runners.message)
    if not gateway:
        return Condition("Ready", "False", "NoGateway", "no pod of the gateway is ready: events and ticks wait, runs go on")
    if made.phase is Phase.COMING:
        return Condition("Ready", "True", "RolloutInProgress", "the revision before serves until the new one's pods are ready")
    return Condition("Ready", "True", "Available", "events and ticks start runs")


def _but_paused(ready: Condition, paused: Condition) -> Condition:
    """A paused function is as ready as it was: events and ticks make runs. But these wait, and the reason tells why."""
    if ready.status != "True" or paused.status != "True":
        return ready
    return Condition("Ready", "True", "Paused", paused.message)


def _accepted(target: Target | Fault) -> Condition:
    if isinstance(target, Fault):
        return Condition("SpecAccepted", "False", target.reason, f"{target.message}; the last accepted spec, if any, goes on")
    return Condition("SpecAccepted", "True", "Accepted")


def _runners(seen: Observed, made: Plan, trouble: Trouble | None, refused: str | None) -> Condition:
    kind = "RunnersAvailable"
    if refused:
        return Condition(kind, "False", "PodsRefused", refused[:500])
    if isinstance(seen.target, Fault):
        child = seen.children.get(made.current_pool or "")
        return _of_child(kind, child)
    if trouble is not None:
        return Condition(kind, "False", trouble.reason, _in_trouble(seen.children.get(seen.target.pool_id), made, trouble))
    if seen.target.replicas == 0:
        return Condition(kind, "True", "ScaledToZero", "replicas is 0: runs wait until it is raised")
    current = seen.children.get(made.current_pool or seen.target.pool_id)
    return _of_child(kind, current)


def _in_trouble(child: Child | None, made: Plan, trouble: Trouble) -> str:
    """What keeps the pods and what to do; with a count only while none is ready, for then it stays as it is."""
    if child is None or child.ready > 0:
        return f"{trouble.pod or trouble.reason}: {trouble.message}"
    coming = made.phase is Phase.COMING and made.current is not None
    found = no_pods(Pods(0, child.desired, trouble.pod or trouble.reason, trouble.message, coming))
    return f"{found.sentence}; {found.next}"


def _of_child(kind: str, child: Child | None) -> Condition:
    if child is None:
        return Condition(kind, "False", "NoDeployment", "there is no runner Deployment yet")
    if child.ready > 0 or child.desired == 0:
        return Condition(kind, "True", "MinimumReplicasAvailable")
    found = no_pods(Pods(0, child.desired))
    return Condition(kind, "False", "PodsNotReady", f"{found.sentence} yet; {found.next}")


def _progressing(seen: Observed, made: Plan) -> Condition:
    kind = "Progressing"
    target = seen.target
    if made.phase is Phase.REFUSED:
        return Condition(kind, "False", "RevisionLimitReached", "raise spec.revisions.max, or let old revisions drain")
    child = None if isinstance(target, Fault) else seen.children.get(target.pool_id)
    if child is not None and child.stuck:
        return Condition(kind, "False", "DeadlineExceeded", child.stuck[:500])
    if made.phase is Phase.COMING:
        return Condition(kind, "True", "NewRevision", "waiting for a ready pod of the new revision")
    return Condition(kind, "False", "Complete")


def _scheduled(seen: Observed, made: Plan, suspended: Condition) -> Condition:
    kind = "SchedulesReady"
    if suspended.status == "True":
        return Condition(kind, "False", "Suspended")
    if not seen.well.ready:
        return Condition(kind, "Unknown", "StoreUnavailable")
    if made.register is not None:
        return Condition(kind, "False", "Behind", "the newest spec is being registered")
    return Condition(kind, "True", "Registered")


def _draining(seen: Observed, made: Plan) -> Condition:
    kind = "Draining"
    if not seen.well.ready:
        return Condition(kind, "Unknown", "StoreUnavailable")
    if made.phase is Phase.REFUSED:
        names = ", ".join(sorted(one.revision for one in made.draining))
        return Condition(
            kind, "True", "RevisionLimitReached", f"revisions with runs: {names}; no more than spec.revisions.max are kept"
        )
    if made.draining:
        names = ", ".join(sorted(one.revision for one in made.draining))
        return Condition(kind, "True", "RevisionsDraining", f"runs go on on {names}")
    return Condition(kind, "False", "NoneDraining")


def _suspended(seen: Observed) -> Condition:
    if seen.seen.paused:
        return Condition("Suspended", "True", "Annotation", "the annotation stepwell.dev/suspend stops new runs; others go on")
    if not isinstance(seen.target, Fault) and seen.target.suspended:
        return Condition("Suspended", "True", "UserRequest", "spec.suspend stops new runs; runs in flight go on")
    return Condition("Suspended", "False", "NotSuspended")


def _paused(seen: Observed) -> Condition:
    kind = "Paused"
    if not seen.well.ready:
        return Condition(kind, "Unknown", "StoreUnavailable")
    pause = seen.well.pauses.get(seen.function_id)
    if pause is None:
        return Condition(kind, "False", "NotPaused")
    since = datetime.fromtimestamp(pause.since / 1e6, UTC)
    why = f": {brief(pause.reason)}" if pause.reason else ""
    by_manifest = pause.source == "manifest"
    mend = f"take the annotation {PAUSED_BY} off" if by_manifest else f"`stepwell resume {pause.function_id}`"
    message = f"paused by {brief(pause.paused_by)} since {stamp(since)}{why}; its runs wait; to let them go on, {mend}"
    return Condition(kind, "True", "Annotation" if by_manifest else "UserRequest", message)


def _dated(made: Sequence[Condition], before: Sequence[Document], generation: int, now: datetime) -> list[Document]:
    known = {one["type"]: one for one in before}
    dated: list[Document] = []
    for one in made:
        old = known.get(one.type)
        since = old["lastTransitionTime"] if old is not None and old["status"] == one.status else stamp(now)
        dated.append(
            {
                "type": one.type,
                "status": one.status,
                "reason": one.reason,
                "message": one.message,
                "observedGeneration": generation,
                "lastTransitionTime": since,
            }
        )
    return dated


def _truth(value: bool) -> str:
    return "True" if value else "False"


# --- figures ---


def rounded(count: int) -> int:
    """Two significant digits from 100 on: statuses don't follow every run."""
    if count < 100:
        return count
    unit = 10 ** (len(str(count)) - 2)
    return count // unit * unit


def _as_told(before: Document) -> Document:
    """Runs and revisions as a status has them; none if it never had any."""
    draining = before.get("draining")
    return {
        "draining": draining if isinstance(draining, int) else 0,
        "runs": mapping(before.get("runs")) or {"active": 0, "queued": 0, "due": 0},
        "revisions": listed(before.get("revisions")),
    }


def _runs(seen: Observed) -> Document:
    function_id = seen.function_id
    rows = [row for (name, _), row in (seen.well.work or {}).items() if name == function_id]
    return {
        "active": rounded(sum(row.live for row in rows)),
        "queued": rounded(sum(row.queued for row in rows)),
        "due": rounded(sum(row.due for row in rows)),
    }


def _revisions(seen: Observed, made: Plan) -> list[Document]:
    found: list[Document] = []
    if made.current is not None and made.current_pool is not None:
        found.append({"id": made.current, "pool": made.current_pool, "phase": "Current"})
    target = seen.target
    if made.phase is Phase.COMING and not isinstance(target, Fault) and target.revision != made.current:
        found.append({"id": target.revision, "pool": target.pool_id, "phase": "Coming"})
    for one in sorted(made.draining, key=lambda one: one.revision):
        figures = {} if one.live is None else {"activeRuns": rounded(one.live), "dueRuns": rounded(one.due or 0)}
        found.append({"id": one.revision, "pool": one.pool, "phase": "Draining", **figures})
    return found[:KEPT]


def _schedules(seen: Observed) -> list[Document]:
    if isinstance(seen.target, Fault):
        return []
    rows = {row.schedule_id: row for row in seen.well.schedules.get(seen.target.function.id, ())}
    found: list[Document] = []
    for trigger in seen.target.function.triggers:
        if not isinstance(trigger, CronTrigger):
            continue
        row = rows.get(f"{seen.target.function.id}/{trigger.cron}")
        one: Document = {"cron": trigger.cron}
        if row is not None and row.last_due > row.created:
            one["lastScheduleTime"] = stamp(datetime.fromtimestamp(row.last_due / 1e6, UTC))
        if row is not None and row.next_due > 0 and not seen.target.suspended:
            one["nextScheduleTime"] = stamp(datetime.fromtimestamp(row.next_due / 1e6, UTC))
        found.append(one)
    return found


def _summary(spec: FunctionSpec) -> str:
    names = [trigger.cron if isinstance(trigger, CronTrigger) else trigger.event for trigger in spec.triggers]
    text = ", ".join(names) or "invoke"
    return text if len(text) <= SUMMARY else text[: SUMMARY - 1] + "…"


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def stamp(moment: datetime) -> str:
    """A moment as Kubernetes writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
