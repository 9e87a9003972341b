"""`stepwell gateway`."""

import os
import sys

import typer

from stepwell.cli.options import Host, Key, Port, Store
from stepwell.processes import gateway as serve
from stepwell.processes import run
from stepwell.settings import Given, gateway_settings, store_settings, upkeep

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def gateway(store: Store = None, port: Port = None, host: Host = None, key: Key = None) -> None:
    """Run a gateway: events in, runs to look at, cron ticks fired. Any number of them may share a store."""
    given = Given(store=store, host=host, port=port, key=key)
    well, settings = store_settings(os.environ, given), gateway_settings(os.environ, given)
    rest = upkeep(os.environ, eyes=sys.stdout.isatty())
    run(lambda: serve(well, settings, rest))
