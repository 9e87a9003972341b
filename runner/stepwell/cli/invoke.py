"""`stepwell invoke`."""

from typing import Annotated

import typer

from stepwell.cli.api import Api, Json, Key, Timeout, Url, Wait, part
from stepwell.cli.payload import Data, read_data
from stepwell.cli.send import queued_or_ended

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
    queued_or_ended(api, {"function_id": function, **made}, timeout if wait else None, json=json)
