"""`stepwell events`."""

from typing import Annotated

import typer

from stepwell.cli.api import Api, Cursor, Json, Key, Rows, Url, part
from stepwell.cli.show import brief, json_out, line, note, table, time_of

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="List and show events.",
)

OfName = Annotated[str | None, typer.Option("--name", help="Events of this name alone.", show_default=False)]
EventId = Annotated[str, typer.Argument(metavar="EVENT", help="The event's id.")]


@app.command("list")
def list_(
    name: OfName = None, limit: Rows = 20, cursor: Cursor = None, json: Json = False, url: Url = None, key: Key = None
) -> None:
    """List events, newest first."""
    answer = Api.at(url, key).get("/v1/events", name=name, limit=limit, cursor=cursor)
    if json:
        json_out(answer)
        return
    rows = [[event["id"], time_of(event["received_at"]), event["name"], brief(event["data"], 60)] for event in answer["data"]]
    table(["EVENT", "RECEIVED (UTC)", "NAME", "DATA"], rows)
    more = answer["metadata"].get("cursor")
    if more:
        note(f"there are more: --cursor {more}")


@app.command()
def get(event: EventId, json: Json = False, url: Url = None, key: Key = None) -> None:
    """Show an event and what it did: which functions it started, and why others did not start."""
    shown = Api.at(url, key).get(f"/v1/events/{part(event)}")["data"]
    if json:
        json_out(shown)
        return
    line(f"event     {shown['id']}")
    line(f"name      {shown['name']}")
    line(f"received  {time_of(shown['received_at'])}")
    line(f"data      {brief(shown['data'], 2000)}")
    line(f"why       {shown['why']['sentence']}")
    if shown["why"]["until"]:
        line(f"until     {time_of(shown['why']['until'])}")
    line(f"next      {shown['why']['next']}")
    for one in shown["functions"]:
        line()
        line(f"{one['function_id']}: {one['decision']}" + (f" run {one['run_id']}" if one["run_id"] else ""))
        if one["detail"]:
            line(f"    {one['detail']}")
