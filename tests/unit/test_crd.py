"""The custom resource definitions: generated from the models, committed, bounded in every part."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from crd_cases import cases
from crd_schema import parts

from stepwell.spec.fault import LATER
from stepwell.spec.function import OPTIONS
from stepwell.spec.manifest import OWN
from stepwell_operator.crd.__main__ import files, main
from stepwell_operator.crd.definitions import function_definition, store_definition
from stepwell_operator.crd.rules import FUNCTION_RULES, STORE_RULES, TAUGHT, taught

CRDS = Path(__file__).parents[2] / "crds"
DEFINITIONS = {"DurableFunction": function_definition(), "DurableStore": store_definition()}
RULES = (*FUNCTION_RULES, *STORE_RULES, *(taught(path, form) for path, form in TAUGHT.items()))


def version(kind: str) -> dict[str, Any]:
    return DEFINITIONS[kind]["spec"]["versions"][0]


def schema(kind: str) -> dict[str, Any]:
    return version(kind)["schema"]["openAPIV3Schema"]


PARTS = [(kind, path, part) for kind in DEFINITIONS for path, part in parts(schema(kind)) if path not in {"apiVersion", "kind"}]


def test_what_is_committed_is_what_the_models_say() -> None:
    """crds/ holds the generator's output to the letter; `--check` says so."""
    assert main(["--check"]) == 0
    assert {path.name for path in CRDS.iterdir()} == set(files())


def test_a_difference_fails_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--check` names each file that is missing or edited by hand; without it they are written."""
    assert main(["--check", "--folder", str(tmp_path)]) == 1
    assert main(["--folder", str(tmp_path)]) == 0
    assert main(["--check", "--folder", str(tmp_path)]) == 0
    edited = tmp_path / "durablefunctions.yaml"
    edited.write_text(edited.read_text(encoding="utf-8").replace("maximum: 20", "maximum: 30"), encoding="utf-8")
    capsys.readouterr()
    assert main(["--check", "--folder", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("durablefunctions.yaml") == 1


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_a_definition_is_small(kind: str) -> None:
    """A definition has less than 200 KB and reads back from YAML as it was made."""
    assert len(json.dumps(DEFINITIONS[kind])) < 200_000
    text = files()[f"{kind.lower()}s.yaml"]
    assert yaml.safe_load(text) == DEFINITIONS[kind]
    assert len(text) < 200_000


@pytest.mark.parametrize(("kind", "path", "part"), PARTS, ids=[f"{kind} {path}" for kind, path, _part in PARTS])
def test_every_part_is_bounded(kind: str, path: str, part: dict[str, Any]) -> None:
    """Every string has a length, every list a length and a type, every mapping a size; nothing is referred to or left open."""
    assert not {"$ref", "oneOf", "allOf", "not", "title", "nullable", "x-kubernetes-preserve-unknown-fields"} & set(part)
    if part.get("x-kubernetes-int-or-string"):
        assert {"maxLength", "pattern", "minimum", "maximum"} <= set(part)
        return
    assert "anyOf" not in part
    match part["type"]:
        case "string":
            assert "enum" in part or part["maxLength"] > 0
        case "array":
            assert part["maxItems"] > 0
            assert part["x-kubernetes-list-type"] in {"atomic", "map"}
            assert set(part.get("x-kubernetes-list-map-keys", ())) <= set(part["items"].get("required", ()))
        case "integer" | "number":
            assert "minimum" in part
        case "object":
            assert bool(part.get("properties")) != ("additionalProperties" in part)
            assert "additionalProperties" not in part or part["maxProperties"] > 0
        case other:
            assert other == "boolean"


@pytest.mark.parametrize(("kind", "path", "part"), PARTS, ids=[f"{kind} {path}" for kind, path, _part in PARTS])
def test_every_field_is_explained(kind: str, path: str, part: dict[str, Any]) -> None:
    """Each named field has a description, which names options as YAML spells them."""
    if path.endswith(("[]", "{}")) or path.startswith("metadata"):
        return
    words = part["description"]
    assert words.strip() == words
    assert words
    assert not any(f"`{name}`" in words for name in ("if_", "max_runtime", "buffered_steps", "max_interval"))


def test_the_schema_has_every_option_and_no_other() -> None:
    """The spec's fields are the options of a function and those of a manifest; later options and raw pods are not among them."""
    spec = schema("DurableFunction")["properties"]["spec"]["properties"]
    assert set(spec) == (set(OPTIONS[""]) - {"id"}) | OWN
    assert not set(spec) & LATER
    assert set(spec["source"]["properties"]) == {"inline", "configMap", "image"}
    for place, names in OPTIONS.items():
        field, in_list = place.removesuffix("[]"), place.endswith("[]")
        if field:
            inner = spec[field]["items"] if in_list else spec[field]
            assert set(inner["properties"]) == set(names) | ({"run"} if field == "timeouts" else set())


def test_every_rule_has_its_cases() -> None:
    """Each rule of the definitions stands in a fixture with something accepted and something refused, and no fixture is stale."""
    ruled = {(place_of(case.field), case.rule) for case in cases()}
    wanted = {(f"{rule.at}.{rule.field}".strip("."), rule.message) for rule in RULES}
    assert ruled == wanted


def place_of(field: str) -> str:
    return "".join("[]" if part.startswith("[") else part for part in field.replace("[", "\0[").replace("]", "]\0").split("\0"))


def test_defaults_stand_outside_of_lists() -> None:
    """A default inside a list would make tools that compare lists whole see a difference for ever."""
    defaulted = {(kind, path): part["default"] for kind, path, part in PARTS if "default" in part}
    assert not [path for _kind, path in defaulted if "[]" in path or "{}" in path]
    assert defaulted["DurableFunction", "spec.replicas"] == 1
    assert defaulted["DurableStore", "spec.secretRef.key"] == "dsn"


def test_the_columns_are_those_agreed() -> None:
    """`kubectl get dfn` shows eight columns beside the name, four more when it is asked for a wide table."""
    columns = version("DurableFunction")["additionalPrinterColumns"]
    narrow = [column["name"] for column in columns if not column.get("priority")]
    assert narrow == ["Ready", "Reason", "Revision", "Replicas", "Active", "Queued", "Suspended", "Age"]
    assert [column["name"] for column in columns if column.get("priority")] == ["Next", "Triggers", "Store", "Draining"]
    names = DEFINITIONS["DurableFunction"]["spec"]["names"], DEFINITIONS["DurableStore"]["spec"]["names"]
    assert [(one["shortNames"], one["categories"]) for one in names] == [(["dfn"], ["stepwell"]), (["dst"], ["stepwell"])]
