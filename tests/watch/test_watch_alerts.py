"""Each alert has cases for promtool, which `make e2e` runs, and a runbook; the chart's rules are those of the alerts."""

import re
from pathlib import Path

import pytest
import yaml
from generators.alerts import Alert, fill, load_alerts

from visionr1.watch.thresholds import THRESHOLDS

ALERTS = load_alerts()
ROOT = Path(__file__).parents[2]
RULES = ROOT / "charts" / "visionr1-ptst" / "rules"
CASES = Path(__file__).parent / "rules_test.yaml"


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_no_alert_is_left_out_of_those_cases(alert: Alert) -> None:
    checks = [check for case in yaml.safe_load(CASES.read_text())["tests"] for check in case["alert_rule_test"]]
    outcomes = {bool(check["exp_alerts"]) for check in checks if check["alertname"] == alert.name}
    assert outcomes == {True, False}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_each_alert_has_a_runbook_where_its_annotation_points(alert: Alert) -> None:
    page = (ROOT / "docs" / "alerts.md").read_text()
    headings = [heading.lower() for heading in re.findall(r"^## (.+)$", page, re.MULTILINE)]
    assert headings.count(alert.anchor) == 1
    assert len(alert.runbook.split()) > 30


def without_namespaces(template: str) -> str:
    """The rules of the chart as they are for any Prometheus."""
    twice = re.sub(r"\((DCGM_\w+){namespace=~@watched@} or \1{exported_namespace=~@watched@}\)", r"\1", template)
    return fill(re.sub(r'namespace=(~@watched@|"@namespace@"),?', "", twice).replace("{}", ""))


def test_each_series_of_the_chart_s_rules_is_in_a_namespace_of_its_release() -> None:
    rules = yaml.safe_load(fill((RULES / "visionr1-ptst.yaml.in").read_text()))["groups"][0]["rules"]
    for rule in rules:
        series = re.findall(r"\b(?:visionr1_|DCGM_)\w+(?:{[^}]*})?", rule["expr"])
        assert series and all('namespace=~"NAMESPACE"' in one or 'namespace="NAMESPACE"' in one for one in series), rule["alert"]


def test_the_rules_of_the_chart_are_the_plain_ones_and_the_operators_own_once_thresholds_are_filled_in() -> None:
    template = (RULES / "visionr1-ptst.yaml.in").read_text()
    plain = yaml.safe_load((RULES / "visionr1-ptst.yaml").read_text())
    rules = yaml.safe_load(without_namespaces(template))["groups"][0]["rules"]
    assert rules[:-1] == plain["groups"][0]["rules"]
    assert rules[-1]["alert"] == "VisionR1OperatorDown", "which would never be silent on a machine without one"
    names = {threshold.name for threshold in THRESHOLDS} | {"namespace", "watched"}
    assert set(re.findall(r"@(\w+)@", template.partition("\n")[2])) == names
    values = yaml.safe_load((RULES.parent / "values.yaml").read_text())
    assert values["monitoring"]["rules"]["thresholds"] == {one.name: one.default for one in THRESHOLDS}
