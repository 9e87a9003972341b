"""Every code block of the README and the docs is executed, or says why it is not."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from docs.blocks import ALL, ROOT, RUNNERS, Block

Account = tuple[Counter[str], dict[str, str]]


@pytest.mark.parametrize("block", ALL, ids=[block.place for block in ALL])
async def test_a_block_does_what_it_shows(
    block: Block, account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A code block runs, parses or names a command that exists; one that is not executed carries its reason."""
    ran, not_run = account
    if block.not_run is not None:
        assert len(block.not_run) > 3, f"{block.place}: say why the block is not run: <!-- not run: REASON -->"
        not_run[block.place] = block.not_run
        return
    runner = RUNNERS.get(block.language)
    assert runner is not None, (
        f"{block.place}: nothing executes {block.language or 'a bare fence'!r}; add <!-- not run: REASON -->"
    )
    monkeypatch.chdir(tmp_path)
    await runner(block, tmp_path)
    ran[block.language] += 1


def test_the_fixture_of_the_docs_comes_with_the_package(tmp_path: Path) -> None:
    """The tests shown in the README run as they stand under pytest, with nothing but the installed package."""
    shown = [block for block in ALL if block.page == ROOT / "README.md" and "async def test_" in block.text]
    assert shown
    for number, block in enumerate(shown):
        text = "".join(one.text for one in (*block.chain, block))
        (tmp_path / f"test_shown_{number}.py").write_text(text, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout
