"""What a new status has to tell that the one before had not: the warnings that are worth an Event. Pure."""

from collections.abc import Iterator

from stepwell_operator.world import Document, listed, mapping

LOUD: dict[str, str] = {
    "InvalidSpec": "SpecRejected", "InvalidExpression": "SpecRejected", "InvalidCron": "SpecRejected",
    "UnknownTimezone": "SpecRejected", "CronNeverFires": "SpecRejected", "ReservedName": "SpecRejected",
    "SourceNotFound": "SpecRejected", "Unreachable": "StoreUnavailable", "SecretNotFound": "StoreUnavailable",
    "InvalidStore": "StoreUnavailable",
    "SchemaTooNew": "StoreUnavailable", "MigrationPending": "StoreUnavailable", "CrashLooping": "RunnerCrashLooping",
    "HandlerImportFailed": "", "ImagePullFailed": "", "Unschedulable": "", "ConfigError": "", "PodsRefused": "",
}  # fmt: skip
"""The reasons that are worth an Event, and its name where that is another."""


def warnings_between(before: Document, after: Document) -> Iterator[tuple[str, str]]:
    """The reason and the note of each."""
    known = {one["type"]: one for one in listed(before.get("conditions"))}
    for one in after["conditions"]:
        old = mapping(known.get(one["type"]))
        if (old.get("status"), old.get("reason")) == (one["status"], one["reason"]):
            continue
        if (
            one["type"] in {"SpecAccepted", "StoreReady", "RunnersAvailable"}
            and one["status"] == "False"
            and one["reason"] in LOUD
        ):
            yield LOUD[one["reason"]] or one["reason"], one["message"]
        if one["type"] == "Progressing" and one["reason"] == "RevisionLimitReached":
            yield "RevisionLimitReached", one["message"]
