"""`stepwell pause`."""

import getpass
from typing import Annotated

import typer

from stepwell.cli.api import Api, Json, Key, Url, part
from stepwell.cli.show import json_out, line

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

Function = Annotated[str, typer.Argument(metavar="FUNCTION", help="The function's id.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for whoever looks.", show_default=False)]
By = Annotated[str | None, typer.Option("--by", help="Who pauses it [you; a token tells by itself].", show_default=False)]


@app.command()
def pause(function: Function, reason: Reason = "", by: By = None, json: Json = False, url: Url = None, key: Key = None) -> None:
    """Have a function's runs wait until it is resumed; executions go on to their end or next rest."""
    body = {"reason": reason, "by": by or getpass.getuser()}
    paused = Api.at(url, key).ask("POST", f"/v1/functions/{part(function)}/pause", body)["data"]
    if json:
        json_out(paused)
    else:
        line(f"{function} is {paused['sentence']}")
