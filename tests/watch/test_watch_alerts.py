"""The rules in Prometheus' own checker: each alert fires when it should, and is silent when it should not."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from generators.alerts import fill, load_alerts

from visionr1.watch.thresholds import THRESHOLDS

ALERTS = load_alerts()
ROOT = Path(__file__).parents[2]
RULES = ROOT / "charts" / "visionr1-ptst" / "rules"
CASES = Path(__file__).parent / "rules_test.yaml"


@pytest.fixture(scope="module")
def promtool():
    found = shutil.which("promtool")
    assert found, "promtool is missing (Debian: apt-get install prometheus)"

    def run(*arguments):
        done = subprocess.run([found, *arguments], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_prometheus_takes_the_rules(promtool):
    assert f"{len(ALERTS) - 1} rules found" in promtool("check", "rules", str(RULES / "visionr1-ptst.yaml"))


def test_each_alert_fires_when_it_should_and_is_silent_when_it_should_not(promtool, tmp_path):
    rules, cases = tmp_path / "rules.yaml", tmp_path / "cases.yaml"
    rules.write_text(fill((RULES / "visionr1-ptst.yaml.in").read_text(), namespace="vision"))
    cases.write_text(CASES.read_text().replace("[RULES]", f"[{rules}]"))
    assert "SUCCESS" in promtool("test", "rules", str(cases))


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_no_alert_is_left_out_of_those_cases(alert):
    checks = [check for case in yaml.safe_load(CASES.read_text())["tests"] for check in case["alert_rule_test"]]
    outcomes = {bool(check["exp_alerts"]) for check in checks if check["alertname"] == alert.name}
    assert outcomes == {True, False}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_each_alert_has_a_runbook_where_its_annotation_points(alert):
    page = (ROOT / "docs" / "alerts.md").read_text()
    headings = [heading.lower() for heading in re.findall(r"^## (.+)$", page, re.MULTILINE)]
    assert headings.count(alert.anchor) == 1
    assert len(alert.runbook.split()) > 30


def test_the_rules_of_the_chart_are_the_plain_ones_and_the_operators_own_once_thresholds_are_filled_in():
    template = (RULES / "visionr1-ptst.yaml.in").read_text()
    plain = yaml.safe_load((RULES / "visionr1-ptst.yaml").read_text())
    rules = yaml.safe_load(fill(template))["groups"][0]["rules"]
    assert rules[:-1] == plain["groups"][0]["rules"]
    assert rules[-1]["alert"] == "VisionR1OperatorDown", "which would never be silent on a machine without one"
    names = {threshold.name for threshold in THRESHOLDS} | {"namespace"}
    assert set(re.findall(r"@(\w+)@", template.partition("\n")[2])) == names
    values = yaml.safe_load((RULES.parent / "values.yaml").read_text())
    assert values["monitoring"]["rules"]["thresholds"] == {one.name: one.default for one in THRESHOLDS}
