"""Prometheus and promtool: those on the PATH, else Debian's, unpacked without root into a cache that every later run finds."""

import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path


class CannotHave(Exception):
    """This machine can't have them; the message says why."""


@cache
def prometheus_folder() -> Path:
    """The folder with `prometheus` and `promtool` in it."""
    found = shutil.which("promtool")
    if found is not None and shutil.which("prometheus") is not None:
        return Path(found).parent
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stepwell" / "prometheus"
    if not (folder / "usr" / "bin" / "promtool").exists():
        _unpack(folder)
    return folder / "usr" / "bin"


def _unpack(folder: Path) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise CannotHave("no promtool on the PATH, and no apt-get to get Debian's package with: install Prometheus")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as making:
        for command in (["apt-get", "update"], ["apt-get", "download", "prometheus"]):
            try:
                done = subprocess.run(command, cwd=making, check=False, capture_output=True, text=True, timeout=100)
            except subprocess.TimeoutExpired as slow:
                raise CannotHave(f"`{' '.join(command)}` takes more than {slow.timeout:g} s: try again later") from slow
            packages = list(Path(making).glob("prometheus_*.deb"))
        if not packages:
            raise CannotHave(f"`apt-get download prometheus` failed: {done.stderr.strip()[-300:]}")
        unpacked = Path(making) / "unpacked"
        subprocess.run(["dpkg", "-x", str(packages[0]), str(unpacked)], check=True, timeout=60)
        shutil.rmtree(folder, ignore_errors=True)
        unpacked.rename(folder)
