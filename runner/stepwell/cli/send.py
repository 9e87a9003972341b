"""`stepwell send`."""

from typing import Annotated, Any

import typer

from stepwell.cli.api import FINAL, Api, Json, Key, Look, RequestRefused, Timeout, Url, Wait, part, until_ended
from stepwell.cli.payload import Data, read_data
from stepwell.cli.show import brief, json_out, line, note, table
from stepwell.clock import SystemClock
from stepwell.ids import Ids

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="The event's name, such as order/created.")]
EventId = Annotated[str | None, typer.Option("--id", help="Its id; sent again, it is the same event.", show_default=False)]


@app.command()
def send(  # noqa: PLR0913, PLR0917  # the options are the command's face
    name: Name,
    data: Data = None,
    id_: EventId = None,
    wait: Wait = False,
    timeout: Timeout = 60,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Send an event; with --wait, until the runs that it starts have ended."""
    api = Api.at(url, key)
    # The id is made here, so that sending again after a lost answer is safe.
    event = {"name": name, "id": id_ or Ids().ulid(SystemClock().now() // 1000), "data": read_data(data)}
    try:
        answer = api.send(event)
    except RequestRefused as refused:
        if json:
            json_out(refused.document)
        raise
    result = answer["results"][0]
    if not json:
        line(f"event {result['id']} {result['status']}")
    if not wait:
        if json:
            json_out(answer)
        return
    runs = until_ended(Look(api, event_id=result["id"]), timeout, json=json)
    if json:
        json_out({**answer, "runs": runs})
    elif runs:
        show_runs(runs)
    else:
        _why_nothing(api, result["id"], name)
    exit_by(runs, timeout)


def show_runs(runs: list[dict[str, Any]]) -> None:
    """Print what became of runs that were waited for."""
    rows = [[run["run_id"], run["function_id"], run["status"], brief(run["error"] or run["output"])] for run in runs]
    table(["RUN", "FUNCTION", "STATUS", "RESULT"], rows, coloured=2)


def queued_or_ended(api: Api, made: dict[str, Any], timeout: float | None, *, json: bool) -> None:
    """Say that a run that was just made is queued; with a time-out, wait for its end, show it and exit by it."""
    if timeout is None:
        if json:
            json_out(made)
        else:
            line(f"run {made['run_id']} of {made['function_id']} is queued")
        return
    runs = until_ended(Look(api, run_id=made["run_id"]), timeout, json=json)
    if json:
        json_out(runs[0])
    else:
        show_runs(runs)
    exit_by(runs, timeout)


def exit_by(runs: list[dict[str, Any]], timeout: float) -> None:
    """Exit with 1 unless every run completed."""
    late = [run for run in runs if run["status"] not in FINAL]
    if late:
        note(
            f"{len(late)} of {len(runs)} runs did not end within {timeout:g} s; look again: stepwell runs get {late[0]['run_id']}"
        )
    if any(run["status"] not in {"COMPLETED", "SKIPPED"} for run in runs):
        raise typer.Exit(1)


def _why_nothing(api: Api, event_id: str, name: str) -> None:
    reactions = api.get(f"/v1/events/{part(event_id)}")["data"]["functions"]
    for reaction in reactions:
        line(f"  {reaction['function_id']}: {reaction['decision']}: {reaction['detail'] or ''}")
    if not reactions:
        line(f"  no function started: none has a trigger that matches {name!r}")
