"""Remove all that a node leaves behind, whatever state it is in: processes, mounts, network namespace, folder.

    python -m cluster.harness.sweep HOME NAME

Every process of the node lives in its network namespace or in one whose handle is mounted in its folder; that is how they are known, and
nothing else is ended.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from cluster.harness.ground import restore

PATIENCE = 10.0
CNI_RESULTS = Path("/var/lib/cni/results")
RUNNING = "containerd-state/io.containerd.runtime.v2.task/k8s.io"
CONTAINER_LOGS = Path("/var/log/containers")


def sweep(home: Path, name: str) -> None:
    """Remove what is left of the node whose folder and network namespace these are."""
    handles = [Path("/var/run/netns") / name, *_mounts(home, "nsfs")]
    containers = [folder.name for folder in (home / RUNNING).glob("*")]
    _end_processes({_inode(handle) for handle in handles} - {0, _inode(Path("/proc/self/ns/net"))})
    for mount in sorted(_mounts(home), key=lambda path: len(path.parts), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)
    if (Path("/var/run/netns") / name).exists():
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
    for container in containers:
        for left in Path("/sys/fs/cgroup").glob(f"*/k8s.io/{container}"):
            with contextlib.suppress(OSError):
                left.rmdir()
    for left in CNI_RESULTS.glob(f"{name}-*-eth0"):
        container = left.name.removeprefix(f"{name}-").removesuffix("-eth0")
        left.unlink(missing_ok=True)
        (CNI_RESULTS / f"cni-loopback-{container}-lo").unlink(missing_ok=True)
    for link in CONTAINER_LOGS.glob("*"):
        # The kubelet links the logs of pods from here, wherever they are.
        if link.is_symlink() and home in link.readlink().parents:
            link.unlink(missing_ok=True)
    restore(home)
    for folder in (home, *home.parent.glob(f"{name}-*")):
        shutil.rmtree(folder, ignore_errors=True)


def _end_processes(namespaces: set[int]) -> None:
    deadline = time.monotonic() + PATIENCE
    while (found := _processes(namespaces)) and time.monotonic() < deadline:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _processes(namespaces: set[int]) -> list[int]:
    pids = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]
    return [pid for pid in pids if pid != os.getpid() and _inode(Path(f"/proc/{pid}/ns/net")) in namespaces and not _is_dead(pid)]


def _is_dead(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0] == "Z"
    return True


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def _mounts(home: Path, kind: str = "") -> list[Path]:
    """The mount points under a folder, of one kind of file system or of any."""
    found: list[Path] = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        point, of_kind = Path(line.split()[4]), line.partition(" - ")[2].split()[0]
        if home in point.parents and kind in {"", of_kind}:
            found.append(point)
    return found


if __name__ == "__main__":
    sweep(Path(sys.argv[1]), sys.argv[2])
