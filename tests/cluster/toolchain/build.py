"""Build the programs of the test cluster from their Go modules, once, into a cache that every later run finds.

    python -m tests.cluster.toolchain.build [control|node|tools|all]

prints the folder that holds them. The folder's name is made of what the build depends on, so another version never meets an old
binary. Cold it takes about five minutes for `control` and eight for everything on two cores; found, it takes no time at all.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
KUBERNETES = "v1.34.4"
HELM = "v3.22.0"
# What the programs say of themselves, and what their clients say in the User-Agent.
_VERSIONS = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
_STRIP = "-s -w"
_STAMP = {
    "gitVersion": KUBERNETES,
    "gitMajor": "1",
    "gitMinor": "34",
    "gitTreeState": "clean",
    # The module proxy doesn't tell the commit of a release; clients only want forty hexadecimal digits.
    "gitCommit": hashlib.sha1(KUBERNETES.encode(), usedforsecurity=False).hexdigest(),
    "buildDate": "2026-02-10T12:53:36Z",
}
_KUBERNETES_FLAGS = " ".join(
    [_STRIP, *(f"-X {package}.{name}={value}" for package in _VERSIONS for name, value in _STAMP.items())]
)


class CannotBuild(Exception):
    """This machine can't have the programs; the message says why and what would help."""


@dataclass(frozen=True, slots=True)
class Program:
    """One binary: where its main package is, and the version for `go install` when it isn't in this go.mod."""

    name: str
    package: str
    version: str = ""
    flags: str = _STRIP


def _kubernetes(name: str) -> Program:
    return Program(name, f"k8s.io/kubernetes/cmd/{name}", flags=_KUBERNETES_FLAGS)


CONTROL = (
    Program("etcd", "go.etcd.io/etcd/server/v3"),
    _kubernetes("kube-apiserver"),
    _kubernetes("kube-controller-manager"),
    _kubernetes("kubectl"),
)
NODE = (
    *CONTROL,
    _kubernetes("kube-scheduler"),
    _kubernetes("kubelet"),
    _kubernetes("kube-proxy"),
    Program("pause", "./pause"),
    Program("coredns", "github.com/coredns/coredns", "v1.15.0"),
)
TOOLS = (
    Program("helm", "helm.sh/helm/v3/cmd/helm", HELM, f"{_STRIP} -X helm.sh/helm/v3/internal/version.version={HELM}"),
    Program("kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform", "v0.8.0"),
)
GROUPS = {"control": CONTROL, "node": NODE, "tools": TOOLS, "all": (*NODE, *TOOLS)}


def build(programs: Sequence[Program] = CONTROL) -> Path:
    """The folder with these programs in it; builds what is missing.

    Raises:
        CannotBuild: there is no Go here, or it failed.

    """
    folder = _folder()
    if _missing(folder, programs):
        folder.mkdir(parents=True, exist_ok=True)
        with _turn(folder, programs):
            for program in _missing(folder, programs):
                _build(folder, program)
    return folder


def cache_root() -> Path:
    """Where everything that is slow to make for the test cluster is kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "stepwell" / "cluster"


def is_built(programs: Sequence[Program] = CONTROL) -> bool:
    """Whether `build` would have nothing to do."""
    with contextlib.suppress(CannotBuild):
        return not _missing(_folder(), programs)
    return False


def _folder() -> Path:
    made_of = hashlib.sha256()
    for name in ("go.mod", "go.sum", "pause/main.go"):
        made_of.update((HERE / name).read_bytes())
    made_of.update(repr((GROUPS["all"], _go_version())).encode())
    return cache_root() / made_of.hexdigest()[:16]


def _missing(folder: Path, programs: Sequence[Program]) -> list[Program]:
    return [program for program in programs if not (folder / program.name).exists()]


@contextlib.contextmanager
def _turn(folder: Path, programs: Sequence[Program]) -> Generator[None]:
    """Hold the folder's lock, or go on as soon as the one who holds it has made what is wanted here."""
    with (folder / ".lock").open("w") as lock:
        while _missing(folder, programs):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.5)
        yield


def _build(folder: Path, program: Program) -> None:
    print(f"building {program.name} (once; up to four minutes on two cores)", file=sys.stderr, flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder, prefix=".making-") as making:
        made = Path(making) / program.name
        settings = ["-trimpath", "-ldflags", program.flags]
        env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"}
        if program.version:
            command = [_go(), "install", *settings, f"{program.package}@{program.version}"]
            env["GOBIN"] = making
        else:
            command = [_go(), "build", *settings, "-o", str(made), program.package]
        done = subprocess.run(command, cwd=HERE, env=env, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise CannotBuild(f"building {program.name} failed: {done.stderr.strip()[-2000:]}")
        made.replace(folder / program.name)
    print(f"built {program.name} in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


@cache
def _go() -> str:
    found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin")
    if found is None:
        raise CannotBuild("no Go on this machine: install Go 1.26, or name a cluster in STEPWELL_TEST_KUBECONFIG")
    return found


@cache
def _go_version() -> str:
    done = subprocess.run([_go(), "env", "GOVERSION"], cwd=HERE, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise CannotBuild(f"Go can't build this: {done.stderr.strip()}")
    return done.stdout.strip()


if __name__ == "__main__":
    print(build(GROUPS[sys.argv[1] if len(sys.argv) > 1 else "all"]))
