"""`stepwell resume`."""

from typing import Annotated

import typer

from stepwell.cli.api import Api, Json, Key, Url, part
from stepwell.cli.show import json_out, line

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

Function = Annotated[str, typer.Argument(metavar="FUNCTION", help="The function's id.")]


@app.command()
def resume(function: Function, json: Json = False, url: Url = None, key: Key = None) -> None:
    """Let a paused function's runs go on."""
    done = Api.at(url, key).ask("POST", f"/v1/functions/{part(function)}/resume")["data"]
    if json:
        json_out(done)
    else:
        line(f"{function} is resumed" if done["resumed"] else f"{function} was not paused")
