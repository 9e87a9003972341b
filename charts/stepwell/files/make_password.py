"""See that the evaluation store's Secret is there, and write the password in it to /run/stepwell/password."""

import base64
import json
import os
import secrets
import ssl
import sys
import urllib.error
import urllib.request

ACCOUNT = os.environ.get("ACCOUNT", "/var/run/secrets/kubernetes.io/serviceaccount")
PLACE = os.environ.get("PLACE", "/run/stepwell/password")
NAME, NAMESPACE = os.environ["SECRET"], os.environ["NAMESPACE"]
SECRETS = f"/api/v1/namespaces/{NAMESPACE}/secrets"


def main():
    served = call("GET", f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/{NAME}")
    if served is None:
        sys.exit(f"StatefulSet {NAME} is gone")
    owner = served["metadata"]["uid"]
    found = call("GET", f"{SECRETS}/{NAME}") or call("POST", SECRETS, made(owner)) or call("GET", f"{SECRETS}/{NAME}")
    if found is None:
        sys.exit(f"Secret {NAME} was there and is gone; trying again")
    owners = [one["uid"] for one in found["metadata"].get("ownerReferences", ())]
    if owners and owner not in owners:
        sys.exit(f"Secret {NAME} is that of an installation before this one and about to go; trying again")
    if "password" not in found.get("data", {}):
        sys.exit(f"Secret {NAME} has no key 'password', so it isn't ours: rename it, or set fullnameOverride")
    with open(PLACE, "w", encoding="utf-8") as file:
        file.write(base64.b64decode(found["data"]["password"]).decode())


def made(owner):
    password = secrets.token_urlsafe(24)
    dsn = f"postgresql://postgres:{password}@{NAME}.{NAMESPACE}.svc:5432/postgres"
    reference = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": NAME, "uid": owner}
    labels = {
        "app.kubernetes.io/name": "stepwell",
        "app.kubernetes.io/component": "postgres",
        "app.kubernetes.io/part-of": "stepwell",
    }
    metadata = {"name": NAME, "labels": labels, "ownerReferences": [reference]}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"dsn": dsn, "password": password}}


def call(method, path, body=None):
    """What the API server answers; None if the thing is not there, or is there already."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    with open(f"{ACCOUNT}/token", encoding="utf-8") as file:
        headers = {"Authorization": f"Bearer {file.read()}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    address = f"https://{f'[{host}]' if ':' in host else host}:{port}{path}"
    asked = urllib.request.Request(address, data, headers, method=method)
    try:
        with opener().open(asked, timeout=20) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refused:
        if (method, refused.code) in {("GET", 404), ("POST", 409)}:
            return None
        sys.exit(f"{method} {path}: {refused.code} {refused.read().decode()[:300]}")
    except OSError as error:
        sys.exit(f"{method} {path}: {error}")


def opener():
    context = ssl.create_default_context(cafile=f"{ACCOUNT}/ca.crt")
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # many clusters' certificates are older than the strict rules of Python 3.13
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))


main()
