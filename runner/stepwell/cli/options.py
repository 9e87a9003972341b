"""Options that several commands have in common."""

from typing import Annotated

import typer

Paths = Annotated[list[str], typer.Argument(metavar="PATH…", help=".py files, folders, packages, manifests, module:function.")]
Port = Annotated[int | None, typer.Option("--port", help="[STEPWELL_PORT, else 8288]", min=0, max=65_535, show_default=False)]
Host = Annotated[str | None, typer.Option("--host", help="[STEPWELL_HOST, else 127.0.0.1]", show_default=False)]
Store = Annotated[
    str | None, typer.Option("--store", help="postgresql://… or an SQLite file [STEPWELL_STORE].", show_default=False)
]
Key = Annotated[str | None, typer.Option("--key", help="Ask for this key [STEPWELL_KEY].", show_default=False)]
