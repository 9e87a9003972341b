"""`stepwell runs`."""

from typing import Annotated, Any

import typer

from stepwell.cli.api import Api, Cursor, Json, Key, Look, Rows, Timeout, Url, Wait, part, until_ended
from stepwell.cli.progress import said, step_name
from stepwell.cli.selection import OfFunction, Selection, selecting
from stepwell.cli.send import exit_by, queued_or_ended
from stepwell.cli.show import brief, json_out, line, note, table, time_of

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="List, show, cancel and rerun runs.",
)

WaitForIt = Annotated[
    bool, typer.Option("--wait", help="Wait until it has ended, showing how far it is; exit 1 unless it completed.")
]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")]
OneRun = Annotated[str | None, typer.Argument(metavar="[RUN]", help="The run's id.", show_default=False)]
RunIds = Annotated[list[str] | None, typer.Argument(metavar="[RUN…]", help="The runs' ids.", show_default=False)]
OfStatus = Annotated[str | None, typer.Option("--status", help="Runs of this status alone, such as FAILED.", show_default=False)]


@app.command("list")
def list_(  # noqa: PLR0913, PLR0917  # the options are the command's face
    function: OfFunction = None,
    status: OfStatus = None,
    limit: Rows = 20,
    cursor: Cursor = None,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """List runs, newest first."""
    answer = Api.at(url, key).get("/v1/runs", function=function, status=status, limit=limit, cursor=cursor)
    if json:
        json_out(answer)
        return
    rows = [[run["run_id"], run["status"], time_of(run["created_at"]), run["function_id"]] for run in answer["data"]]
    table(["RUN", "STATUS", "CREATED (UTC)", "FUNCTION"], rows, coloured=1)
    more = answer["metadata"].get("cursor")
    if more:
        note(f"there are more: --cursor {more}")


@app.command()
def get(
    run: RunId,
    wait: WaitForIt = False,
    timeout: Timeout = 60,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show a run with its steps; while it lives, why it isn't moving and how far it is."""
    api = Api.at(url, key)
    (shown,) = until_ended(Look(api, run_id=run), timeout if wait else 0, json=json)
    steps = api.get(f"/v1/runs/{part(run)}/steps")["data"]
    if json:
        json_out({**shown, "steps": steps})
    else:
        _show(shown)
        if steps:
            line()
            table(["STEP", "KIND", "STATUS", "TRIES", "RESULT"], [_step_row(step) for step in steps], coloured=2)
    if wait:
        exit_by([shown], timeout)


@app.command()
@selecting
def cancel(
    selection: Selection,
    runs: RunIds = None,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Cancel runs: nothing more is recorded for them. By their ids, or with --function all that are meant."""
    api = Api.at(url, key)
    if selection.function is not None:
        done = selection.in_bulk(api, "/v1/cancellations", runs)
        selection.say(done, f"{done['cancelled']} of {done['matched']} runs of {selection.function} are cancelled", json=json)
        return
    ended = [api.ask("DELETE", f"/v1/runs/{part(run)}")["data"] for run in selection.named(runs)]
    if json:
        json_out(ended)
        return
    for one in ended:
        line(f"run {one['run_id']} is cancelled")


@app.command()
@selecting
def rerun(  # noqa: PLR0913, PLR0917  # the options are the command's face
    selection: Selection,
    run: OneRun = None,
    wait: Wait = False,
    timeout: Timeout = 60,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Start a new run from an old one's events; with --function for all that are meant, of status FAILED unless named."""
    api = Api.at(url, key)
    runs = [run] if run else None
    if selection.function is not None:
        done = selection.in_bulk(api, "/v1/reruns", runs)
        selection.say(done, f"{len(done['run_ids'])} runs of {selection.function} are queued", json=json)
        return
    (old,) = selection.named(runs)
    made = api.ask("POST", f"/v1/runs/{part(old)}/rerun")["data"]
    queued_or_ended(api, made, timeout if wait else None, json=json)


def _show(run: dict[str, Any]) -> None:
    told = [
        ("run", run["run_id"]),
        ("function", f"{run['function_id']} (revision {run['revision']})"),
        ("status", run["status"]),
        ("created", time_of(run["created_at"])),
        ("started", time_of(run["run_started_at"])),
        ("ended", time_of(run["ended_at"])),
        ("events", ", ".join(run["event_ids"]) or "-"),
    ]
    if run["rerun_of"]:
        told.append(("rerun of", run["rerun_of"]))
    waiting = run["waiting_for"]
    if waiting:
        told += [("waiting", waiting["sentence"]), ("since", time_of(waiting["since"])), ("until", time_of(waiting["until"]))]
        told.append(("next", waiting["next"]))
    told += [("progress", said(word)) for word in run.get("progress", ())]  # an older gateway tells of none
    if run["error"] is not None:
        told.append(("error", brief(run["error"], 2000)))
    if run["output"] is not None:
        told.append(("output", brief(run["output"], 2000)))
    for name, value in told:
        line(f"{name:<9} {value}")


def _step_row(step: dict[str, Any]) -> list[str]:
    name = step_name(step["id"] or "(code between steps)", step["occurrence"])
    result = (
        f"until {time_of(step['until'])}"
        if step["until"]
        else brief(step["error"] if step["error"] is not None else step["output"])
    )
    return [name, step["kind"], step["status"], str(step["attempts"]), result]
