"""What the shop has done, read through its public API, in the same shape as what the file calls for."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .api import Api, run_path
from .expected import Calls

NO_DIARY = frozenset({"thank-customer"})
"""Its code lies in a manifest and stands alone."""
RECORDED = frozenset({"COMPLETED", "FAILED"})
OURS = ("stepwell/", "inngest/")


@dataclass(frozen=True, slots=True)
class Found:
    """`calls` are the exact numbers, cron aside; `ticks` and `cron_runs` what the clock did.

    `journal` holds the steps by run, without those of functions that keep no diary.
    """

    calls: Calls
    journal: Mapping[str, Sequence[dict[str, Any]]]
    ticks: int
    cron_runs: int


async def find(api: Api, fates: Counter[str]) -> Found:
    """Read every event, run, step and cron tick. `fates` is what the gateway said of the lines as they were sent."""
    runs = await api.all("/v1/runs")
    events = await api.all("/v1/events")
    journal = await api.each([f"{run_path(run['run_id'])}/steps" for run in runs])
    functions = await api.each([f"/v1/functions/{one['id']}" for one in await api.all("/v1/functions")])
    ledger = [tick for one in functions for schedule in one["schedules"] for tick in schedule["ledger"]]
    steps = {run["run_id"]: rows for run, rows in zip(runs, journal, strict=True)}
    by_event = [run for run in runs if run["trigger"] != "CRON"]
    return Found(
        calls=_calls(by_event, events, steps, fates),
        journal={run["run_id"]: steps[run["run_id"]] for run in runs if run["function_id"] not in NO_DIARY},
        ticks=sum(tick["outcome"] == "FIRED" for tick in ledger),
        cron_runs=len(runs) - len(by_event),
    )


def _calls(
    runs: Sequence[dict[str, Any]],
    events: Sequence[dict[str, Any]],
    steps: Mapping[str, Sequence[dict[str, Any]]],
    fates: Counter[str],
) -> Calls:
    counted: defaultdict[str, Counter[str]] = defaultdict(Counter[str])
    for run in runs:
        for row in steps[run["run_id"]]:
            if row["kind"] != "CODE" and row["status"] in RECORDED:
                counted["steps"][run["function_id"]] += 1
                counted["retries"][run["function_id"]] += row["attempts"] - 1
    return Calls(
        fates=fates,
        events=Counter(event["name"] for event in events if not event["name"].startswith(OURS)),
        runs=Counter((run["function_id"], run["status"]) for run in runs),
        outcomes=Counter(
            run["output"]["status"] for run in runs if run["function_id"] == "process-order" and run["status"] == "COMPLETED"
        ),
        steps=counted["steps"],
        retries=counted["retries"],
    )
