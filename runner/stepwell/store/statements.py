"""SQL lives in `.sql` files as named blocks: `-- name: claim`, a line that says what it is for, then one statement."""

import re
from functools import cache
from importlib.resources import files
from typing import LiteralString, cast

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


@cache
def load(package: str, name: str) -> dict[str, LiteralString]:
    """The statements of one `.sql` file of a package, by name. They come from the package alone, never from input."""
    text = files(package).joinpath(name).read_text(encoding="utf-8")
    parts = _NAME.split(text)
    found = {block: body.strip().rstrip(";") for block, body in zip(parts[1::2], parts[2::2], strict=True)}
    return cast("dict[str, LiteralString]", found)


@cache
def migrations(package: str) -> list[tuple[str, LiteralString]]:
    """The numbered migrations of a package, in order: (name, text)."""
    found = sorted((one for one in files(package).iterdir() if one.name.endswith(".sql")), key=lambda one: one.name)
    return [(one.name.removesuffix(".sql"), cast("LiteralString", one.read_text(encoding="utf-8"))) for one in found]
