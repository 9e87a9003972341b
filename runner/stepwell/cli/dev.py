"""`stepwell dev`."""

import os
from typing import Annotated

import typer

from stepwell.cli.options import Host, Key, Paths, Port, Store
from stepwell.cli.show import line
from stepwell.dev import dev as serve
from stepwell.processes import run
from stepwell.settings import Given, dev_settings

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

Db = Annotated[str | None, typer.Option("--db", help="The SQLite file [.stepwell/dev.db].", show_default=False)]
Ephemeral = Annotated[bool, typer.Option("--ephemeral", help="Keep everything in memory, nothing after the end.")]


@app.command()
def dev(  # noqa: PLR0913, PLR0917  # the options are the command's face
    paths: Paths,
    port: Port = None,
    host: Host = None,
    db: Db = None,
    store: Store = None,
    ephemeral: Ephemeral = False,
    key: Key = None,
) -> None:
    """Run gateway, runner and cron in one process and reload code that changes."""
    given = Given(store=store, db=db, ephemeral=ephemeral, host=host, port=port, key=key)
    settings = dev_settings(os.environ, given, tuple(paths))
    run(lambda: serve(settings, line))
