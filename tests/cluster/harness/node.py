"""A cluster of one real node: pods run, are probed, found through Services and DNS, logged, entered, evicted.

    with node_cluster() as node:
        node.load(image_from("stepwell.test/runner:1", ["python3", "-m", "stepwell", "run"]))
        node.api.apply(...)
        httpx.get(f"http://127.0.0.1:{node.reach(service_address, 80)}")

Everything is in a network namespace of its own, so that bridges, addresses and iptables rules never touch the machine's; `plane.server` and
`node.reach` lead into it from the test's side. What the machine must have: `ground.py`.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from secrets import token_hex

from cluster.harness.api import Api, Object
from cluster.harness.control_plane import NODE, ControlPlane, Ground
from cluster.harness.ground import (
    CNI,
    NODE_ADDRESS,
    PATH,
    POD_CIDR,
    keep_settings,
    make_network,
    require_machine,
)
from cluster.harness.images import Image, layer, write_archive
from cluster.harness.program import Program, dismiss, free_ports, guard
from cluster.harness.relay import Relay
from cluster.harness.sweep import sweep
from cluster.toolchain.build import NODE as NODE_PROGRAMS
from cluster.toolchain.build import build

PAUSE = "stepwell.test/pause:1"
TESTS = Path(__file__).parents[2]


class NodeCluster:
    """A control plane and the programs that make a node; all of them may be stopped, killed and started alone."""

    def __init__(self, plane: ControlPlane, relay: Relay, name: str) -> None:
        self.plane = plane
        self.name = name
        self.home = plane.home
        self.address = NODE_ADDRESS
        self._relay = relay
        self._socket = self.home / "containerd.sock"
        environment = {"PATH": PATH}
        self.containerd = Program(
            "containerd",
            [*plane.ground.prefix, "containerd", "--config", self.home / "containerd.toml"],
            self.home / "containerd.log",
            environment,
        )
        self.scheduler = plane.program(
            "kube-scheduler",
            f"--kubeconfig={plane.kubeconfig_of('system:kube-scheduler')}",
            "--leader-elect=false",
            "--secure-port=0",
        )
        self.kubelet = plane.program(
            "kubelet",
            f"--config={self.home / 'kubelet.json'}",
            f"--kubeconfig={plane.kubeconfig_of(f'system:node:{NODE}')}",
            f"--root-dir={self.home / 'kubelet'}",
            f"--cert-dir={self.home / 'kubelet-certificates'}",
            f"--hostname-override={NODE}",
            f"--node-ip={NODE_ADDRESS}",
            env=environment,
        )
        self.proxy = plane.program(
            "kube-proxy",
            f"--kubeconfig={plane.kubeconfig_of('system:kube-proxy')}",
            f"--hostname-override={NODE}",
            f"--cluster-cidr={POD_CIDR}",
            "--proxy-mode=iptables",
            "--conntrack-max-per-core=0",
            env=environment,
        )
        self.dns = plane.program("coredns", "-conf", self.home / "Corefile")

    @property
    def api(self) -> Api:
        """The API server as its administrator."""
        return self.plane.api

    def start(self) -> None:
        """Start everything; the node is ready when this comes back."""
        self._write_files()
        self.containerd.start()
        self.plane.start()
        self.scheduler.start()
        self.containerd.wait_until(self._socket.exists)
        self.load(self._pause_image())
        for part in (self.kubelet, self.proxy, self.dns):
            part.start()
        with self.api as api:
            self.kubelet.wait_until(lambda: _is_ready(api.find(f"/api/v1/nodes/{NODE}")))
        self.dns.wait_until(lambda: "CoreDNS-" in self.dns.tail())

    def stop(self) -> None:
        """Stop everything, the pods' containers too."""
        self.kubelet.stop(10)
        self.proxy.stop(5)
        self.dns.kill()
        if self.containerd.alive:
            # Containers outlive containerd. Those that it is removing itself at this moment are reported as errors.
            running = self._ctr("tasks", "list", "--quiet").stdout.split()
            self._ctr("tasks", "rm", "--force", *running)
        self.containerd.stop(10)
        self.scheduler.kill()
        self.plane.stop()

    def load(self, *images: Image) -> None:
        """Have these images on the node, for pods whose `imagePullPolicy` is `Never` or `IfNotPresent`."""
        archive = self.home / f"images-{token_hex(4)}.tar"
        write_archive(images, archive)
        self.ctr("images", "import", str(archive))
        archive.unlink()

    def reach(self, address: str, port: int) -> int:
        """A loopback port of the test's side that leads to this address of the cluster: a pod's, a Service's, the node's."""
        return self._relay.reach(address, port)

    def inside(self, *command: str | Path) -> list[str | Path]:
        """A command so that it runs in the cluster's network, where Services and pods have their addresses."""
        return [*self.plane.ground.prefix, *command]

    def ctr(self, *arguments: str) -> str:
        """Ask containerd; it must agree."""
        done = self._ctr(*arguments)
        assert done.returncode == 0, f"ctr {' '.join(arguments)}: {done.stderr.strip()}"
        return done.stdout

    def _ctr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["ctr", "--address", str(self._socket), "--namespace", "k8s.io", *arguments]
        return subprocess.run(command, check=False, capture_output=True, text=True)

    def _pause_image(self) -> Image:
        folder = self.home / "pause"
        folder.mkdir()
        (folder / "pause").write_bytes((self.plane.binaries / "pause").read_bytes())
        (folder / "pause").chmod(0o755)
        return Image(PAUSE, [layer(folder, self.home / "pause.tar")], ["/pause"])

    def _write_files(self) -> None:
        (self.home / "cni").mkdir()
        (self.home / "cni" / "10-pods.conflist").write_text(json.dumps(self._cni()), encoding="utf-8")
        (self.home / "containerd.toml").write_text(self._containerd(), encoding="utf-8")
        (self.home / "kubelet.json").write_text(json.dumps(self._kubelet()), encoding="utf-8")
        (self.home / "resolv.conf").write_text(f"nameserver {NODE_ADDRESS}\n", encoding="utf-8")
        kubeconfig = self.plane.kubeconfig_of("coredns")
        plugins = f"bind {NODE_ADDRESS}\nerrors\nkubernetes cluster.local in-addr.arpa {{\nkubeconfig {kubeconfig}\nttl 1\n}}"
        (self.home / "Corefile").write_text(f".:53 {{\n{plugins}\n}}\n", encoding="utf-8")

    def _cni(self) -> dict[str, object]:
        addresses = {"type": "host-local", "dataDir": str(self.home / "addresses"), "subnet": "10.244.0.0/24"}
        routed = {**addresses, "routes": [{"dst": "0.0.0.0/0"}]}
        bridge = {"type": "bridge", "bridge": "pods0", "isGateway": True, "ipMasq": True, "hairpinMode": True, "ipam": routed}
        ports = {"type": "portmap", "capabilities": {"portMappings": True}}
        return {"cniVersion": "0.4.0", "name": self.name, "plugins": [bridge, ports]}

    def _containerd(self) -> str:
        return f"""\
version = 2
root = "{self.home}/containerd"
state = "{self.home}/containerd-state"
[grpc]
address = "{self._socket}"
[plugins."io.containerd.internal.v1.opt"]
path = "{self.home}/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{CNI}"
conf_dir = "{self.home}/cni"
"""

    def _kubelet(self) -> dict[str, object]:
        anyone = {"anonymous": {"enabled": True}, "webhook": {"enabled": False}}
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": NODE_ADDRESS,
            # Only what is in the network namespace can reach it.
            "authentication": anyone,
            "authorization": {"mode": "AlwaysAllow"},
            "containerRuntimeEndpoint": f"unix://{self._socket}",
            "cgroupDriver": "cgroupfs",
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [],
            "failSwapOn": False,
            "failCgroupV1": False,
            "localStorageCapacityIsolation": False,
            "evictionHard": {},
            "imageGCHighThresholdPercent": 100,
            "clusterDNS": [NODE_ADDRESS],
            "clusterDomain": "cluster.local",
            "resolvConf": str(self.home / "resolv.conf"),
            "podLogsDir": str(self.home / "logs"),
            "volumePluginDir": str(self.home / "plugins"),
            "maxPods": 200,
        }


@contextlib.contextmanager
def node_cluster() -> Generator[NodeCluster]:
    """A cluster whose node is ready, in a folder and a network namespace of its own.

    Raises:
        CannotBuild: this machine can't have one; the message says why.

    """
    require_machine()
    binaries = build(NODE_PROGRAMS)
    name = f"stepwell-{token_hex(3)}"
    home = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    keep_settings(home)
    with contextlib.ExitStack() as undo:
        undo.callback(sweep, home, name)
        # When this process dies without a chance to do it itself.
        undo.callback(dismiss, guard(f"sleep 1; exec {sys.executable} -m cluster.harness.sweep {home} {name}", TESTS))
        ports = free_ports(3)
        ground = Ground(
            prefix=make_network(name),
            address=NODE_ADDRESS,
            # Else `logs` and `exec` look the node's name up in a DNS that doesn't know it.
            apiserver=["--kubelet-preferred-address-types=InternalIP"],
            controller_manager=[f"--cluster-cidr={POD_CIDR}", "--allocate-node-cidrs"],
            ports=ports,
        )
        relay = undo.enter_context(Relay(Path("/var/run/netns") / name))
        for port in ports:
            relay.reach("127.0.0.1", port, here=port)
        cluster = NodeCluster(ControlPlane(home, binaries, ground), relay, name)
        undo.callback(cluster.stop)
        cluster.start()
        yield cluster


def _is_ready(node: Object | None) -> bool:
    found: list[dict[str, str]] = node["status"].get("conditions", []) if node else []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in found)
