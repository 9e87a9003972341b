"""The definitions and the models say the same: what one of them bounds, the other bounds too."""

import copy
import re
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from crd_cases import Case, cases, document
from crd_documents import STORE_FULL, VARIANTS, changed, places, reads, with_junk
from crd_schema import fits, parts
from hypothesis import given
from hypothesis import strategies as st

from stepwell.errors import SpecError
from stepwell.spec.durable_store import parse_store
from stepwell.spec.manifest import parse_manifest
from stepwell_operator.crd.definitions import function_definition, store_definition

FUNCTION = function_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
STORE = store_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]


def beyond(part: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Values just outside of each bound of a part, with the bound's name."""
    kind = part.get("type", "string")
    if "enum" in part:
        yield "enum", "Nonsense"
    elif kind == "string":
        yield "type", 7 if "x-kubernetes-int-or-string" not in part else 1.5
        yield "maxLength", "a" * (part["maxLength"] + 1)
        if part.get("minLength"):
            yield "minLength", ""
        if "pattern" in part:
            yield "pattern", "\u00df "
    if "maximum" in part:
        yield "maximum", part["maximum"] + 1
    if "minimum" in part:
        yield "minimum", part["minimum"] - 1
    if kind in {"integer", "number", "boolean"}:
        yield "type", "1"
    if "maxItems" in part:
        yield "maxItems", [None] * (part["maxItems"] + 1)
        yield "type", {"a": 1}
    if "maxProperties" in part:
        yield "maxProperties", {f"k{n}": "1" for n in range(part["maxProperties"] + 1)}
    if kind == "object":
        yield "type", ["a"]


def spots(variants: tuple[dict[str, Any], ...], schema: dict[str, Any]) -> Iterator[Any]:
    by_path = dict(parts(schema))
    seen: set[str] = set()
    for spec in variants:
        for path, keys in places(spec):
            if keys and path not in seen:
                seen.add(path)
                yield pytest.param(spec, keys, by_path[path], id=path)


SPOTS = list(spots(VARIANTS, FUNCTION))
STORE_SPOTS = list(spots((STORE_FULL,), STORE))


def test_the_documents_name_every_field() -> None:
    """The documents that the other tests vary have a value for every part of both schemas."""
    for spots_of, schema in ((SPOTS, FUNCTION), (STORE_SPOTS, STORE)):
        assert {spot.id for spot in spots_of} == {path for path, _part in parts(schema)} - {""}
    assert all(fits(FUNCTION, spec) and reads(spec) for spec in VARIANTS)
    assert fits(STORE, STORE_FULL)
    assert reads(STORE_FULL, "DurableStore")


@pytest.mark.parametrize(("spec", "keys", "part"), [*SPOTS, *STORE_SPOTS])
def test_a_bound_of_the_schema_is_one_of_the_model(spec: dict[str, Any], keys: tuple[Any, ...], part: dict[str, Any]) -> None:
    """Whatever is outside of a bound of the schema, the models refuse."""
    schema, kind = (STORE, "DurableStore") if spec is STORE_FULL else (FUNCTION, "DurableFunction")
    for bound, value in beyond(part):
        given = changed(spec, keys, value)
        assert not fits(schema, given), bound
        assert not reads(given, kind), f"the model takes {str(value)[:40]!r}, which is outside of {bound}"


@pytest.mark.parametrize(("spec", "keys", "part"), [*SPOTS, *STORE_SPOTS])
def test_an_unknown_field_is_one_for_both(spec: dict[str, Any], keys: tuple[Any, ...], part: dict[str, Any]) -> None:
    """Where the schema names the fields, the models know no other; what it requires, they require."""
    schema, kind = (STORE, "DurableStore") if spec is STORE_FULL else (FUNCTION, "DurableFunction")
    if "properties" not in part:
        return
    assert not fits(schema, changed(spec, (*keys, "nonsense"), 1))
    assert not reads(changed(spec, (*keys, "nonsense"), 1), kind)
    for name in part.get("required", ()):
        given = copy.deepcopy(spec)
        inner: Any = given
        for key in keys:
            inner = inner[key]
        inner.pop(name, None)
        assert not fits(schema, given)
        assert not reads(given, kind)


def longest(path: str, part: dict[str, Any]) -> Any:
    """The largest value within the bounds of a part, if it is plain to make one."""
    if path.endswith((".if", "concurrency[].key", "idempotency")):
        return "event.".ljust(part["maxLength"], "a")
    if part.get("type") in {"integer", "number"}:
        return part["maximum"]
    if part.get("type") == "string" and "enum" not in part:
        for filler in ("a", "0", "1s"):
            text = (filler * part["maxLength"])[: part["maxLength"]]
            if "pattern" not in part or re.fullmatch(part["pattern"], text):
                return text
    return None


SEMANTIC = {
    "triggers[].cron",  # has a grammar
    "triggers[].jitter",  # 5m at most
    "source.image.handler",  # its form is checked by a rule
    "triggers[].window", "backoff.base", "backoff.max", "backoff.jitter", "backoff.table[]", "cancelOn[].timeout",
    "timeouts.start", "timeouts.run", "timeouts.finish", "checkpointing.maxRuntime", "checkpointing.maxInterval",
}  # fmt: skip
"""What the schema can't bound in full: the longest text that it takes need not be one that means something."""


@pytest.mark.parametrize(("spec", "keys", "part"), [*SPOTS, *STORE_SPOTS])
def test_a_bound_of_the_model_is_one_of_the_schema(
    spec: dict[str, Any], keys: tuple[Any, ...], part: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    """The largest value that the schema takes, the models take too."""
    path = request.node.callspec.id
    value = longest(path, part)
    if value is None or path in SEMANTIC:
        return
    kind = "DurableStore" if spec is STORE_FULL else "DurableFunction"
    given = changed(spec, keys, value)
    try:
        (parse_manifest if kind == "DurableFunction" else parse_store)(document({}, kind) | {"spec": given})
    except SpecError as error:
        pytest.fail(f"{path}: {error}")


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case.rule[:60]} ({case.field})")
def test_a_rule_of_the_definition_is_one_of_the_model(case: Case) -> None:
    """What a rule accepts the models read; what it refuses they refuse, at the same field or above it."""
    read = parse_manifest if case.kind == "DurableFunction" else parse_store
    read(case.accepted)
    if case.before is not None:
        return  # a rule about a change, of which a manifest alone knows nothing
    with pytest.raises(SpecError) as caught:
        read(case.refused)
    path = caught.value.path.removeprefix("manifest: ")
    field = case.field.removesuffix(".requests")
    assert path.startswith(field) or field.startswith(path) or path == field, (path, field)


@given(st.sampled_from(VARIANTS), st.randoms(use_true_random=False))
def test_what_the_models_read_the_cluster_takes(spec: dict[str, Any], random: Random) -> None:
    """Junk anywhere in a document: if it is still a manifest, it still fits the schema."""
    given = with_junk(spec, random)
    if reads(given):
        assert fits(FUNCTION, given)
