"""`stepwell runner`."""

import os
import sys
from typing import Annotated

import typer

from stepwell.cli.options import Store
from stepwell.processes import run
from stepwell.processes import runner as execute
from stepwell.settings import Given, SettingsError, runner_settings, store_settings, upkeep

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

Functions = Annotated[
    list[str] | None,
    typer.Option(
        "--functions", "-f", help="module:function or a path; may be given again [STEPWELL_FUNCTIONS].", show_default=False
    ),
]
Pool = Annotated[str | None, typer.Option("--pool", help="[STEPWELL_POOL, else default]", show_default=False)]
Slots = Annotated[int | None, typer.Option("--slots", help="Runs at once [STEPWELL_SLOTS, else 500].", min=1, show_default=False)]
Lease = Annotated[str | None, typer.Option("--lease", help="[STEPWELL_LEASE, else 30s]", show_default=False)]
Grace = Annotated[
    str | None, typer.Option("--grace", help="How long the end may take [STEPWELL_GRACE, else 20s].", show_default=False)
]
HealthPort = Annotated[
    int | None,
    typer.Option("--health-port", help="Serve /health, /ready and /metrics there.", min=0, max=65_535, show_default=False),
]


@app.command()
def runner(  # noqa: PLR0913, PLR0917  # the options are the command's face
    functions: Functions = None,
    store: Store = None,
    pool: Pool = None,
    slots: Slots = None,
    lease: Lease = None,
    grace: Grace = None,
    health_port: HealthPort = None,
) -> None:
    """Run a runner: it claims and executes the runs of one pool. Any number of them may share a store."""
    given = Given(store=store, pool=pool, slots=slots, lease=lease, grace=grace, health_port=health_port)
    settings = runner_settings(os.environ, given, tuple(functions or ()))
    if not settings.functions and not settings.registered:
        raise SettingsError(
            "nothing to run: give --functions module:function (or a path), set STEPWELL_FUNCTIONS, "
            "or STEPWELL_REGISTERED=1 to run what is registered for the pool"
        )
    well = store_settings(os.environ, given)
    rest = upkeep(os.environ, eyes=sys.stdout.isatty())
    run(lambda: execute(well, settings, rest))
