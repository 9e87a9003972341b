"""kopf is told of what the census hasn't read, and of nothing else of a list."""

from typing import Any

import pytest

from stepwell_operator.cluster import CONFIG_MAP, DEPLOYMENT, FUNCTION, Kind
from stepwell_operator.news import only_news
from stepwell_operator.world import Document, World, read_seen

FUNCTIONS = "/apis/stepwell.dev/v1alpha1/durablefunctions"


def item(name: str, version: int) -> Document:
    """A function as a list has it."""
    return {
        "metadata": {
            "namespace": "shop", "name": name, "uid": f"u-{name}", "resourceVersion": str(version),
            "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}],
        },
        "spec": {"source": {"inline": {"code": "x"}}},
    }  # fmt: skip


def unseen(kind: Kind, items: list[Document]) -> list[Document]:
    """Only what isn't called `known`."""
    del kind
    return [one for one in items if one["metadata"]["name"] != "known"]


def test_what_is_known_is_taken_out_of_a_list_and_the_rest_of_the_answer_stays() -> None:
    """A list loses what is known; its version and token, by which the watch goes on, stay."""
    head = {"resourceVersion": "7", "continue": "more"}
    answer = {"kind": "DurableFunctionList", "metadata": head, "items": [item("known", 5), item("new", 6)]}
    told = only_news(answer, FUNCTIONS, unseen)
    assert [one["metadata"]["name"] for one in told["items"]] == ["new"]
    assert (told["metadata"], told["kind"]) == (head, "DurableFunctionList")
    assert "managedFields" not in told["items"][0]["metadata"]
    assert told["items"][0]["spec"] == {"source": {"inline": {"code": "x"}}}


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (FUNCTIONS, FUNCTION),
        ("/apis/stepwell.dev/v1alpha1/namespaces/shop/durablefunctions", FUNCTION),
        ("/apis/apps/v1/deployments", DEPLOYMENT),
        ("/api/v1/namespaces/shop/configmaps", CONFIG_MAP),
        ("/api/v1/pods", None),
        ("/apis/other.dev/v1/deployments", None),
    ],
)
def test_only_lists_of_kinds_that_the_census_reads_are_cut(path: str, kind: Kind | None) -> None:
    """Pods, and kinds of the same plural elsewhere, are told whole."""
    asked: list[Kind] = []

    def none(kind: Kind, items: list[Document]) -> list[Document]:
        del items
        asked.append(kind)
        return []

    told = only_news({"items": [item("one", 5)]}, path, none)
    assert (asked, len(told["items"])) == (([], 1) if kind is None else ([kind], 0))


@pytest.mark.parametrize("answer", [{"kind": "Status", "code": 410}, [1], "text", None])
def test_what_is_no_list_is_handed_on(answer: Any) -> None:
    """Discovery, errors and single objects pass."""
    assert only_news(answer, FUNCTIONS, unseen) == answer


def test_a_record_is_no_bigger_than_its_json() -> None:
    """A buffer of a writer's, kept whole, would take kilobytes more for each of three documents a function."""
    world = World()
    world.see(item("one", 5), world.functions)
    spec = read_seen(item("one", 5)).spec
    assert spec.__sizeof__() <= len(spec) + 40
