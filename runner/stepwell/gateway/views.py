"""Rows as they go over the wire. Pure; stored payloads keep their bytes."""

from collections.abc import Sequence
from typing import Any, cast

import orjson

from stepwell.clock import rfc3339
from stepwell.engine.run import RunStatus
from stepwell.store.access import AuditRow, KeyRow
from stepwell.store.records import FOREVER, StepKind, TickOutcome, Wait
from stepwell.store.registry import FunctionRow, PauseRow, ScheduleRow
from stepwell.store.views import ProgressRow, RecordedStep, RunRow, StoredEvent
from stepwell.why import EventWhy, FunctionWhy, Paused, Reaction, WaitingFor, pause_sentence

LIST_OUTPUT = 64 * 1024
"""In a list an output over this size is left out; the run itself has it."""


def run_view(run: RunRow, waiting: WaitingFor | None, progress: Sequence[ProgressRow]) -> dict[str, Any]:
    """One run, whole."""
    view = _run(run)
    view["waiting_for"] = None if waiting is None else waiting_view(waiting)
    view["progress"] = [progress_view(one) for one in progress]
    return view


def run_in_list(run: RunRow) -> dict[str, Any]:
    """One run among many: without `waiting_for`, and without an output over 64 KiB."""
    view = _run(run)
    if run.value is not None and len(run.value) > LIST_OUTPUT:
        view["output"] = None
    return view


def progress_view(said: ProgressRow) -> dict[str, Any]:
    """How far a step is, in its own words."""
    whose = {"step_id": said.step_id, "occurrence": said.occurrence, "attempt": said.attempt}
    return {**whose, "ratio": said.ratio, "note": said.note, "told_at": rfc3339(said.told)}


def waiting_view(waiting: WaitingFor | FunctionWhy) -> dict[str, Any]:
    """Why it is waiting."""
    return {
        "kind": waiting.kind,
        "sentence": waiting.sentence,
        "since": _instant(waiting.since),
        "until": _instant(waiting.until),
        "next": waiting.next,
    }


def event_view(event: StoredEvent) -> dict[str, Any]:
    """One event: what was sent, and when it was accepted."""
    document = cast("dict[str, Any]", orjson.loads(event.data))
    return {**document, "received_at": rfc3339(event.received), "registry_version": event.registry_version}


def event_with_functions(event: StoredEvent, found: Sequence[Reaction], why: EventWhy) -> dict[str, Any]:
    """One event and what it did."""
    told = {"sentence": why.sentence, "since": rfc3339(why.since), "until": _instant(why.until), "next": why.next}
    functions = [
        {"function_id": one.function_id, "decision": one.decision, "detail": one.detail, "run_id": one.run_id} for one in found
    ]
    return {**event_view(event), "why": told, "functions": functions}


def step_view(recorded: RecordedStep) -> dict[str, Any]:
    """A recorded step with its failed tries; the code between steps has an empty id and no result."""
    step = recorded.step
    between = not step.step_id
    failed = recorded.attempts[-1].error if recorded.attempts and between else None
    return {
        "id": step.step_id,
        "occurrence": step.occurrence,
        "kind": "CODE" if between else step.kind.name,
        "status": "RETRIED" if between else "COMPLETED" if step.ok else "FAILED",
        "output": orjson.Fragment(step.value) if step.ok and not between else None,
        "error": _json(failed) if between else None if step.ok else _json(step.value),
        "attempts": len(recorded.attempts) if between else step.attempts,
        "started_at": rfc3339(step.started),
        "ended_at": rfc3339(step.ended),
        "until": None,
        "failed_attempts": [
            {
                "attempt": tried.attempt,
                "started_at": rfc3339(tried.started),
                "ended_at": rfc3339(tried.ended),
                "retry_at": _instant(tried.retry_at),
                "error": _json(tried.error),
            }
            for tried in recorded.attempts
        ],
    }


def open_view(wait: Wait, *, is_due: bool) -> dict[str, Any]:
    """A step that is not there yet: it sleeps, waits or is to be tried again. `is_due`: that is over, its run has to go on."""
    statuses = {StepKind.RUN: "RETRYING", StepKind.SLEEP: "SLEEPING"}
    return {
        "id": wait.step_id,
        "occurrence": wait.occurrence,
        "kind": wait.kind.name,
        "status": "QUEUED" if is_due else statuses.get(wait.kind, "WAITING"),
        "output": None,
        "error": _json(wait.detail) if wait.kind is StepKind.RUN else None,
        "attempts": wait.attempt,
        "started_at": rfc3339(wait.opened),
        "ended_at": None,
        "until": _instant(wait.due),
        "failed_attempts": [],
    }


def pause_view(pause: PauseRow | None, now: int) -> dict[str, Any] | None:
    """Who paused a function, if somebody did."""
    if pause is None:
        return None
    sentence = pause_sentence(Paused(pause.paused_by, pause.since, pause.reason, pause.source), now)
    since = rfc3339(pause.since)
    return {"by": pause.paused_by, "since": since, "reason": pause.reason, "source": pause.source.upper(), "sentence": sentence}


def function_view(
    row: FunctionRow, why: FunctionWhy, schedules: list[dict[str, Any]], paused: dict[str, Any] | None = None
) -> dict[str, Any]:
    """One registered function with what holds it back and its schedules."""
    return {
        "id": row.function_id,
        "revision": row.revision,
        "pool": row.pool,
        "owner": row.owner,
        "active": row.active,
        "paused": paused,
        "why": waiting_view(why),
        "spec": orjson.Fragment(row.spec),
        "schedules": schedules,
    }


def schedule_view(row: ScheduleRow) -> dict[str, Any]:
    """One cron schedule: what it says and when it fires next."""
    return {
        "id": row.schedule_id,
        "cron": orjson.Fragment(row.cron),
        "last_due": _instant(row.last_due if row.last_due > row.created else None),
        "next_due": _instant(row.next_due or None),
    }


def tick_view(tick: tuple[int, int, str, str | None]) -> dict[str, Any]:
    """One line of the cron ledger."""
    due, outcome, reason, run_id = tick
    return {"due": rfc3339(due), "outcome": TickOutcome(outcome).name, "reason": reason, "run_id": run_id}


def key_view(row: KeyRow) -> dict[str, Any]:
    """A key without what is secret in it."""
    return {
        "key_id": row.key_id,
        "name": row.name,
        "kind": row.kind.upper(),
        "events": list(row.events),
        "created_at": rfc3339(row.created),
        "created_by": row.created_by,
        "revoked_at": _instant(row.revoked),
        "revoked_by": row.revoked_by,
    }


def act_view(act: AuditRow) -> dict[str, Any]:
    """One line of the audit."""
    return {
        "id": act.audit_id,
        "at": rfc3339(act.at),
        "actor": act.actor,
        "verb": act.verb,
        "object": act.object,
        "decision": act.decision,
        "request_id": act.request_id,
        "detail": orjson.Fragment(act.detail.encode()),
    }


def _run(run: RunRow) -> dict[str, Any]:
    done = run.status is RunStatus.COMPLETED
    return {
        "run_id": run.run_id,
        "function_id": run.function_id,
        "revision": run.revision,
        "status": run.status.upper(),
        "trigger": run.trigger.name,
        "output": orjson.Fragment(run.value) if done and run.value is not None else None,
        "output_bytes": len(run.value) if done and run.value is not None else None,
        "error": None if done else _json(run.value),
        "created_at": rfc3339(run.created),
        "run_started_at": _instant(run.started),
        "ended_at": _instant(run.ended),
        "event_ids": list(run.event_ids),
        "rerun_of": run.rerun_of,
    }


def _json(value: bytes | None) -> object:
    """A stored payload as it stands, null where there is none."""
    return None if not value else orjson.Fragment(value)


def _instant(when: int | None) -> str | None:
    return None if when is None or when >= FOREVER else rfc3339(when)
