"""`--data`: JSON on the command line, in a file, or from standard input."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn, cast

import typer

from stepwell.settings import SettingsError

Data = Annotated[str | None, typer.Option("--data", "-d", help="JSON, @FILE, or - for standard input.", show_default=False)]


def read_data(given: str | None) -> dict[str, Any]:
    """The JSON object that `--data` names; {} without it."""
    if given is None:
        return {}
    text, where = _text(given)
    try:
        found = cast("object", json.loads(text, parse_constant=_refuse))
    except ValueError as error:
        raise SettingsError(f"--data: {where} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise SettingsError(f'--data: {where} must be a JSON object, such as {{"orderId": 7}}')
    return cast("dict[str, Any]", found)


def _text(given: str) -> tuple[str, str]:
    if given == "-":
        return sys.stdin.read(), "standard input"
    if given.startswith("@"):
        try:
            return Path(given[1:]).read_text(encoding="utf-8"), given[1:]
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"--data: {given[1:]} can't be read: {error}") from None
    return given, "it"


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON number")
