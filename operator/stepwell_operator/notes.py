"""What a new status has to tell that the one before had not: what is worth an Event. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stepwell_operator.world import Document, listed, mapping

LOUD: dict[str, str] = {
    "InvalidSpec": "SpecRejected", "InvalidExpression": "SpecRejected", "InvalidCron": "SpecRejected",
    "UnknownTimezone": "SpecRejected", "CronNeverFires": "SpecRejected", "ReservedName": "SpecRejected",
    "FunctionIdTaken": "SpecRejected",
    "SourceNotFound": "SpecRejected", "Unreachable": "StoreUnavailable", "SecretNotFound": "StoreUnavailable",
    "InvalidStore": "StoreUnavailable",
    "SchemaTooNew": "StoreUnavailable", "MigrationPending": "StoreUnavailable", "CrashLooping": "RunnerCrashLooping",
    "HandlerImportFailed": "", "ImagePullFailed": "", "Unschedulable": "", "ConfigError": "", "PodsRefused": "",
}  # fmt: skip
"""The reasons that are worth an Event, and its name where that is another."""


@dataclass(frozen=True, slots=True)
class Note:
    """What an Event says; `type` is `Normal` or `Warning`."""

    type: str
    reason: str
    message: str


def notes_between(before: Document, after: Document) -> Iterator[Note]:
    """What is told when a status goes from one to another."""
    known = {one["type"]: one for one in listed(before.get("conditions"))}
    for one in after["conditions"]:
        old = mapping(known.get(one["type"]))
        if one["type"] == "Paused":
            yield from _pause(old, one)
        elif (old.get("status"), old.get("reason")) != (one["status"], one["reason"]):
            yield from _warning(one)


def _pause(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Note]:
    """A pause, another one, or its end."""
    if after["status"] == "True" and before.get("message") != after["message"]:
        yield Note("Normal", "Paused", after["message"])
    if after["status"] == "False" and before.get("status") == "True":
        yield Note("Normal", "Resumed", "paused no longer")


def _warning(one: Mapping[str, Any]) -> Iterator[Note]:
    if one["type"] in {"SpecAccepted", "StoreReady", "RunnersAvailable"} and one["status"] == "False" and one["reason"] in LOUD:
        yield Note("Warning", LOUD[one["reason"]] or one["reason"], one["message"])
    if one["type"] == "Progressing" and one["reason"] == "RevisionLimitReached":
        yield Note("Warning", "RevisionLimitReached", one["message"])
