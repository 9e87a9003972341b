"""Images that run Python: Debian's Python as the base, the locked dependencies over it, our packages from this checkout on top.

The two lower layers are slow to make and seldom change; they are kept in the cache, the second under a hash of the lock.
"""

import atexit
import compileall
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from secrets import token_hex

from cluster.harness.images import Image, Layer, known_layer, layer
from cluster.toolchain.build import CannotBuild, cache_root

ROOT = Path(__file__).parents[3]
SUITE = "bookworm"
# What that suite's python3 is.
PYTHON = "3.11"
PLATFORM = "x86_64-manylinux_2_36"
OURS = "app"


def image_from(name: str, entrypoint: Sequence[str], extras: Sequence[str] = (), files: Path | None = None) -> Image:
    """An image with our packages and their locked dependencies (and those of `extras`), and a folder of the user's in /srv.

    Code is in /app and on PYTHONPATH; it runs as 65532 in /srv and needs nothing that can be written to but /tmp.
    """
    layers = [base_layer(), dependency_layer(extras), code_layer()]
    if files is not None:
        layers.append(_scratch_layer(files, "srv"))
    return Image(name, layers, entrypoint, workdir="/srv" if files is not None else "/app")


def bare_image(name: str, entrypoint: Sequence[str] = ()) -> Image:
    """Python alone."""
    return Image(name, [base_layer()], entrypoint)


@cache
def base_layer() -> Layer:
    """Debian with its Python and nothing else.

    Raises:
        CannotBuild: debootstrap failed.

    """
    tar = cache_root() / f"python-{SUITE}.tar"
    if not tar.exists():
        print(f"making a Python base with debootstrap ({SUITE}; once; less than a minute)", file=sys.stderr, flush=True)
        cache_root().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="stepwell-base-") as folder:
            packages = "python3,ca-certificates"
            command = ["debootstrap", "--variant=minbase", f"--include={packages}", SUITE, folder, _mirror()]
            _run(*command)
            for unneeded in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man"):
                shutil.rmtree(Path(folder) / unneeded, ignore_errors=True)
            layer(Path(folder), tar)
    return known_layer(tar)


def dependency_layer(extras: Sequence[str] = ()) -> Layer:
    """What uv.lock says that our packages need, for the base's Python.

    Raises:
        CannotBuild: uv is not here, or a wheel can't be had.

    """
    chosen = [part for extra in extras for part in ("--extra", extra)]
    project = ["--project", str(ROOT), "--frozen", "--no-dev", "--no-emit-project", "--no-annotate", "--no-header"]
    requirements = _run(_uv(), "export", "--quiet", *project, *chosen)
    key = hashlib.sha256(f"{SUITE} {PLATFORM}\n{requirements}".encode()).hexdigest()[:16]
    tar = cache_root() / f"dependencies-{key}.tar"
    if not tar.exists():
        cache_root().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="stepwell-wheels-") as scratch:
            listed = Path(scratch) / "requirements.txt"
            listed.write_text(requirements, encoding="utf-8")
            _install(Path(scratch) / "packages", "--require-hashes", "-r", str(listed))
            layer(Path(scratch) / "packages", tar, OURS)
    return known_layer(tar)


@cache
def code_layer() -> Layer:
    """The packages of this checkout, as their wheel has them."""
    with tempfile.TemporaryDirectory(prefix="stepwell-wheel-") as scratch:
        _run(_uv(), "build", "--quiet", "--wheel", "--out-dir", scratch, str(ROOT))
        (wheel,) = Path(scratch).glob("*.whl")
        packages = Path(scratch) / "packages"
        _install(packages, "--no-deps", str(wheel))
        for command in (packages / "bin").iterdir():
            # They begin with this machine's Python.
            _, _, rest = command.read_text(encoding="utf-8").partition("\n")
            command.write_text(f"#!/usr/bin/python3\n{rest}", encoding="utf-8")
        return _scratch_layer(packages, OURS)


def _install(target: Path, *what: str) -> None:
    """Install for the base's Python, whichever runs this."""
    platform = ["--python-version", PYTHON, "--python-platform", PLATFORM, "--only-binary", ":all:"]
    _run(_uv(), "pip", "install", "--quiet", "--target", str(target), *platform, *what)
    if sys.version_info[:2] == tuple(map(int, PYTHON.split("."))):
        # On a read-only root nothing could be compiled later. Paths in tracebacks are those of the image.
        compileall.compile_dir(target, quiet=2, stripdir=str(target), prependdir=f"/{OURS}")


def _scratch_layer(folder: Path, prefix: str) -> Layer:
    """A layer that is gone when this process ends."""
    return layer(folder, _scratch() / f"{token_hex(8)}.tar", prefix)


@cache
def _scratch() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="stepwell-layers-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _mirror() -> str:
    """Where this machine gets its Debian packages from."""
    listed = [*Path("/etc/apt/sources.list.d").glob("debian*.sources"), Path("/etc/apt/sources.list")]
    for source in listed:
        for line in source.read_text(encoding="utf-8").splitlines() if source.exists() else ():
            for word in line.split():
                if word.startswith("http") and word.rstrip("/").endswith("/debian"):
                    return word
    return "http://deb.debian.org/debian"


@cache
def _uv() -> str:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    found = shutil.which("uv") or shutil.which("uv", path=f"{base}/stepwell-tools/bin")
    if found is None:
        raise CannotBuild("no uv on this machine, which installs what the images hold: `make setup` brings it")
    return found


def _run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise CannotBuild(f"`{' '.join(command[:3])} …` failed: {(done.stderr.strip() or done.stdout.strip())[-1500:]}")
    return done.stdout
