"""Write the rules and boards into the chart and the page of metrics into the docs; `--check` only compares."""

import argparse
import json
import sys
from pathlib import Path

from stepwell_operator.monitoring.boards import BOARDS
from stepwell_operator.monitoring.page import page
from stepwell_operator.monitoring.panels import dashboard
from stepwell_operator.monitoring.rules import rules_text

CHART = Path("charts/stepwell/files")
PAGE = Path("docs/reference/metrics.md")


def files(root: Path) -> dict[Path, str]:
    """Every generated file of the project in this folder, and its text."""
    boards = {
        CHART / "dashboards" / f"{board.name}.json": json.dumps(dashboard(board), indent=1, ensure_ascii=False) + "\n"
        for board in BOARDS
    }
    made = {CHART / "rules.yaml": rules_text(), **boards, PAGE: page((root / PAGE).read_text(encoding="utf-8"))}
    return {root / path: text for path, text in made.items()}


def main() -> int:
    """0 when all is as it should be."""
    parser = argparse.ArgumentParser(prog="python -m stepwell_operator.monitoring", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only")
    parser.add_argument("--root", type=Path, default=Path(), help="the project's folder")
    given = parser.parse_args()
    wanted = files(given.root)
    if not given.check:
        for path, text in wanted.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return 0
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    known = {path.name for path in wanted}
    left = [path for path in (given.root / CHART / "dashboards").glob("*.json") if path.name not in known]
    for path in (*stale, *left):
        sys.stderr.write(f"{path} is not what the table of metrics makes it: run `make generate`\n")
    return 1 if stale or left else 0


if __name__ == "__main__":
    sys.exit(main())
