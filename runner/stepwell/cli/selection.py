"""Which runs are meant: the options that every command for many runs at once has, stated once."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Any

import typer

from stepwell.cli.api import Api
from stepwell.cli.show import json_out, line

OfFunction = Annotated[str | None, typer.Option("--function", help="Runs of this function alone.", show_default=False)]
Statuses = Annotated[
    list[str] | None, typer.Option("--status", help="Of this status alone; may be given again.", show_default=False)
]
After = Annotated[str | None, typer.Option("--after", help="Created after this instant (RFC 3339).", show_default=False)]
Before = Annotated[str | None, typer.Option("--before", help="Created before it [now].", show_default=False)]
If = Annotated[str | None, typer.Option("--if", help="For whose event this CEL holds.", show_default=False)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Count them only.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it, however many there are.")]


@dataclass(frozen=True, slots=True)
class Selection:
    """The runs of a function that are meant, and how sure somebody is who asks for many at once. Its fields are options."""

    function: OfFunction = None
    status: Statuses = None
    after: After = None
    before: Before = None
    if_: If = None
    dry_run: DryRun = False
    yes: Yes = False

    def named(self, runs: list[str] | None) -> list[str]:
        """The runs that were named; UsageError without any, or with selectors, which go with a function."""
        if not runs or any((self.status, self.after, self.before, self.if_)):
            raise typer.BadParameter("name the runs, or give --function with --dry-run or --yes", param_hint="RUN")
        return runs

    def in_bulk(self, api: Api, path: str, runs: list[str] | None) -> dict[str, Any]:
        """Do it if that was asked for, else count; UsageError where neither was, or where `runs` are named as well."""
        if runs:
            raise typer.BadParameter("name runs, or a function, but not both", param_hint="--function")
        if self.yes and not self.dry_run:
            return api.ask("POST", path, self._told())["data"]
        counted = api.ask("POST", path, {**self._told(), "dry_run": True})["data"]
        if self.dry_run:
            return counted
        raise typer.BadParameter(
            f"{counted['matched']} runs are meant; add --yes to go on, or --dry-run to count", param_hint="--function"
        )

    def say(self, done: dict[str, Any], sentence: str, *, json: bool) -> None:
        """Say what became of them."""
        if json:
            json_out(done)
        else:
            line(f"{done['matched']} runs are meant; nothing was done" if self.dry_run else sentence)

    def _told(self) -> dict[str, Any]:
        status = [one.upper() for one in self.status] if self.status else None
        told = {"function_id": self.function, "started_after": self.after, "started_before": self.before, "if": self.if_}
        return {name: value for name, value in {**told, "status": status}.items() if value is not None}


def selecting(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameter `selection` is spread out into options of its own, where it stands."""
    mine = inspect.signature(command)
    keyword = inspect.Parameter.KEYWORD_ONLY
    spread = [inspect.Parameter(one.name, keyword, default=one.default, annotation=one.type) for one in fields(Selection)]
    parameters = [
        made for one in mine.parameters.values() for made in (spread if one.name == "selection" else [one.replace(kind=keyword)])
    ]

    def run(**given: Any) -> None:
        selection = Selection(**{one.name: given.pop(one.name) for one in spread})
        command(**given, selection=selection)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = mine.replace(parameters=parameters)  # pyright: ignore[reportFunctionMemberAccess]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run
