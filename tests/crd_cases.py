"""The cases of tests/cluster/fixtures/crd: for each rule of the definitions something accepted and something refused."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent / "cluster" / "fixtures" / "crd"
SOURCE = {"image": {"image": "registry/shop:1.4", "handler": "shop.orders:go"}}

LARGE = {  # few characters, many bytes; too long for a file
    "rule": "`code` must be no more than 65536 bytes of UTF-8; build an image for more",
    "accepted": {"source": {"inline": {"code": "ß" * 32_768, "handler": "go"}}},
    "refused": {"source": {"inline": {"code": "ß" * 32_769, "handler": "go"}}},
    "field": "spec.source.inline.code",
}


@dataclass(frozen=True, slots=True)
class Case:
    """What one rule accepts and refuses; `field` is the path that the refusal names. `before`: it is about an update of this."""

    rule: str
    field: str
    kind: str
    accepted: dict[str, Any]
    refused: dict[str, Any]
    before: dict[str, Any] | None


def cases() -> list[Case]:
    """Every case of every file, in order."""
    found = [given for path in sorted(FOLDER.glob("*.yaml")) for given in yaml.safe_load(path.read_text(encoding="utf-8"))]
    return [_case(given) for given in [*found, LARGE]]


def document(spec: dict[str, Any], kind: str = "DurableFunction", name: str = "f") -> dict[str, Any]:
    """A whole object; a function's source is an image unless the spec has one."""
    whole = {"source": SOURCE, **spec} if kind == "DurableFunction" else spec
    return {"apiVersion": "stepwell.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": whole}


def _case(given: dict[str, Any]) -> Case:
    kind, lengths = given.get("kind", "DurableFunction"), given.get("name", {})
    names = {which: "n" * lengths[which] if lengths else "f" for which in ("accepted", "refused")}
    before = given.get("before")
    return Case(
        rule=given["rule"],
        field=given["field"],
        kind=kind,
        accepted=document(given["accepted"], kind, names["accepted"]),
        refused=document(given["refused"], kind, names["refused"]),
        before=None if before is None else document(before, kind),
    )
