"""Alerts: each fires when it should and not when it shouldn't, says what helps, and has its runbook page."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from monitoring.alert_cases import CASES, Case

from stepwell.metrics.catalogue import CATALOGUE, Type
from stepwell.store.protocol import Store
from stepwell_operator.monitoring.__main__ import files
from stepwell_operator.monitoring.alerts import ALERTS, ON_A_RUNS_WAY, Alert
from stepwell_operator.monitoring.boards import BOARDS
from stepwell_operator.monitoring.recording import recordings
from stepwell_operator.monitoring.rules import annotations, rules_text

ROOT = Path(__file__).parents[2]
RUNBOOKS = ROOT / "docs" / "runbooks"
SECTIONS = ["Symptom", "Impact", "Check", "Mend", "Verify"]
SERIES = {one.name for one in CATALOGUE if one.type is not Type.HISTOGRAM} | {
    f"{one}_{part}" for one in CATALOGUE if one.type is Type.HISTOGRAM for part in ("bucket", "count", "sum")
}


def names_in(query: str) -> set[str]:
    """The metrics that a query names."""
    return set(re.findall(r"\bstepwell_[a-z_]+", query))


def expanded(text: str, labels: dict[str, str], value: str) -> str:
    """An annotation as Prometheus writes it out."""
    text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: labels[found[1]], text)
    return re.sub(r"\{\{ \$value[^}]*\}\}", value, text)


def expected(alert: Alert, case: Case) -> list[dict[str, Any]]:
    if case.fires is None or (case.severities and alert.severity not in case.severities):
        return []
    labels, value = case.fires
    told = {name: expanded(text, labels, value) for name, text in annotations(alert).items()}
    return [{"exp_labels": {**labels, "severity": alert.severity}, "exp_annotations": told}]


def as_promtool(name: str, case: Case, interval: str) -> dict[str, Any]:
    """One case as promtool's test file has it; a value stands for every interval."""
    alerts = [one for alert in of(name) for one in expected(alert, case)]
    return {
        "interval": interval,
        "input_series": [{"series": series, "values": values} for series, values in case.series.items()],
        "alert_rule_test": [{"eval_time": case.at, "alertname": name, "exp_alerts": alerts}],
    }


def of(name: str) -> list[Alert]:
    return [alert for alert in ALERTS if alert.name == name]


def test_what_runs_wait_for_are_verbs_of_the_store() -> None:
    """StepwellStoreSlow looks at verbs by their names: each of them is one that the store has."""
    assert [verb for verb in ON_A_RUNS_WAY.split("|") if not callable(getattr(Store, verb, None))] == []


def test_every_alert_has_cases_that_fire_and_that_dont() -> None:
    """Each alert, and each severity of it, has figures on which it fires, and figures on which it doesn't."""
    assert set(CASES) == {alert.name for alert in ALERTS}
    for name, cases in CASES.items():
        assert any(case.fires is None for case in cases)
        for alert in of(name):
            assert any(case.fires is not None and alert.severity in (case.severities or (alert.severity,)) for case in cases)


@pytest.mark.parametrize("name", CASES)
def test_the_alert_fires_when_it_should(name: str, prometheus: Path, tmp_path: Path) -> None:
    """`promtool test rules`: on these figures the alert fires with its labels and texts, on those it stays silent."""
    (tmp_path / "rules.yaml").write_text(rules_text(), encoding="utf-8")
    long = [case for case in CASES[name] if case.at.endswith("d")]
    short = [case for case in CASES[name] if case not in long]
    # Days are looked at every half an hour: every minute would take promtool minutes.
    for file, cases, interval, evaluation in (("short.yaml", short, "1m", "1m"), ("long.yaml", long, "2m", "30m")):
        tests = [as_promtool(name, case, interval) for case in cases]
        # Without an order promtool takes the groups as they come, alerts before what they are made from as well.
        document = {
            "rule_files": ["rules.yaml"],
            "evaluation_interval": evaluation,
            "group_eval_order": [group["name"] for group in yaml.safe_load(rules_text())["groups"]],
            "tests": tests,
        }
        (tmp_path / file).write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    command = [str(prometheus / "promtool"), "test", "rules", "short.yaml", "long.yaml"]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_rules(prometheus: Path, tmp_path: Path) -> None:
    """`promtool check rules` finds nothing wrong."""
    file = tmp_path / "rules.yaml"
    file.write_text(rules_text(), encoding="utf-8")
    command = [str(prometheus / "promtool"), "check", "rules", str(file)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS, ids=lambda one: f"{one.name}-{one.severity}")
def test_every_alert_says_what_helps(alert: Alert) -> None:
    """Each alert has a severity of the four, a sentence, a description, its runbook's and its board's address."""
    told = annotations(alert)
    assert alert.severity in {"page", "ticket", "warn", "info"}
    assert set(told) == {"summary", "description", "runbook_url", "dashboard_url"}
    assert all(told.values())
    assert told["runbook_url"].endswith(f"/{alert.runbook}")
    assert alert.board in {board.name for board in BOARDS}
    kept = re.findall(r"\$labels\.(\w+)", " ".join(told.values()))
    by = re.findall(r"(?:by|on) \(([^)]*)\)|absent\(\w+\{(\w+)=", alert.expr)
    there = {name.strip() for group in by for part in group for name in part.split(",")}
    recorded = {"namespace"} if "stepwell:" in alert.expr else set[str]()
    assert set(kept) <= there | recorded, f"{alert.name} speaks of a label that its expression drops"


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    """docs/runbooks has exactly the pages that alerts name, each listed in its README."""
    pages = {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"}
    assert pages == {alert.runbook for alert in ALERTS}
    listed = set(re.findall(r"\]\((\w+)\.md\)", (RUNBOOKS / "README.md").read_text(encoding="utf-8")))
    assert listed == pages


@pytest.mark.parametrize("name", sorted({alert.runbook for alert in ALERTS}))
def test_every_page_says_how_to_mend_it(name: str) -> None:
    """A runbook page has symptom, impact, check, mend and verify, none empty, and names each of its alerts."""
    text = (RUNBOOKS / f"{name}.md").read_text(encoding="utf-8")
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    assert parts[1::2] == SECTIONS
    assert all(part.strip() for part in parts[2::2])
    for alert in ALERTS:
        if alert.runbook == name:
            assert f"`{alert.name}`" in text


def test_rules_name_only_what_there_is() -> None:
    """Every series that a rule asks for is in the table of metrics, and every recorded one is recorded."""
    known = {name for name, _ in recordings()}
    for query in (*(alert.expr for alert in ALERTS), *(expr for _, expr in recordings())):
        assert names_in(query) <= SERIES, names_in(query) - SERIES
        assert set(re.findall(r"stepwell:\w+:\w+", query)) <= known


def test_what_is_generated_is_up_to_date() -> None:
    """The chart's rules and boards and the page of metrics are what the tables make."""
    for path, text in files(ROOT).items():
        assert path.exists(), f"{path} is missing: make generate"
        assert path.read_text(encoding="utf-8") == text, f"{path} is out of date: make generate"
