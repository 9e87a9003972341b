"""Debian's Prometheus inside the cluster: it finds operator, gateways and runners as the chart's monitors say, and every query has an answer."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import yaml
from chart.rendering import MONITORING, Chart, Object
from cluster.harness.ground import NODE_ADDRESS
from cluster.harness.node import NodeCluster
from cluster.harness.program import Program
from cluster.node.release import Release, Town
from cluster.operation import function
from monitoring.conftest import prometheus
from monitoring.queries import ask, queries, series_in

from stepwell_operator.monitoring.alerts import ALERTS
from stepwell_operator.monitoring.recording import recordings
from stepwell_operator.monitoring.rules import rules_text

__all__ = ["prometheus"]

pytestmark = [pytest.mark.cluster, pytest.mark.node, pytest.mark.timeout(400)]
SETS = (
    "metrics.serviceMonitor.enabled=true",
    "metrics.podMonitor.enabled=true",
    "metrics.podMonitor.gatewayToken.secret=token",
)
PORT = 9090
BUSY = """
from stepwell import Context, NonRetriableError, current_step

def charge(n: int) -> int:
    if current_step().attempt == 0:
        raise ConnectionError("the bank is busy")
    return n

async def main(ctx: Context) -> int:
    n = ctx.event.data.get("n", 0)
    if n == 13:
        raise NonRetriableError("thirteen")
    await ctx.step.run("charge", charge, n)
    await ctx.step.sleep("nap", "1s")
    return await ctx.step.run("ship", lambda: n)
"""
EMPTY = {
    "stepwell_paused_runs": "nothing is paused",
    "stepwell_store_errors_total": "the store did not fail",
    "stepwell_recovery_seconds_bucket": "no runner died under the eyes of another",
    "stepwell_spans_lost_total": "no traces are sent",
    "stepwell_reconcile_errors_total": "no reconcile failed",
}
"""Series that these minutes have no figures of, and why."""


async def test_every_query_is_answered_by_pods(
    town: Town, release: Release, node_cluster: NodeCluster, prometheus: Path, tmp_path: Path
) -> None:
    """With operator, gateway and runner scraped in their pods, every query of every panel and rule has data or a reason why not."""
    backoff = {"strategy": "fixed", "base": "1s", "jitter": "0s"}
    triggers = [{"event": "go"}, {"cron": "* * * * *"}]
    town.apply(function("busy", BUSY, triggers=triggers, backoff=backoff, concurrency=[{"limit": 2}]))
    town.ready("busy", 90)
    key = town.learn()
    jobs = [job(one, town, tmp_path) for one in Chart(release.helm).objects(SETS, *MONITORING) if one["kind"].endswith("Monitor")]
    assert len(jobs) == 3
    async with inside(node_cluster, prometheus, tmp_path, jobs) as url, aiohttp.ClientSession() as session:
        await until_up(session, url, {"operator": 2, "gateways": 1, "runners": 1})
        until = time.monotonic() + 75  # the cron has ticked by then
        while time.monotonic() < until:
            town.send(key, *({"name": "go", "data": {"n": n}} for n in range(14)))
            await asyncio.sleep(5)
        answers = {where: await ask(session, url, "query", query=query) for where, query in queries().items()}
        health = await ask(session, url, "rules")
    broken = {where: answer for where, answer in answers.items() if answer["status"] != "success"}
    assert not broken
    empty = {where: queries()[where] for where, answer in answers.items() if not answer["data"]["result"]}
    unexplained = {where: query for where, query in empty.items() if not series_in(query) & set(EMPTY)}
    assert not unexplained
    told = [rule for group in health["data"]["groups"] for rule in group["rules"]]
    assert len(told) == len(ALERTS) + len(list(recordings()))
    assert {rule["health"] for rule in told} == {"ok"}, [rule.get("lastError") for rule in told]


def job(monitor: Object, town: Town, folder: Path) -> Object:
    """What Prometheus' operator makes of a monitor: it keeps what has its labels, at the port of its name."""
    spec = monitor["spec"]
    pods = monitor["kind"] == "PodMonitor"
    [endpoint] = spec["podMetricsEndpoints" if pods else "endpoints"]
    meta = "__meta_kubernetes_pod" if pods else "__meta_kubernetes_service"
    named = "__meta_kubernetes_pod_container_port_name" if pods else "__meta_kubernetes_endpoint_port_name"
    kept = {
        f"{meta}_label_{re.sub('[^a-zA-Z0-9_]', '_', name)}": value for name, value in spec["selector"]["matchLabels"].items()
    }
    kept[named] = endpoint["port"]
    home = spec.get("namespaceSelector", {}).get("any") is not True
    where = {"namespaces": {"names": [monitor["metadata"]["namespace"]]}} if home else {}
    kubeconfig = str(town.node.plane.kubeconfig)
    made: Object = {
        "job_name": monitor["metadata"]["name"].rpartition("-")[2],
        "metrics_path": endpoint["path"],
        "honor_labels": endpoint.get("honorLabels", False),
        "kubernetes_sd_configs": [{"role": "pod" if pods else "endpoints", "kubeconfig_file": kubeconfig, **where}],
        "relabel_configs": [
            *({"source_labels": [name], "regex": re.escape(value), "action": "keep"} for name, value in kept.items()),
            {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
            {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
        ],
    }
    if "authorization" in endpoint:
        (folder / "token").write_text(town.key("key"), encoding="utf-8")
        made["authorization"] = {"credentials_file": str(folder / "token")}
    return made


@asynccontextmanager
async def inside(cluster: NodeCluster, prometheus: Path, folder: Path, jobs: list[Object]) -> AsyncIterator[str]:
    """A Prometheus in the cluster's network that scrapes every second; its address on this side."""
    (folder / "rules.yaml").write_text(rules_text().replace("interval: 30s", "interval: 2s"), encoding="utf-8")
    pace = {"scrape_interval": "1s", "evaluation_interval": "2s"}
    (folder / "prometheus.yaml").write_text(
        yaml.safe_dump({"global": pace, "rule_files": ["rules.yaml"], "scrape_configs": jobs}), encoding="utf-8"
    )
    command = [
        prometheus / "prometheus",
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={NODE_ADDRESS}:{PORT}",
    ]
    program = Program("prometheus", cluster.inside(*command), folder / "prometheus.log")
    program.start()
    try:
        yield f"http://127.0.0.1:{cluster.reach(NODE_ADDRESS, PORT)}"
    finally:
        program.stop(20)


async def until_up(session: aiohttp.ClientSession, url: str, counts: dict[str, int]) -> None:
    """Come back once so many targets of each job answer."""
    seen: dict[str, int] = {}
    for _ in range(300):
        try:
            found = (await ask(session, url, "query", query="sum by (job) (up)"))["data"]["result"]
        except aiohttp.ClientError:
            found = []
        seen = {one["metric"]["job"]: int(float(one["value"][1])) for one in found}
        if seen == counts:
            return
        await asyncio.sleep(0.2)
    raise AssertionError(f"after a minute Prometheus scrapes {seen}, not {counts}")
