"""Console blocks: every command is held against the thing that it calls, without calling it.

`$ ` begins a command, a `\\` at its end goes on in the next line, other lines are output and are not looked at.
"""

import importlib
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import typer

from stepwell.cli import COMMANDS
from stepwell.gateway.routes import ROUTES

MAKEFILE = Path(__file__).parents[2] / "Makefile"
SHELL = frozenset({"cd", "export", "kill", "echo", "cat", "pip", "pytest", "python"})
"""Programs of others, shown as they are."""


def check_console(text: str, place: str) -> list[str]:
    """Check each command and return them; AssertionError for what does not exist, or no command at all."""
    commands = commands_of(text)
    assert commands, f"{place}: a console block has commands, each after `$ `"
    for command in commands:
        for part in _parts(command):
            _check(part, f"{place}: {command}")
    return commands


def commands_of(text: str) -> list[str]:
    """The commands of a console block, continued lines joined."""
    found: list[str] = []
    going_on = False
    for line in text.splitlines():
        if going_on:
            found[-1] += " " + line.strip()
        elif line.startswith("$ "):
            found.append(line.removeprefix("$ "))
        else:
            continue
        going_on = found[-1].endswith("\\")
        found[-1] = found[-1].removesuffix("\\").rstrip()
    return found


def _parts(command: str) -> list[list[str]]:
    """The simple commands of a line, without redirections, variables in front, and a comment behind."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    parts: list[list[str]] = [[]]
    for token in lexer:
        if token in {"|", "||", "&&", "&", ";"}:
            parts.append([])
        else:
            parts[-1].append(token)
    return [_plain(part) for part in parts if part]


def _plain(part: list[str]) -> list[str]:
    while part and re.fullmatch(r"[A-Z_]+=.*", part[0]):
        part = part[1:]
    return part[: next((n for n, word in enumerate(part) if word in {"<", ">", ">>"}), len(part))]


def _check(words: list[str], where: str) -> None:
    if not words:
        return
    program, arguments = Path(words[0]).name, words[1:]
    check = CHECKS.get(program)
    assert check is not None or program in SHELL, f"{where}: nothing checks {program!r}"
    if check is not None:
        check(arguments, where)


def _stepwell(arguments: list[str], where: str) -> None:
    """Parse the arguments as the command does, and stop before it acts."""
    if arguments in (["--help"], ["--version"]):
        return
    assert arguments, f"{where}: no command is named"
    assert arguments[0] in COMMANDS, f"{where}: there is no such command"
    module = importlib.import_module(f"stepwell.cli.{COMMANDS[arguments[0]][0]}")
    command = typer.main.get_command(module.app)
    _parse(command, f"stepwell {arguments[0]}", [word for word in arguments[1:] if word != "--help"], where)


def _parse(command: Any, name: str, arguments: list[str], where: str) -> None:
    try:
        context = command.make_context(name, list(arguments))
        if hasattr(command, "resolve_command"):
            chosen, below, rest = command.resolve_command(context, [*context._protected_args, *context.args])
            _parse(below, f"{name} {chosen}", rest, where)
    except Exception as error:
        told = getattr(error, "format_message", None)  # a usage error, whichever click it is from
        if told is None:
            raise
        raise AssertionError(f"{where}: {told()}") from None


def _make(arguments: list[str], where: str) -> None:
    targets = re.findall(r"^([a-z-]+):", MAKEFILE.read_text(encoding="utf-8"), re.MULTILINE)
    for target in arguments:
        assert target in targets or "=" in target, f"{where}: the Makefile has no target {target!r}"


def _curl(arguments: list[str], where: str) -> None:
    """The path and the method are a route's."""
    url = next((word for word in arguments if word.startswith("http")), None)
    assert url is not None, f"{where}: curl needs an address"
    has_body = any(word in {"-d", "--data", "--json", "--data-binary"} for word in arguments)
    given = next((arguments[n + 1] for n, word in enumerate(arguments) if word in {"-X", "--request"}), None)
    method = given or ("POST" if has_body else "GET")
    path = urlsplit(url).path
    routes = [(route.method, re.sub(r"\{[a-z_]+\}", "[^/]+", route.path)) for route in ROUTES]
    known = any(method == one and re.fullmatch(pattern, path) for one, pattern in routes)
    assert known, f"{where}: the gateway has no route {method} {path}"


CHECKS: dict[str, Callable[[list[str], str], None]] = {"stepwell": _stepwell, "make": _make, "curl": _curl}
