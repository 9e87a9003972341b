"""Take the operator's finalizer off every function that has it, in the namespaces named in NAMESPACES or in all."""

import json
import os
import ssl
import sys
import urllib.error
import urllib.request

ACCOUNT = os.environ.get("ACCOUNT", "/var/run/secrets/kubernetes.io/serviceaccount")
FINALIZER = "stepwell.dev/drain"
GROUP = "/apis/stepwell.dev/v1alpha1"


def main():
    places = [f"/namespaces/{name}" for name in os.environ["NAMESPACES"].split(",") if name] or [""]
    for place in places:
        for function in listed(f"{GROUP}{place}/durablefunctions"):
            if FINALIZER in function["metadata"].get("finalizers", ()):
                release(function["metadata"])


def listed(path):
    more = ""
    while True:
        page = call("GET", f"{path}?limit=500{more}") or {"items": [], "metadata": {}}
        yield from page["items"]
        if not page["metadata"].get("continue"):
            return
        more = f"&continue={page['metadata']['continue']}"


def release(metadata):
    path = f"{GROUP}/namespaces/{metadata['namespace']}/durablefunctions/{metadata['name']}"
    for _ in range(10):
        rest = [one for one in metadata.get("finalizers", ()) if one != FINALIZER]
        patch = {"metadata": {"finalizers": rest, "resourceVersion": metadata["resourceVersion"]}}
        answer = call("PATCH", path, patch)
        if answer != "conflict":
            print(f"let go of {metadata['namespace']}/{metadata['name']}")
            return
        newest = call("GET", path)
        if newest is None:
            return
        metadata = newest["metadata"]
    sys.exit(f"{path} kept changing")


def call(method, path, body=None):
    """What the API server answers; None if the thing is not there, "conflict" if it changed since it was read."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    with open(f"{ACCOUNT}/token", encoding="utf-8") as file:
        headers = {"Authorization": f"Bearer {file.read()}", "Content-Type": "application/merge-patch+json"}
    data = None if body is None else json.dumps(body).encode()
    address = f"https://{f'[{host}]' if ':' in host else host}:{port}{path}"
    asked = urllib.request.Request(address, data, headers, method=method)
    try:
        with opener().open(asked, timeout=20) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refused:
        if refused.code in {404, 409}:
            return None if refused.code == 404 else "conflict"
        sys.exit(f"{method} {path}: {refused.code} {refused.read().decode()[:300]}")
    except OSError as error:
        sys.exit(f"{method} {path}: {error}")


def opener():
    context = ssl.create_default_context(cafile=f"{ACCOUNT}/ca.crt")
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # many clusters' certificates are older than the strict rules of Python 3.13
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))


main()
