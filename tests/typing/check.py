"""Hold the public types: `good.py` has no error, `bad.py` has one exactly where it says so. Run: python -m tests.typing.check"""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    """0 where pyright objects to what it should and to nothing else."""
    config = {
        "include": [str(HERE / "good.py"), str(HERE / "bad.py")],
        "typeCheckingMode": "strict",
        "extraPaths": [str(HERE.parents[1] / "runner")],
        "reportUnusedFunction": False,
        "reportUnusedVariable": False,
    }
    project = HERE / "pyrightconfig.json"
    project.write_text(json.dumps(config), encoding="utf-8")
    try:
        pyright = Path(sys.executable).with_name("pyright")
        done = subprocess.run([pyright, "--outputjson", "-p", project], capture_output=True, text=True, check=False)
    finally:
        project.unlink()
    found = {
        (Path(one["file"]).name, one["range"]["start"]["line"] + 1): one["message"]
        for one in json.loads(done.stdout)["generalDiagnostics"]
    }
    marked = {
        ("bad.py", place)
        for place, line in enumerate((HERE / "bad.py").read_text(encoding="utf-8").splitlines(), 1)
        if line.endswith("# error")
    }
    for file, line in sorted(set(found) - marked):
        print(f"{file}:{line}: pyright objects: {found[file, line].splitlines()[0]}")
    for file, line in sorted(marked - set(found)):
        print(f"{file}:{line}: pyright does not object")
    print(f"types: {len(marked & set(found))} of {len(marked)} planted errors found, {len(set(found) - marked)} others")
    return int(set(found) != marked)


if __name__ == "__main__":
    sys.exit(main())
