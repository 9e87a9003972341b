"""`stepwell store`."""

import os

import typer

from stepwell.cli.api import Json
from stepwell.cli.options import Store
from stepwell.cli.show import json_out, line
from stepwell.processes import make_store, run
from stepwell.settings import Given, StoreSettings, store_settings
from stepwell.store.views import Violation

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Migrate and examine a store.",
)


@app.command()
def migrate(store: Store = None, json: Json = False) -> None:
    """Bring the store's schema up to date; safe to run again, and while others work."""
    settings = store_settings(os.environ, Given(store=store))
    applied: list[str] = []

    async def work() -> None:
        applied.extend(await make_store(settings).migrate())

    run(work)
    if json:
        json_out({"applied": applied})
        return
    for name in applied:
        line(f"applied {name}")
    line("the schema is up to date" if applied else "the schema was up to date already")


@app.command()
def doctor(store: Store = None, json: Json = False) -> None:
    """Examine what is stored against the invariants; exit 1 if one is broken."""
    settings = store_settings(os.environ, Given(store=store))
    found: list[Violation] = []
    run(lambda: _examine(settings, found))
    if json:
        json_out([{"invariant": one.invariant, "statement": one.statement, "offenders": list(one.offenders)} for one in found])
    else:
        for one in found:
            line(f"{one.invariant} is broken: {one.statement}")
            line(f"  {', '.join(one.offenders)}")
        line(f"{len(found)} invariants are broken" if found else "all invariants hold")
    if found:
        raise typer.Exit(1)


async def _examine(settings: StoreSettings, found: list[Violation]) -> None:
    store = make_store(settings, read_only=True)
    await store.open()
    try:
        found.extend(await store.doctor())
    finally:
        await store.close()
