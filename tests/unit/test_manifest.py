"""`DurableFunction` manifests: read, refused with file, document and path, and written."""

import contextlib
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from stepwell.errors import SpecError
from stepwell.spec.function import CancelOn, CronTrigger, EventTrigger, validate
from stepwell.spec.manifest import ConfigMapSource, ImageSource, InlineSource, parse_manifest, parse_manifests, to_manifest

FULL = """\
apiVersion: stepwell.dev/v1alpha1
kind: DurableFunction
metadata: {name: process-order, namespace: shop, labels: {team: a}}
spec:
  triggers:
    - {event: order/created, if: event.data.total > 100}
    - {cron: "TZ=Europe/Paris 0 12 * * 5"}
  source:
    inline:
      handler: process_order
      code: |
        async def process_order(ctx):
            return None
  retries: 2
  concurrency: [{limit: 10}]
  idempotency: event.data.orderId
  cancelOn: [{event: order/cancelled, if: event.data.orderId == async.data.orderId}]
  timeouts: {start: 5m, run: 30m}
  runner: {pool: shop}
  storeRef: {name: default}
  replicas: 3
  suspend: true
"""


def document(**spec: Any) -> dict[str, Any]:
    source = {"image": {"image": "registry/shop:1.4", "handler": "shop.orders:go"}}
    return {
        "apiVersion": "stepwell.dev/v1alpha1",
        "kind": "DurableFunction",
        "metadata": {"name": "f"},
        "spec": {"source": source, **spec},
    }


def fault(given: object) -> SpecError:
    with pytest.raises(SpecError) as caught:
        parse_manifest(given, "f.yaml")
    return caught.value


def test_a_full_manifest_is_read() -> None:
    """Every part of the manifest arrives where it belongs."""
    [manifest] = parse_manifests(FULL)
    assert (manifest.name, manifest.namespace, manifest.replicas, manifest.suspend) == ("process-order", "shop", 3, True)
    assert (manifest.pool, manifest.store) == ("shop", "default")
    assert isinstance(manifest.source, InlineSource)
    assert manifest.source.code.startswith("async def process_order")
    assert manifest.spec == validate({
        "id": "process-order",
        "triggers": [EventTrigger("order/created", if_="event.data.total > 100"), CronTrigger("TZ=Europe/Paris 0 12 * * 5")],
        "retries": 2,
        "concurrency": 10,
        "idempotency": "event.data.orderId",
        "cancel_on": [CancelOn("order/cancelled", if_="event.data.orderId == async.data.orderId")],
        "timeouts": {"start": "5m", "finish": "30m"},
    })  # fmt: skip


def test_the_smallest_manifest_has_defaults() -> None:
    """A name and a source are enough."""
    manifest = parse_manifest(document())
    assert (manifest.replicas, manifest.suspend, manifest.pool, manifest.store, manifest.namespace) == (
        1,
        False,
        None,
        None,
        None,
    )
    assert manifest.source == ImageSource("registry/shop:1.4", "shop.orders:go")


def test_a_config_map_is_a_source() -> None:
    """Code may lie in one key of a ConfigMap."""
    manifest = parse_manifest(document(source={"configMap": {"name": "shop-code", "key": "orders.py", "handler": "go"}}))
    assert manifest.source == ConfigMapSource("shop-code", "orders.py", "go")


def test_a_file_may_hold_several_documents() -> None:
    """Documents are read in order; empty ones count for nothing."""
    text = "---\n" + FULL + "---\n---\n" + FULL.replace("process-order", "other")
    assert [manifest.name for manifest in parse_manifests(text)] == ["process-order", "other"]


@pytest.mark.parametrize(
    ("given", "path", "says"),
    [
        (None, "f.yaml", "is missing"),
        ([], "f.yaml", "must be a mapping"),
        (
            {"apiVersion": "v1", "kind": "Pod"},
            "f.yaml",
            "needs apiVersion stepwell.dev/v1alpha1 and kind DurableFunction, not 'v1' and 'Pod'",
        ),
        ({**document(), "sepc": {}}, "f.yaml", "'sepc'"),
        ({**document(), "metadata": None}, "f.yaml: metadata", "is missing"),
        ({**document(), "metadata": {}}, "f.yaml: metadata.name", "is missing"),
        ({**document(), "metadata": {"name": "A_b"}}, "f.yaml: metadata.name", "lower-case"),
        ({**document(), "metadata": {"name": "x" * 129}}, "f.yaml: metadata.name", "has 129 characters; at most 52"),
        ({**document(), "metadata": {"name": "f", "namespace": "a.b"}}, "f.yaml: metadata.namespace", "name of a namespace"),
        ({**document(), "spec": None}, "f.yaml: spec", "is missing"),
        (document(id="g"), "f.yaml: spec.id", "metadata.name"),
        (document(cancel_on=[]), "f.yaml: spec.cancel_on", "camelCase"),
        (document(retris=1), "f.yaml: spec.retris", "did you mean `retries`?"),
        (document(triggers=[{"event": "a", "if": "evnt.x"}]), "f.yaml: spec.triggers[0].if", "there is no 'evnt'"),
        (document(timeouts={"run": "x"}), "f.yaml: spec.timeouts.run", "not a duration"),
        (document(replicas=-1), "f.yaml: spec.replicas", "0 to 1000"),
        (document(replicas=True), "f.yaml: spec.replicas", "0 to 1000"),
        (document(suspend="no"), "f.yaml: spec.suspend", "true or false"),
        (document(runner={"pol": "x"}), "f.yaml: spec.runner.pol", "did you mean `pool`?"),
        (document(runner={"pool": "A"}), "f.yaml: spec.runner.pool", "lower-case"),
        (document(storeRef="default"), "f.yaml: spec.storeRef", "must be a mapping"),
        (document(source=None), "f.yaml: spec.source", "exactly one of inline, image and configMap"),
        (document(source={}), "f.yaml: spec.source", "not none"),
        (document(source={"inline": {}, "image": {}}), "f.yaml: spec.source", "not inline, image"),
        (document(source={"http": {"url": "https://a", "functionId": "b"}}), "f.yaml: spec.source.http", "not supported yet"),
        (document(source={"inline": {"handler": "f"}}), "f.yaml: spec.source.inline.code", "it is missing"),
        (document(source={"inline": {"code": "x" * 65_537, "handler": "f"}}), "f.yaml: spec.source.inline.code", "at most 65536"),
        (
            document(source={"inline": {"code": "x", "handler": "a:b"}}),
            "f.yaml: spec.source.inline.handler",
            "name of a function",
        ),
        (document(source={"image": {"image": "a b", "handler": "a:b"}}), "f.yaml: spec.source.image.image", "registry/shop:1.4"),
        (document(source={"image": {"image": "a", "handler": "f"}}), "f.yaml: spec.source.image.handler", "module:function"),
        (
            document(source={"image": {"image": "a", "handler": "m:f", "tag": "1"}}),
            "f.yaml: spec.source.image.tag",
            "no such option",
        ),
        (
            document(source={"configMap": {"name": "A", "key": "k", "handler": "f"}}),
            "f.yaml: spec.source.configMap.name",
            "ConfigMap",
        ),
        (document(source={"configMap": "x"}), "f.yaml: spec.source.configMap", "must be a mapping"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(given: object, path: str, says: str) -> None:
    """Each fault names the file and the path in the document, and says what to write."""
    error = fault(given)
    assert error.path == path
    assert says in error.message


def test_an_expression_fault_keeps_its_column_and_caret() -> None:
    """A broken filter in a manifest is shown with its column."""
    error = fault(document(triggers=[{"event": "a", "if": "event.x >> 1"}]))
    assert error.column is not None
    assert error.message.endswith("^")


def test_faults_of_all_documents_are_told_together() -> None:
    """One reading tells what is wrong in every document, by its number."""
    text = FULL.replace("retries: 2", "retries: 99") + "---\n" + FULL.replace("process-order", "b").replace("5m", "5x")
    with pytest.raises(SpecError) as caught:
        parse_manifests(text, "shop.yaml")
    assert "shop.yaml, document 1: spec.retries: must be at most 20" in str(caught.value)
    assert "shop.yaml, document 2: spec.timeouts.start: '5x' is not a duration" in str(caught.value)


def test_one_name_stands_once_in_a_file() -> None:
    """Two documents for one object are refused; the same name in two namespaces is two objects."""
    with pytest.raises(SpecError, match=r"document 2: metadata\.name: 'process-order' stands in this file twice"):
        parse_manifests(FULL + "---\n" + FULL)
    assert len(parse_manifests(FULL + "---\n" + FULL.replace("namespace: shop", "namespace: other"))) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no DurableFunction"),
        ("# nothing\n---\n---\n", "holds no DurableFunction"),
        ("a: &a [x]\nb: [*a, *a]", "aliases"),
        ("a: &a {<<: *a}", "aliases"),
        ("[" * 5000, "nested deeper than 20"),
        ("a: 1\na: 2", "'a' stands twice"),
        ("a: [1", "line 2, column 1"),
        ("a: b: c", "line 1, column 5"),
        ("? [a]\n: 1", "a key has to be text"),
        ("!!python/object/apply:os.system ['true']", "not YAML that can be read"),
        ("a: !custom 1", "not YAML that can be read"),
        ("a: 2026-13-45", "not YAML that can be read"),
        ("\0", "not YAML that can be read"),
        (b"\xff\xfe\x00", "not YAML that can be read"),
        ("---\na: 1\n" * 101, "more than 100 documents"),
        ("x" * 1_048_577, "at most 1048576"),
    ],
)
def test_yaml_that_grows_or_lies_is_refused(text: str | bytes, says: str) -> None:
    """Bombs, aliases, duplicate keys, foreign tags and broken text end in a SpecError that names the file."""
    with pytest.raises(SpecError, match=r"f\.yaml") as caught:
        parse_manifests(text, "f.yaml")
    assert says in str(caught.value)


def test_a_spec_is_written_as_a_manifest_that_reads_back() -> None:
    """What decorators configure becomes YAML with the same meaning."""
    spec = parse_manifests(FULL)[0].spec
    text = to_manifest(spec, "shop.orders:process_order", "registry/shop:1.4")
    [manifest] = parse_manifests(text)
    assert manifest.spec == spec
    assert manifest.source == ImageSource("registry/shop:1.4", "shop.orders:process_order")
    assert "cancelOn:\n    - event: order/cancelled\n" in text


def test_an_id_that_is_no_object_name_is_told_a_better_one() -> None:
    """Kubernetes allows fewer names than functions do."""
    with pytest.raises(SpecError, match="'process-order'"):
        to_manifest(validate({"id": "Process_Order"}), "m:f")


@given(st.text(max_size=200) | st.binary(max_size=200))
def test_no_text_breaks_the_reader(text: str | bytes) -> None:
    """Any bytes are refused with a SpecError (none of them is a manifest by chance)."""
    with pytest.raises(SpecError):
        parse_manifests(text)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["inline", "image", "code", "handler", "pool", "name"]), inner)
    ),
)


@given(st.dictionaries(st.sampled_from(["source", "runner", "storeRef", "replicas", "suspend", "triggers", "x"]), JSON))
def test_nonsense_in_a_manifest_is_always_a_spec_error(spec: dict[str, Any]) -> None:
    """Whatever stands in the spec is read or refused, never another exception, from YAML as from JSON."""
    text = yaml.safe_dump({**document(), "spec": spec})
    with contextlib.suppress(SpecError):
        assert parse_manifests(text)
