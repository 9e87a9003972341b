"""docs/how-to/operate.md as somebody follows it: its own console blocks, by heading, in a shell that reaches the cluster."""

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chart.rendering import ROOT
from cluster.harness.node import NodeCluster
from docs.blocks import Block, blocks_of
from docs.commands import commands_of

PAGE = ROOT / "docs" / "how-to" / "operate.md"
HEADING = re.compile(r"^#+ (.+)$")
KEPT = ".environment"


class Handbook:
    """The page's console blocks by the heading that they stand under; `left`: the headings of those that nobody followed."""

    def __init__(self, page: Path = PAGE) -> None:
        lines = page.read_text(encoding="utf-8").splitlines()
        self._commands: dict[str, list[list[str]]] = {}
        for block in blocks_of(page):
            assert block.language == "console", f"{block.place}: a block that the handbook's test doesn't follow"
            self._commands.setdefault(_heading(lines, block), []).append(commands_of(block.text))
        self.left = set(self._commands)

    def under(self, heading: str) -> list[list[str]]:
        """The commands of each block under a heading, which count as followed."""
        self.left.discard(heading)
        return self._commands[heading]


@dataclass(slots=True)
class Shell:
    """Bash in the cluster's network, in a folder with the checkout's charts and examples; what is exported stays so.

    `replaced`: what the reader puts in the place of the page's names.
    """

    node: NodeCluster
    folder: Path
    path: Sequence[Path]
    replaced: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        for name in ("charts", "examples"):
            (self.folder / name).symlink_to(ROOT / name)
        (self.folder / KEPT).touch()

    def run(self, commands: Sequence[str], replaced: Mapping[str, str] | None = None) -> str:
        """Run the commands one after the other, and give what they printed; each has to succeed."""
        text = "\n".join(commands)
        for name, own in {**self.replaced, **(replaced or {})}.items():
            text = text.replace(name, own)
        script = f"set -euo pipefail\n. ./{KEPT}\n{text}\nexport -p > {KEPT}\n"
        environment = {
            **os.environ,
            "PATH": os.pathsep.join([*map(str, self.path), os.environ["PATH"]]),
            "KUBECONFIG": str(self.node.plane.kubeconfig),
            **{f"HELM_{name}_HOME": str(self.folder / name.lower()) for name in ("CACHE", "CONFIG", "DATA")},
        }
        command = self.node.inside("bash", "-c", script)
        done = subprocess.run(command, cwd=self.folder, env=environment, check=False, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, f"{text}\n--- said:\n{done.stdout[-3000:]}\n--- and:\n{done.stderr[-3000:]}"
        return done.stdout


def _heading(lines: Sequence[str], block: Block) -> str:
    found = next(match for line in reversed(lines[: block.line]) if (match := HEADING.match(line)))
    return found[1]
