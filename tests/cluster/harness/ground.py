"""What a machine needs so that a node can run on it, and the network namespace that keeps the node apart from the machine."""

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from cluster.toolchain.build import CannotBuild

CNI = Path("/usr/lib/cni")
NODE_ADDRESS = "10.250.0.2"
GATEWAY = "10.250.0.1"
POD_CIDR = "10.244.0.0/16"
# The program that shows that a Debian package is there.
PACKAGES = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "debootstrap": "debootstrap",
    "ip": "iproute2",
    "nsenter": "util-linux",
}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# The kubelet sets these for the whole machine; they are put back.
KERNEL_SETTINGS = ("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops")


@cache
def require_machine() -> None:
    """See that this machine can run a node; install what Debian packages it lacks.

    Raises:
        CannotBuild: it can't; the message says why.

    """
    if sys.platform != "linux" or os.geteuid() != 0:
        raise CannotBuild("a node needs Linux and root: run `sudo make cluster-test`")
    if lacking := _lacking():
        if shutil.which("apt-get") is None:
            raise CannotBuild(f"a node needs {', '.join(lacking)}, and there is no apt-get to install them with")
        print(f"installing {', '.join(lacking)}", file=sys.stderr, flush=True)
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", *lacking]):
            done = subprocess.run(["apt-get", *command], env=quiet, check=False, capture_output=True, text=True)
        if lacking := _lacking():
            raise CannotBuild(f"could not install {', '.join(lacking)}: {done.stderr.strip()[-500:]}")


def make_network(name: str) -> list[str]:
    """A network namespace with the node's address in it; what a command begins with to run there.

    Raises:
        CannotBuild: the kernel refuses, as it does in a container without the right to.

    """
    # `ip netns exec` would hide the cgroups from what it runs.
    inside = ["nsenter", f"--net=/var/run/netns/{name}", "--"]
    # A bridge bears the address because not every kernel has dummy devices.
    for command in (
        ["ip", "netns", "add", name],
        [*inside, "ip", "link", "set", "lo", "up"],
        [*inside, "ip", "link", "add", "node0", "type", "bridge"],
        [*inside, "ip", "address", "add", f"{NODE_ADDRESS}/24", "dev", "node0"],
        [*inside, "ip", "link", "set", "node0", "up"],
        [*inside, "ip", "route", "add", "default", "via", GATEWAY, "dev", "node0"],
        [*inside, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"],
    ):
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise CannotBuild(f"this machine gives no network namespace: `{' '.join(command)}`: {done.stderr.strip()}")
    return inside


def keep_settings(home: Path) -> None:
    """Write down what the kubelet is going to change."""
    paths = [path for name in KERNEL_SETTINGS if (path := Path("/proc/sys") / name).exists()]
    settings = {str(path): path.read_text(encoding="ascii") for path in paths}
    (home / "kernel.json").write_text(json.dumps(settings), encoding="ascii")


def restore(home: Path) -> None:
    """Put the kernel's settings back as they were written down."""
    kept = home / "kernel.json"
    settings: dict[str, str] = json.loads(kept.read_text(encoding="ascii")) if kept.exists() else {}
    for path, value in settings.items():
        if Path(path).read_text(encoding="ascii") != value:
            Path(path).write_text(value, encoding="ascii")


def _lacking() -> list[str]:
    packages = {package for program, package in PACKAGES.items() if shutil.which(program, path=PATH) is None}
    if not (CNI / "bridge").exists():
        packages.add("containernetworking-plugins")
    return sorted(packages)
