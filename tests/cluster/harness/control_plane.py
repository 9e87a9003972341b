"""A control plane of its own: etcd, kube-apiserver and kube-controller-manager on free ports, ready in seconds, gone at the end.

    with control_plane() as plane:
        plane.kubeconfig; plane.api.get("/readyz")
        plane.apiserver.kill(); plane.apiserver.start(); plane.wait_ready()     # same port, same data

Each part is a `Program`: start, stop (SIGTERM), kill, pause, resume. What happened at the API is in `plane.audit`.
"""

import contextlib
import json
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx
from cluster.harness.api import Api, write_kubeconfig
from cluster.harness.audit import POLICY, AuditLog
from cluster.harness.program import Program, dismiss, free_ports, guard
from cluster.toolchain.build import CannotBuild, build

SERVICE_CIDR = "10.96.0.0/16"
SERVICE_ADDRESS = "10.96.0.1"
NODE = "node"
# Who the cluster's parts are: users to whom Kubernetes itself has given what they need.
IDENTITIES = {
    "admin": "system:masters",
    "system:kube-controller-manager": "",
    "system:kube-scheduler": "",
    "system:kube-proxy": "",
    f"system:node:{NODE}": "system:nodes",
    "coredns": "system:masters",
}


@dataclass(frozen=True, slots=True)
class Ground:
    """What the node level changes: what each command begins with, the address that pods can reach, more flags."""

    prefix: Sequence[str | Path] = ()
    address: str = "127.0.0.1"
    apiserver: Sequence[str] = ("--endpoint-reconciler-type=none",)
    controller_manager: Sequence[str] = ()
    ports: Sequence[int] = field(default_factory=lambda: free_ports(3))


class ControlPlane:
    """Three programs and their state folder."""

    def __init__(self, home: Path, binaries: Path, ground: Ground) -> None:
        self.home = home
        self.binaries = binaries
        self.ground = ground
        self.kubeconfig = self.kubeconfig_of("admin")
        self.audit = AuditLog(home / "audit.log")
        self.certificate = home / "serving.crt"
        self.key = home / "serving.key"
        client, peer, self.port = ground.ports
        self._etcd_url = f"http://127.0.0.1:{client}"
        self._peer_url = f"http://127.0.0.1:{peer}"
        self._tokens = {name: token_hex(16) for name in IDENTITIES}
        self.etcd = self.program("etcd", *self._etcd_flags())
        self.apiserver = self.program("kube-apiserver", *self._apiserver_flags())
        self.controller_manager = self.program("kube-controller-manager", *self._controller_manager_flags())

    def program(self, name: str, *arguments: str | Path, env: dict[str, str] | None = None) -> Program:
        """One of the built programs on this ground; not started."""
        return Program(name, [*self.ground.prefix, self.binaries / name, *arguments], self.home / f"{name}.log", env)

    def kubeconfig_of(self, identity: str) -> Path:
        """The kubeconfig of one of `IDENTITIES`."""
        return self.home / f"{identity.replace(':', '-')}.kubeconfig"

    @property
    def server(self) -> str:
        """The API server's address."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def api(self) -> Api:
        """The API server as its administrator; a new one every time, so that none keeps a dead connection."""
        return Api(self.kubeconfig, self.binaries / "kubectl")

    def start(self) -> None:
        """Start everything and wait until it is ready."""
        self._write_files()
        self.etcd.start()
        self.apiserver.start()
        self.wait_ready()
        self.controller_manager.start()
        with self.api as api:
            api.wait_for("/api/v1/namespaces/default/serviceaccounts/default", bool)

    def wait_ready(self, seconds: float = 60) -> None:
        """Wait until the API server says that it is ready."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        with httpx.Client(
            verify=context, trust_env=False, headers={"Authorization": f"Bearer {self._tokens['admin']}"}
        ) as client:
            self.apiserver.wait_until(lambda: _answers(client, f"{self.server}/readyz"), seconds)

    def recover(self) -> None:
        """Start what is down and wait until all is as after `start`: controllers would take half a minute to find their watches again."""
        for part in (self.etcd, self.apiserver):
            part.resume()
            if not part.alive:
                part.start()
        self.wait_ready()
        self.controller_manager.kill()
        self.controller_manager.start()

    def stop(self) -> None:
        """Stop what runs, the last started first, and wait for each."""
        self.controller_manager.stop(10)
        if self.etcd.alive:
            self.apiserver.stop(20)
        self.apiserver.kill()
        self.etcd.stop(10)

    def compact(self) -> int:
        """Throw away etcd's history; the revision up to which it is gone."""
        with httpx.Client(base_url=self._etcd_url, trust_env=False) as etcd:
            revision = int(etcd.post("/v3/maintenance/status", json={}).raise_for_status().json()["header"]["revision"])
            etcd.post("/v3/kv/compaction", json={"revision": str(revision), "physical": True}).raise_for_status()
        return revision

    def _write_files(self) -> None:
        names = ["IP:127.0.0.1", "DNS:localhost", f"IP:{self.ground.address}", f"IP:{SERVICE_ADDRESS}"]
        names += [f"DNS:kubernetes{rest}" for rest in ("", ".default", ".default.svc", ".default.svc.cluster.local")]
        certificate = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=stepwell-test"]
        extension = ["-addext", f"subjectAltName={','.join(sorted(set(names)))}"]
        _openssl(*certificate, *extension, "-keyout", self.key, "-out", self.certificate)
        _openssl("genrsa", "-out", self.home / "accounts.key", "2048")
        lines = [f'{token},{name},{name},"{IDENTITIES[name]}"' for name, token in self._tokens.items()]
        (self.home / "tokens.csv").write_text("\n".join(lines), encoding="utf-8")
        (self.home / "audit-policy.json").write_text(json.dumps(POLICY), encoding="utf-8")
        (self.home / "audit.log").touch()
        for name, token in self._tokens.items():
            cluster = {"server": self.server, "certificate-authority": str(self.certificate)}
            write_kubeconfig(self.kubeconfig_of(name), cluster, {"token": token})

    def _etcd_flags(self) -> list[str]:
        return [
            f"--data-dir={self.home / 'etcd'}",
            f"--listen-client-urls={self._etcd_url}",
            f"--advertise-client-urls={self._etcd_url}",
            f"--listen-peer-urls={self._peer_url}",
            f"--initial-advertise-peer-urls={self._peer_url}",
            f"--initial-cluster=default={self._peer_url}",
            "--unsafe-no-fsync",
            f"--quota-backend-bytes={4 << 30}",
            "--log-level=warn",
        ]

    def _apiserver_flags(self) -> list[str]:
        return [
            f"--etcd-servers={self._etcd_url}",
            f"--bind-address={'127.0.0.1' if self.ground.address == '127.0.0.1' else '0.0.0.0'}",
            f"--advertise-address={self.ground.address}",
            f"--secure-port={self.port}",
            f"--tls-cert-file={self.certificate}",
            f"--tls-private-key-file={self.key}",
            f"--token-auth-file={self.home / 'tokens.csv'}",
            "--authorization-mode=Node,RBAC",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={self.home / 'accounts.key'}",
            f"--service-account-signing-key-file={self.home / 'accounts.key'}",
            f"--service-cluster-ip-range={SERVICE_CIDR}",
            f"--audit-policy-file={self.home / 'audit-policy.json'}",
            f"--audit-log-path={self.audit.path}",
            # A rotated log would lose what a test wants to read.
            "--audit-log-maxsize=10000",
            # Without it a graceful stop waits a minute for the watches of clients that are in no hurry.
            "--shutdown-watch-termination-grace-period=3s",
            "--allow-privileged=true",
            "--profiling=false",
            *self.ground.apiserver,
        ]

    def _controller_manager_flags(self) -> list[str]:
        return [
            f"--kubeconfig={self.kubeconfig_of('system:kube-controller-manager')}",
            "--secure-port=0",
            "--leader-elect=false",
            "--use-service-account-credentials",
            f"--service-account-private-key-file={self.home / 'accounts.key'}",
            f"--root-ca-file={self.certificate}",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            *self.ground.controller_manager,
        ]


@contextlib.contextmanager
def control_plane() -> Generator[ControlPlane]:
    """A started control plane in a folder of its own.

    Raises:
        CannotBuild: this machine can't have one; the message says why.

    """
    if shutil.which("openssl") is None:
        raise CannotBuild("no openssl on this machine, which makes the cluster's keys: install it")
    binaries = build()
    home = Path(tempfile.mkdtemp(prefix="stepwell-cluster-"))
    guarding = guard(f"sleep 1; rm -rf {home}")
    plane = ControlPlane(home, binaries, Ground())
    try:
        plane.start()
        yield plane
    finally:
        plane.stop()
        shutil.rmtree(home, ignore_errors=True)
        dismiss(guarding)


def _openssl(*arguments: Any) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def _answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(url).is_success
    except httpx.HTTPError:
        return False
