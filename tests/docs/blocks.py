"""Fenced code blocks of the README and of docs/: found, told apart by language and marker, and run.

A marker is an HTML comment on its own line before the fence:

    <!-- continue -->           a python block that goes on from the python block before it in the same file
    <!-- not run: REASON -->    a block that nothing executes, and why

Every block without `not run` is executed or checked; a language that nothing here knows must say why it is not run.
"""

import asyncio
import inspect
import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from docs.commands import check_console

from stepwell.loading import load
from stepwell.spec.manifest import KIND, InlineSource, parse_manifests
from stepwell.testing import Durable

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md")))
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[a-z]*)\s*$")
MARKER = re.compile(r"^\s*<!--\s*(?P<text>.*?)\s*-->\s*$")
NOT_RUN = "not run:"


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block. `chain` holds the blocks that it continues, the first of them first."""

    page: Path
    line: int
    language: str
    text: str
    marker: str = ""
    chain: tuple["Block", ...] = field(default=(), repr=False)

    @property
    def place(self) -> str:
        """File and line, as a test id."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def not_run(self) -> str | None:
        """Why nothing executes it, or None."""
        return self.marker.removeprefix(NOT_RUN).strip() if self.marker.startswith(NOT_RUN) else None


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page, in order. ValueError for a fence that isn't closed or continues nothing."""
    found: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    marker, place = "", 0
    while place < len(lines):
        fence = FENCE.match(lines[place])
        if fence is None:
            comment = MARKER.match(lines[place])
            marker = comment["text"] if comment else marker if not lines[place].strip() else ""
            place += 1
            continue
        end = next((n for n in range(place + 1, len(lines)) if lines[n].strip() == "```"), None)
        if end is None:
            raise ValueError(f"{page}:{place + 1}: the fence is not closed")
        text = "\n".join(line.removeprefix(fence["indent"]) for line in lines[place + 1 : end]) + "\n"
        found.append(_chained(Block(page, place + 1, fence["language"], text, marker), found))
        marker, place = "", end + 1
    return found


def _chained(block: Block, before: list[Block]) -> Block:
    if block.marker != "continue":
        return block
    last = next((one for one in reversed(before) if one.language == block.language and one.not_run is None), None)
    if last is None:
        raise ValueError(f"{block.place}: there is no {block.language} block before it to continue")
    return Block(block.page, block.line, block.language, block.text, block.marker, (*last.chain, last))


ALL = [block for page in PAGES if page.exists() for block in blocks_of(page)]
"""Every block there is."""


# --- python ---


async def run_python(block: Block, _folder: Path) -> None:
    """Execute the block after those that it continues; run each of its own `test_…` functions with a fresh `durable`."""
    namespace: dict[str, Any] = {"__name__": f"docs_{block.page.stem}".replace("-", "_"), "__file__": str(block.page)}
    for one in (*block.chain, block):
        before = set(namespace)
        code = compile("\n" * one.line + one.text, str(one.page), "exec", dont_inherit=True)
        exec(code, namespace)
    tests = [value for name, value in namespace.items() if name not in before and name.startswith("test_")]
    for test in tests:
        await _run_test(test)


async def _run_test(test: Callable[..., Any]) -> None:
    wanted = set(inspect.signature(test).parameters)
    if wanted - {"durable"}:
        raise AssertionError(f"{test.__name__} asks for {wanted}; only the durable fixture is given here")
    kit = Durable()
    try:
        outcome = test(**({"durable": kit} if wanted else {}))
        if inspect.isawaitable(outcome):
            await asyncio.wait_for(outcome, 60)
    finally:
        await kit.close()


# --- data ---


async def check_yaml(block: Block, folder: Path) -> None:
    """A manifest is read as `validate` does, its inline code imported; any other YAML is parsed."""
    if KIND not in block.text:
        assert list(yaml.safe_load_all(block.text))
        return
    manifests = parse_manifests(block.text, block.place)
    if all(isinstance(one.source, InlineSource) for one in manifests):
        file = folder / "manifest.yaml"
        file.write_text(block.text, encoding="utf-8")
        loaded = load([str(file)])
        assert not loaded.errors, loaded.errors


async def check_json(block: Block, _folder: Path) -> None:
    """Parse it."""
    json.loads(block.text)


async def check_toml(block: Block, _folder: Path) -> None:
    """Parse it."""
    tomllib.loads(block.text)


async def check_commands(block: Block, _folder: Path) -> None:
    """Check every command against what it calls."""
    check_console(block.text, block.place)


RUNNERS = {"python": run_python, "yaml": check_yaml, "json": check_json, "toml": check_toml, "console": check_commands}
"""By language: what executes or checks a block."""
