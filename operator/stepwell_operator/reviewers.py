"""The gateways that may ask the API server about tokens: the subjects of one ClusterRoleBinding, which the chart made for that.

TokenReviews belong to no namespace, so that a RoleBinding can't give the right. A right to make ClusterRoleBindings would be a
right over the cluster; so the operator changes the subjects of this one alone, and may bind the one role that it names.
"""

import asyncio
import time
from collections.abc import Callable

import structlog

from stepwell_operator.cluster import CLUSTER_ROLE_BINDING, Cluster, ClusterError, Conflict, Document
from stepwell_operator.world import Key, listed

Change = Callable[[set[Key]], set[Key]]
"""From the ServiceAccounts that may ask to those that are to."""
READ_AGAIN = 60.0
"""Seconds after which the binding is read again: somebody else may have changed it."""


class Reviewers:
    """One binding's subjects. Without it (or the right to it) gateways know their keys and no tokens, which is logged."""

    def __init__(self, cluster: Cluster, binding: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._binding = binding
        self._clock = clock
        self._turn = asyncio.Lock()
        self._known: set[tuple[str, str]] = set()
        self._read = float("-inf")
        self._log = structlog.get_logger("stepwell.operator")

    async def add(self, namespace: str, account: str) -> None:
        """Let this ServiceAccount ask."""
        if self._binding and ((namespace, account) not in self._known or self._clock() - self._read > READ_AGAIN):
            await self._change(lambda there: there | {(namespace, account)})

    async def remove(self, namespace: str, account: str) -> None:
        """Let it ask no more."""
        if self._binding:
            await self._change(lambda there: there - {(namespace, account)})

    async def keep(self, wanted: Callable[[str, str], bool]) -> None:
        """Let those ServiceAccounts ask no more that aren't wanted, given their namespaces and names."""
        if self._binding:
            await self._change(lambda there: {one for one in there if wanted(*one)})

    async def _change(self, change: Change) -> None:
        async with self._turn:
            try:
                await self._write(change)
            except Conflict:
                raise  # whoever reconciles comes again
            except ClusterError as error:
                self._log.warning("gateways can't be let ask about tokens", binding=self._binding, error=str(error))

    async def _write(self, change: Change) -> None:
        document = await self._cluster.get(CLUSTER_ROLE_BINDING, None, self._binding)
        if document is None:
            self._log.warning("there is no ClusterRoleBinding for gateways that ask about tokens", binding=self._binding)
            return
        subjects = listed(document.get("subjects"))
        others = [one for one in subjects if one.get("kind") != "ServiceAccount"]  # whoever put a person there meant it
        there = {(str(one.get("namespace")), str(one.get("name"))) for one in subjects if one not in others}
        wanted = change(there)
        if wanted != there:
            new = {**document, "subjects": [*others, *(_subject(*one) for one in sorted(wanted))]}
            await self._cluster.replace(CLUSTER_ROLE_BINDING, "", self._binding, new)
        self._known, self._read = wanted, self._clock()


def _subject(namespace: str, account: str) -> Document:
    return {"kind": "ServiceAccount", "name": account, "namespace": namespace}
