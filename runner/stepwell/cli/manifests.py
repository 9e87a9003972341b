"""`stepwell manifests`."""

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer

from stepwell.cli.api import Json
from stepwell.cli.options import Paths
from stepwell.cli.show import json_out, line
from stepwell.decorator import Function
from stepwell.importing import sources_of
from stepwell.processes import load_or_raise
from stepwell.spec.manifest import SOME_IMAGE, to_manifest

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

Image = Annotated[
    str,
    typer.Option("--image", help="The image that holds the code."),
]


@app.command()
def manifests(paths: Paths, image: Image = SOME_IMAGE, json: Json = False) -> None:
    """Print the manifests of decorated functions, to be applied to a cluster."""
    texts = [_manifest(function, image) for function in load_or_raise(paths)]
    if json:
        import yaml  # noqa: PLC0415

        json_out([yaml.safe_load(text) for text in texts])
        return
    for number, text in enumerate(texts):
        if number:
            line("---")
        line(text.rstrip("\n"))


def _manifest(function: Function[Any, Any], image: str) -> str:
    handler = inspect.unwrap(function.handler)
    (source,) = sources_of(Path(inspect.getsourcefile(handler) or ""))
    return to_manifest(function.spec, f"{source.name}:{handler.__name__}", image)
