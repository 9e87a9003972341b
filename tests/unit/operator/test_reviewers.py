"""Whose gateways may ask about tokens: those of wells in use, and whoever else was put there."""

from typing import Any, cast

import pytest
from unit.operator.observations import seen_of

from stepwell_operator.cluster import CLUSTER_ROLE_BINDING, ClusterError, Document, Kind
from stepwell_operator.metrics import OperatorMetrics
from stepwell_operator.reconcile import Reconciler
from stepwell_operator.rounds import Rounds
from stepwell_operator.settings import Settings
from stepwell_operator.workqueue import Item
from stepwell_operator.world import Child

PERSON: Document = {"kind": "User", "name": "ada", "apiGroup": "rbac.authorization.k8s.io"}


def account(namespace: str, name: str = "stepwell-gateway") -> Document:
    return {"kind": "ServiceAccount", "name": name, "namespace": namespace}


class Binding:
    """An API server that has one ClusterRoleBinding; `down` refuses its writes."""

    def __init__(self, *subjects: Document) -> None:
        self.subjects = list(subjects)
        self.down = False
        self.writes = 0

    def to_write(self) -> None:
        """Whoever asks leads."""

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Document:
        del namespace, name
        assert kind is CLUSTER_ROLE_BINDING
        return {"metadata": {"resourceVersion": "1"}, "subjects": self.subjects}

    async def replace(self, kind: Kind, namespace: str, name: str, document: Document) -> None:
        del kind, namespace, name
        if self.down:
            raise ClusterError("down")
        self.writes += 1
        self.subjects = document["subjects"]


def operator(binding: Binding, *namespaces: str) -> Reconciler:
    """An operator to which the function `shop/one`, of its namespace's default store, is there."""
    settings = Settings("stepwell", "operator-0", token_reviewers="reviewers", namespaces=namespaces)
    made = Reconciler(cast("Any", binding), settings, OperatorMetrics())
    seen = seen_of()
    made.world.functions[seen.key] = seen
    return made


async def test_a_gateway_that_went_unseen_may_ask_no_more() -> None:
    """A resync takes out subjects of wells that nobody uses, and writes nothing once there is none; a failed write is made up for."""
    binding = Binding(account("shop"), account("old"), account("shop", "stepwell-gateway-old"))
    one = operator(binding)
    Rounds(one).resync(0.0)
    assert Item("reviewers", "", "") in one.queue._waiting
    binding.down = True
    await one.work(Item("reviewers", "", ""))
    binding.down = False
    for _ in range(2):
        await one.work(Item("reviewers", "", ""))
    assert (binding.subjects, binding.writes) == ([account("shop")], 1)


@pytest.mark.parametrize(
    "subject",
    [PERSON, account("old", "somebody"), account("elsewhere")],
    ids=["a person", "another's ServiceAccount", "another operator's gateway"],
)
async def test_what_is_not_ours_stays(subject: Document) -> None:
    """Only ServiceAccounts named as gateways are, in namespaces that this operator watches, are taken out."""
    binding = Binding(account("old"), subject)
    await operator(binding, "shop", "old").work(Item("reviewers", "", ""))
    assert binding.subjects == [subject]


async def test_a_gateway_that_is_there_still_may_ask() -> None:
    """While the ServiceAccount of a well that nobody uses any more is there, its gateway may be at work."""
    binding = Binding(account("old"))
    one = operator(binding)
    place = ("ServiceAccount", "old", "stepwell-gateway")
    one.world.children[place] = cast("Child", None)
    await one.work(Item("reviewers", "", ""))
    assert binding.subjects == [account("old")]
    del one.world.children[place]
    await one.work(Item("reviewers", "", ""))
    assert binding.subjects == []
