"""The reference pages name everything that there is, and nothing that there is not."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from docs.blocks import PAGES, ROOT, blocks_of
from typer.core import TyperOption

import stepwell
import stepwell_operator
from stepwell.cli import COMMANDS
from stepwell.errors import StepwellError
from stepwell.gateway.documents import Answer, Ingested, Problem, RunDocument
from stepwell.gateway.routes import ROUTES
from stepwell.metrics.catalogue import CATALOGUE
from stepwell.spec.function import OPTIONS
from stepwell.spec.manifest import OWN
from stepwell.why import Why
from stepwell_operator.monitoring.page import page as monitoring_page
from stepwell_operator.names import COMPONENT, labels

REFERENCE = ROOT / "docs" / "reference"
SOURCE = ROOT / "runner" / "stepwell"
SELECTOR = re.compile(r"(?: -l |--selector[= ])([\w./-]+=[\w./,=-]*[\w/=-])|matchLabels: \{([^}]*)\}")
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")


@cache
def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def codes() -> Iterator[tuple[str, str]]:
    for package in (stepwell, stepwell_operator):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    waiting: list[type[StepwellError]] = [StepwellError]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind.__module__.startswith("stepwell"):
            yield kind.code, kind.__name__


def test_every_error_has_its_entry() -> None:
    """errors.md has a heading for each code, names each class under it, and no code that the package lacks."""
    sections = dict(re.findall(r"^## (DF\d{4})\b(.*?)(?=^## |\Z)", page("errors.md"), re.MULTILINE | re.DOTALL))
    known = set(codes())
    assert {code for code, _ in known} == set(sections)
    for code, name in known:
        assert f"`{name}`" in sections[code], f"{code}: errors.md does not name {name}"


def test_every_metric_is_described() -> None:
    """metrics.md has a row for each metric of the table, with its labels and help, and names no other."""
    text = page("metrics.md")
    assert set(re.findall(r"`(stepwell_[a-z_]+)`", text)) == {one.name for one in CATALOGUE}
    assert monitoring_page(text) == text, "metrics.md is out of date: make generate"


def test_every_route_is_described() -> None:
    """http.md has every route of the gateway and no other."""
    told = set(re.findall(r"`(GET|POST|DELETE|PUT|PATCH) (/[^`\s]*)`", page("http.md")))
    assert told == {(route.method, route.path) for route in ROUTES}


def commands() -> Iterator[tuple[str, Any]]:
    for name, (module, _) in COMMANDS.items():
        command = typer.main.get_command(importlib.import_module(f"stepwell.cli.{module}").app)
        below = getattr(command, "commands", None)
        if below is None:
            yield f"stepwell {name}", command
        else:
            yield from ((f"stepwell {name} {one}", inner) for one, inner in below.items())


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=[name for name, _ in commands()])
def test_every_option_of_a_command_is_described(name: str, command: Any) -> None:
    """cli.md has a section for each command, which names each of its options and no other."""
    section = re.search(rf"^### `{name}[^`]*`\n(.*?)(?=^##|\Z)", page("cli.md"), re.MULTILINE | re.DOTALL)
    assert section is not None, f"cli.md has no section {name!r}"
    told = set(re.findall(r"`(--[a-z-]+)", section[1]))
    options = {option for one in command.params if isinstance(one, TyperOption) for option in one.opts if option.startswith("--")}
    assert options
    assert told == options - {"--help"}


def test_the_documents_shown_are_the_gateways() -> None:
    """The JSON in http.md is what the gateway's own models of its answers take."""
    shown = [block.text for block in blocks_of(REFERENCE / "http.md") if block.language == "json"]
    for text, model in zip(shown, (Ingested, Answer[RunDocument], Problem), strict=True):
        model.model_validate_json(text)
    for kind in Why:
        assert f"`{kind}`" in page("http.md")


def test_every_setting_is_described() -> None:
    """cli.md names each environment variable that is read, and no other."""
    read = set()
    for file in SOURCE.rglob("*.py"):
        read |= set(re.findall(r"\"(STEPWELL_[A-Z_]+)\"", file.read_text(encoding="utf-8")))
    assert set(re.findall(r"`(STEPWELL_[A-Z_]+)`", page("cli.md"))) == read


def test_every_option_of_a_manifest_is_described() -> None:
    """manifest.md names each option of a function and each of a manifest's own."""
    wanted = {option for options in OPTIONS.values() for option in options} - {"id"} | OWN
    told = set(re.findall(r"`([a-zA-Z]+)`", page("manifest.md")))
    assert wanted <= told, wanted - told


def test_the_layers_drawn_are_those_of_the_contract() -> None:
    """architecture.md draws the layers that import-linter checks, in their order."""
    contract = (ROOT / ".importlinter").read_text(encoding="utf-8").partition("layers =\n")[2].partition("exhaustive")[0]
    layers = re.findall(r"stepwell\.(\w+)", contract)
    drawing = next(block.text for block in blocks_of(ROOT / "docs" / "architecture.md") if block.language == "text")
    words = [word for line in drawing.splitlines() for word in re.findall(r"\w+", re.split(r"\s{2,}", line.strip())[0])]
    assert [word for word in dict.fromkeys(words) if word in layers] == layers


def test_every_target_of_the_makefile_is_described() -> None:
    """CONTRIBUTING.md has a line for each target of the Makefile, and no other."""
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    told = re.findall(r"^\| `([a-z-]+)` \|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(targets) == sorted(told)


def test_every_public_name_is_described() -> None:
    """python.md names everything that the package exports."""
    for name in stepwell.__all__:
        assert re.search(rf"\b{name}\b", page("python.md")), f"python.md does not name {name}"


@pytest.mark.parametrize("where", [one for one in PAGES if one.exists()], ids=lambda one: str(one.relative_to(ROOT)))
def test_every_link_leads_somewhere(where: Path) -> None:
    """A link inside the project names a file that exists and, after `#`, a heading in it."""
    for target in LINK.findall(where.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (where.parent / path).resolve() if path else where
        assert file.exists(), f"{where.name}: there is no {target}"
        if anchor:
            assert anchor in anchors(file), f"{where.name}: {path} has no heading #{anchor}"


def anchors(file: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_every_setting_of_the_operator_is_described() -> None:
    """operator.md names each environment variable that the operator reads, and no other."""
    text = (Path(stepwell_operator.__path__[0]) / "settings.py").read_text(encoding="utf-8")
    assert set(re.findall(r"`(STEPWELL_[A-Z_]+)`", page("operator.md"))) == set(re.findall(r"\"(STEPWELL_[A-Z_]+)\"", text))


@pytest.mark.parametrize("where", [one for one in PAGES if one.exists()], ids=lambda one: str(one.relative_to(ROOT)))
def test_every_selector_asks_for_labels_that_we_set(where: Path) -> None:
    """What a page selects by is set on what it looks for: every label that the operator, or the chart for the operator, gives."""
    ours = labels("runner", pool="", pool_id="", store="")
    for command, written in SELECTOR.findall(where.read_text(encoding="utf-8")):
        wanted = dict(re.split(r"=|: ", one, maxsplit=1) for one in re.split(r", ?", command or written))
        assert wanted.pop(COMPONENT, "runner") in {"runner", "gateway", "operator", "store"}
        for label, value in wanted.items():
            assert ours.get(label) in {"", value}, f"{where.name} selects by {label}={value}, which no pod of ours has"
