"""`stepwell validate`."""

import typer

from stepwell.cli.api import Json
from stepwell.cli.options import Paths
from stepwell.cli.show import json_out, line, table
from stepwell.loading import load, place_of

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def validate(paths: Paths, json: Json = False) -> None:
    """Check functions and manifests as `dev` and runners would load them; exit 1 if anything is wrong."""
    loaded = load(paths)
    if json:
        json_out(
            {
                "functions": [{"id": one.id, "place": place_of(one)} for one in loaded.functions],
                "notes": list(loaded.notes),
                "errors": [{"where": one.where, "line": one.line, "message": one.message} for one in loaded.errors],
            }
        )
    else:
        if loaded.functions:
            table(
                ["FUNCTION", "TRIGGERS", "PLACE"],
                [[one.id, str(len(one.spec.triggers)), place_of(one)] for one in loaded.functions],
            )
        for told in (*loaded.notes, *loaded.errors):
            line(str(told))
        line("not valid: what is wrong stands above" if loaded.errors else "all is well")
    if loaded.errors or not loaded.functions:
        raise typer.Exit(1)
