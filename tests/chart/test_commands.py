"""The commands that docs, examples and NOTES show are ones that work: Helm renders each of its own, and files named are there."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from chart.rendering import CHART, KUBERNETES, ROOT, Chart
from docs.blocks import PAGES, blocks_of
from docs.commands import commands_of


def shown() -> Iterator[tuple[str, str]]:
    """Every helm and kubectl command of a console block, and where it stands."""
    for page in PAGES:
        for block in blocks_of(page) if page.exists() else ():
            if block.language == "console":
                yield from ((block.place, one) for one in commands_of(block.text) if one.startswith(("helm ", "kubectl ")))


COMMANDS = list(shown())
INSTALLS = [(place, one) for place, one in COMMANDS if re.match(r"helm (install|upgrade) ", one)]


@pytest.mark.parametrize(("place", "command"), INSTALLS, ids=[place for place, _ in INSTALLS])
def test_helm_renders_what_is_shown(chart: Chart, place: str, command: str) -> None:
    """A shown `helm install` or `helm upgrade` names the chart and values that it takes."""
    words = shlex.split(command)
    assert words[3] == "charts/stepwell", place
    values = [words[number + 1] for number, word in enumerate(words) if word == "--set"]
    done = chart.run(
        "template", words[2], str(CHART), "--kube-version", KUBERNETES, *(part for one in values for part in ("--set", one))
    )
    assert done.returncode == 0, f"{place}: {done.stderr}"


def test_files_that_are_applied_are_there(chart: Chart) -> None:
    """Every file that a shown command applies is in the project, in the NOTES too."""
    notes = (CHART / "templates" / "NOTES.txt").read_text(encoding="utf-8")
    texts = [one for _, one in COMMANDS] + notes.splitlines()
    files = [found for text in texts for found in re.findall(r"\s-f (\S+)", text) if found != "-"]
    assert files
    for file in files:
        assert (ROOT / file).exists(), file


def test_notes_show_three_commands_that_the_example_shows(chart: Chart) -> None:
    """NOTES print the three commands of the example's own comment, in the namespace that is watched."""
    example = (ROOT / "examples" / "cluster" / "orders.yaml").read_text(encoding="utf-8")
    comment = [line.removeprefix("#").strip() for line in example.splitlines() if line.startswith("#   ")]
    notes = (CHART / "templates" / "NOTES.txt").read_text(encoding="utf-8")
    told = [line.strip().replace(" -n {{ $where }}", "") for line in notes.splitlines() if line.startswith("  kubectl")]
    assert told == comment
    assert len(told) == 3


def test_pages_are_known() -> None:
    """The page on installing is among those that are looked at."""
    assert Path(ROOT / "docs" / "how-to" / "install.md") in PAGES
    assert len(INSTALLS) >= 4
