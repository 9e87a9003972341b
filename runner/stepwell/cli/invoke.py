"""`stepwell invoke`."""

from typing import Annotated

import typer

from stepwell.cli.api import Api, Json, Key, Look, Timeout, Url, Wait, part, until_ended
from stepwell.cli.payload import Data, read_data
from stepwell.cli.send import exit_by, show_runs
from stepwell.cli.show import json_out, line

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

FunctionId = Annotated[str, typer.Argument(metavar="FUNCTION", help="The function's id.")]


@app.command()
def invoke(  # noqa: PLR0913, PLR0917  # the options are the command's face
    function: FunctionId,
    data: Data = None,
    wait: Wait = False,
    timeout: Timeout = 60,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Start a function by its id, whatever its triggers say."""
    api = Api.at(url, key)
    made = api.ask("POST", f"/invoke/{part(function)}", {"data": read_data(data)})["data"]
    if not wait:
        if json:
            json_out(made)
        else:
            line(f"run {made['run_id']} of {function} is queued")
        return
    runs = until_ended(Look(api, run_id=made["run_id"]), timeout, json=json)
    if json:
        json_out(runs[0])
    else:
        show_runs(runs)
    exit_by(runs, timeout)
