"""Compares what step bodies wrote into the shop's diary with what the journal has recorded. Pure."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Try = tuple[str, str, int, int]
"""Run, step, occurrence, attempt."""


@dataclass(frozen=True, slots=True)
class Compared:
    """`bodies` that began, `repeated` ones that the kill cut off before they were recorded, and what must never be."""

    bodies: int
    repeated: int
    faults: tuple[str, ...]


def compare(diary: str, steps: Mapping[str, Sequence[dict[str, Any]]], pids: Sequence[int], killed_at: float) -> Compared:
    """Hold every try of every step against the diary. `steps` are by run, `pids` the two lives of the process.

    What the first life recorded must never begin in the second. What it did not may begin once more. Nothing begins a third
    time, nothing is recorded that never began, and nothing that began is missing from the journal.
    """
    begun: Counter[tuple[Try, int]] = Counter()
    for text in diary.splitlines():
        line: dict[str, Any] = json.loads(text)
        begun[(line["run"], line["step"], line["occurrence"], line["attempt"]), line["pid"]] += 1
    first, second = pids
    recorded = _tries(steps)
    faults = [f"{_name(one)} began, but the journal doesn't know it" for one in {one for one, _ in begun} - set(recorded)]
    repeated = 0
    for one, ended in recorded.items():
        before, after = begun[one, first], begun[one, second]
        if ended < killed_at and (before, after) != (1, 0):
            faults.append(f"{_name(one)} was recorded before the kill and began {before} times before it, {after} times after it")
        elif ended >= killed_at and (before > 1 or after != 1):
            faults.append(f"{_name(one)} was recorded after the kill and began {before} times before it, {after} times after it")
        repeated += ended >= killed_at and before == after == 1
    return Compared(begun.total(), repeated, tuple(faults))


def _tries(steps: Mapping[str, Sequence[dict[str, Any]]]) -> dict[Try, float]:
    """When every try of every step with a body ended, as the journal has it."""
    found: dict[Try, float] = {}
    for run_id, rows in steps.items():
        for row in rows:
            if row["kind"] != "RUN":
                continue
            for tried in row["failed_attempts"]:
                found[run_id, row["id"], row["occurrence"], tried["attempt"]] = _seconds(tried["ended_at"])
            if row["status"] == "COMPLETED":
                found[run_id, row["id"], row["occurrence"], row["attempts"] - 1] = _seconds(row["ended_at"])
    return found


def _name(one: Try) -> str:
    run_id, step_id, occurrence, attempt = one
    return f"run {run_id}, step {step_id!r} ({occurrence}), attempt {attempt}"


def _seconds(instant: str) -> float:
    return datetime.fromisoformat(instant).timestamp()
