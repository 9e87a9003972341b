"""Debian's Prometheus inside the cluster: it finds operator, gateways and runners as the chart's monitors say, and every query has an answer."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest
import yaml
from chart.rendering import MONITORING, Chart, Object
from cluster.harness.api import Api
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
ONCE = """
async def main(ctx):
    return 1
"""
EMPTY = {
    "stepwell_paused_runs": "nothing is paused",
    "stepwell_run_progress_ratio": "no function is named in STEPWELL_METRICS_STEPS",
    "stepwell_store_errors_total": "the store did not fail",
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
    town.apply(function("once", ONCE, idempotency="event.data.pair"))
    town.ready("busy", 90)
    town.ready("once", 90)
    key = town.learn()
    jobs = [job(one, town, tmp_path) for one in Chart(release.helm).objects(SETS, *MONITORING) if one["kind"].endswith("Monitor")]
    assert len(jobs) == 3
    async with inside(node_cluster, prometheus, tmp_path, jobs) as url, aiohttp.ClientSession() as session:
        await until_up(session, url, {"operator": 2, "gateways": 1, "runners": 2})
        until = time.monotonic() + 75  # the cron has ticked by then
        for turn in range(1000):
            town.send(key, *({"name": "go", "data": {"n": n, "pair": f"{turn}-{n // 2}"}} for n in range(14)))
            await asyncio.sleep(5)
            if time.monotonic() > until:
                break
        answers = {where: await ask(session, url, "query", query=query) for where, query in queries().items()}
        health = await ask(session, url, "rules")
    broken = {where: answer for where, answer in answers.items() if answer["status"] != "success"}
    assert not broken
    empty = {where: queries()[where] for where, answer in answers.items() if not answer["data"]["result"]}
    unexplained = {
        where: query for where, query in empty.items() if not query.startswith("absent(") and not series_in(query) & set(EMPTY)
    }
    assert not unexplained
    filled = {name for where, query in queries().items() if where not in empty for name in series_in(query)}
    assert sorted(filled & set(EMPTY)) == [], "there are figures: take these from the list"
    assert {query for query in queries().values() if query.startswith("absent(")} <= set(empty.values()), "all parts are there"
    told = [rule for group in health["data"]["groups"] for rule in group["rules"]]
    assert len(told) == len(ALERTS) + len(list(recordings()))
    assert {rule["health"] for rule in told} == {"ok"}, [rule.get("lastError") for rule in told]


def job(monitor: Object, town: Town, folder: Path) -> Object:
    """What Prometheus' operator makes of a monitor. Debian's Prometheus can't ask Kubernetes by itself, so the targets are looked up here."""
    spec = monitor["spec"]
    pods = monitor["kind"] == "PodMonitor"
    [endpoint] = spec["podMetricsEndpoints" if pods else "endpoints"]
    everywhere = spec.get("namespaceSelector", {}).get("any") is True
    place = "/api/v1" if everywhere else f"/api/v1/namespaces/{monitor['metadata']['namespace']}"
    selector = quote(",".join(f"{name}={value}" for name, value in spec["selector"]["matchLabels"].items()))
    find = pods_behind if pods else endpoints_behind
    found = find(town.api, place, selector, endpoint["port"])
    made: Object = {
        "job_name": monitor["metadata"]["name"].rpartition("-")[2],
        "metrics_path": endpoint["path"],
        "honor_labels": endpoint.get("honorLabels", False),
        "static_configs": [
            {"targets": [address], "labels": {"pod": name, "namespace": namespace}} for address, name, namespace in found
        ],
    }
    if "authorization" in endpoint:
        (folder / "token").write_text(town.key("key"), encoding="utf-8")
        made["authorization"] = {"credentials_file": str(folder / "token")}
    return made


Target = tuple[str, str, str]
"""Address with port, the pod's name, its namespace."""


def pods_behind(api: Api, place: str, selector: str, port: str) -> Iterator[Target]:
    """The pods with these labels that have a port of that name."""
    for pod in api.items(f"{place}/pods?labelSelector={selector}"):
        for container in pod["spec"]["containers"]:
            for one in container.get("ports", ()):
                if one["name"] == port:
                    metadata = pod["metadata"]
                    yield f"{pod['status']['podIP']}:{one['containerPort']}", metadata["name"], metadata["namespace"]


def endpoints_behind(api: Api, place: str, selector: str, port: str) -> Iterator[Target]:
    """What stands behind the Services with these labels, at the port of that name."""
    for service in api.items(f"{place}/services?labelSelector={selector}"):
        metadata = service["metadata"]
        behind = api.get(f"/api/v1/namespaces/{metadata['namespace']}/endpoints/{metadata['name']}")
        for subset in behind["subsets"]:
            [number] = [one["port"] for one in subset["ports"] if one["name"] == port]
            for one in subset["addresses"]:
                yield f"{one['ip']}:{number}", one["targetRef"]["name"], metadata["namespace"]


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
        program.wait_until(lambda: "Server is ready" in program.tail())
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
