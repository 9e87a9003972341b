"""Talk to an API server as a test does: plain JSON over HTTPS, `kubectl` where a user would, and kubeconfigs for other identities."""

import base64
import json
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import httpx
import yaml

Object = dict[str, Any]
PATCH_TYPES = {
    "apply": "application/apply-patch+yaml",
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}


class Refused(Exception):
    """The API server answered with an error; `status` is its Status object."""

    def __init__(self, code: int, status: Object) -> None:
        super().__init__(f"{code} {status.get('reason', '')}: {status.get('message', '')}")
        self.code = code
        self.status = status

    @property
    def fields(self) -> list[str]:
        """The paths of the fields that it complains about."""
        causes: list[dict[str, str]] = self.status.get("details", {}).get("causes", [])
        return [cause.get("field", "") for cause in causes]


class Api:
    """One identity at one API server, from a kubeconfig."""

    def __init__(self, kubeconfig: Path, kubectl: Path) -> None:
        self.kubeconfig = kubeconfig
        self.kubectl_path = kubectl
        self._config = _current(yaml.safe_load(kubeconfig.read_text(encoding="utf-8")), kubeconfig.parent)
        self.server: str = self._config.cluster["server"]
        self._http = self._config.client()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def request(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """One call; what it answered, as JSON when it is JSON.

        Raises:
            Refused: it answered with an error.

        """
        content = None if body is None else json.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self._http.request(method, path, content=content, headers={"Content-Type": "application/json", **named})
        is_json = answer.headers.get("Content-Type", "").startswith("application/json")
        if answer.is_error:
            raise Refused(answer.status_code, answer.json() if is_json else {"message": answer.text})
        return answer.json() if is_json else answer.text

    def get(self, path: str) -> Any:
        """Read an object or a list."""
        return self.request("GET", path)

    def find(self, path: str) -> Object | None:
        """Read an object that may not be there."""
        try:
            return self.get(path)
        except Refused as refused:
            if refused.code == 404:
                return None
            raise

    def items(self, path: str) -> list[Object]:
        """The objects of a list."""
        return self.get(path)["items"]

    def create(self, path: str, body: Object) -> Object:
        """Create an object in the collection at this path."""
        return self.request("POST", path, body)

    def replace(self, path: str, body: Object) -> Object:
        """Put an object in another's place."""
        return self.request("PUT", path, body)

    def patch(self, path: str, body: object, kind: str = "merge") -> Object:
        """Patch an object; `kind` is one of `PATCH_TYPES`."""
        return self.request("PATCH", path, body, Content_Type=PATCH_TYPES[kind])

    def delete(self, path: str, propagation: str = "Background") -> None:
        """Delete an object, if it is there."""
        try:
            self.request("DELETE", f"{path}?propagationPolicy={propagation}")
        except Refused as refused:
            if refused.code != 404:
                raise

    def watch(self, path: str, version: str, seconds: int = 5) -> list[Object]:
        """The events since a resource version, until one comes or the time is up; expired ones come as an ERROR event."""
        joiner = "&" if "?" in path else "?"
        url = f"{path}{joiner}watch=true&resourceVersion={version}&timeoutSeconds={seconds}"
        with self._http.stream("GET", url, timeout=seconds + 10) as answer:
            if answer.is_error:
                raise Refused(answer.status_code, json.loads(answer.read()))
            return [json.loads(line) for line in answer.iter_lines() if line]

    def wait_for(self, path: str, ready: Callable[[Object], object], seconds: float = 30) -> Object:
        """The object at this path once `ready` is true of it."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.find(path)
            if found is not None and ready(found):
                return found
            if time.monotonic() > deadline:
                raise AssertionError(f"{path} did not become what was waited for in {seconds:g} s; last seen: {found}")
            time.sleep(0.05)

    def wait_gone(self, path: str, seconds: float = 30) -> None:
        """Wait until there is nothing at this path."""
        deadline = time.monotonic() + seconds
        while (found := self.find(path)) is not None:
            if time.monotonic() > deadline:
                raise AssertionError(f"{path} is still there after {seconds:g} s: {found}")
            time.sleep(0.05)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl and give what it printed; it must succeed."""
        done = self.try_kubectl(*arguments, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr.strip()}"
        return done.stdout

    def try_kubectl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl, whatever comes of it."""
        command = [str(self.kubectl_path), "--kubeconfig", str(self.kubeconfig), *arguments]
        return subprocess.run(command, input=stdin, check=False, capture_output=True, text=True, timeout=300)

    def apply(self, *objects: Object, manager: str = "kubectl") -> None:
        """Server-side apply of manifests, by kubectl."""
        manifest = yaml.safe_dump_all(objects)
        self.kubectl("apply", "--server-side", "--field-manager", manager, "-f", "-", stdin=manifest)

    def make_namespace(self, prefix: str = "t", labels: Mapping[str, str] | None = None) -> str:
        """Create a namespace of a new name and wait until pods could be made in it."""
        name = f"{prefix}-{uuid4().hex[:10]}"
        self.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": dict(labels or {})}})
        for given in ("serviceaccounts/default", "configmaps/kube-root-ca.crt"):
            self.wait_for(f"/api/v1/namespaces/{name}/{given}", bool)
        return name

    def as_service_account(self, namespace: str, name: str, folder: Path, server: str | None = None) -> Path:
        """A kubeconfig for a service account, with a token that the API server made for it; `server` leads it through a proxy."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        answer = self.create(path, {"spec": {"expirationSeconds": 86_400}})
        return self.with_token(answer["status"]["token"], folder / f"{namespace}-{name}.kubeconfig", server, namespace)

    def with_token(self, token: str, path: Path, server: str | None = None, namespace: str = "default") -> Path:
        """A kubeconfig for whoever has this token."""
        write_kubeconfig(path, {**self._config.cluster, "server": server or self.server}, {"token": token}, namespace)
        return path

    def through(self, server: str, path: Path) -> Path:
        """This identity's kubeconfig with another server address: a proxy's."""
        write_kubeconfig(path, {**self._config.cluster, "server": server}, self._config.user)
        return path


def write_kubeconfig(path: Path, cluster: Object, user: Object, namespace: str = "default") -> None:
    """A kubeconfig with one context, readable by its owner alone."""
    path.touch(mode=0o600)
    context = {"cluster": "test", "user": "test", "namespace": namespace}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": user}],
        "contexts": [{"name": "test", "context": context}],
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


class _Config:
    """The cluster and user entries of the current context, with files read into data."""

    def __init__(self, cluster: Object, user: Object) -> None:
        self.cluster = cluster
        self.user = user

    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.user['token']}"} if "token" in self.user else {}
        authority = self.cluster.get("certificate-authority-data")
        context = ssl.create_default_context(cadata=base64.b64decode(authority).decode() if authority else None)
        if self.cluster.get("insecure-skip-tls-verify"):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if "client-certificate-data" in self.user:
            with tempfile.NamedTemporaryFile() as both:
                for name in ("client-certificate-data", "client-key-data"):
                    both.write(base64.b64decode(self.user[name]))
                both.flush()
                context.load_cert_chain(both.name)
        return httpx.Client(base_url=self.cluster["server"], verify=context, headers=headers, timeout=60, trust_env=False)


def _current(content: Object, folder: Path) -> _Config:
    name = content["current-context"]
    context = next(entry["context"] for entry in content["contexts"] if entry["name"] == name)
    cluster = next(entry["cluster"] for entry in content["clusters"] if entry["name"] == context["cluster"])
    user = next(entry["user"] for entry in content["users"] if entry["name"] == context["user"])
    return _Config(_inlined(cluster, folder), _inlined(user, folder))


def _inlined(entry: Object, folder: Path) -> Object:
    """The entry with `x: file` turned into `x-data: content`, so that it means the same in any folder."""
    inlined = dict(entry)
    for name in ("certificate-authority", "client-certificate", "client-key"):
        if name in inlined:
            inlined[f"{name}-data"] = base64.b64encode((folder / inlined.pop(name)).read_bytes()).decode()
    if "tokenFile" in inlined:
        inlined["token"] = (folder / inlined.pop("tokenFile")).read_text(encoding="utf-8").strip()
    return inlined
