"""The rules in Prometheus' own checker: each alert fires when it should, and is silent when it should not."""

import subprocess
from pathlib import Path

from generators.alerts import fill, load_alerts

ROOT = Path(__file__).parents[2]
RULES = ROOT / "charts/visionr1-ptst/rules"
CASES = ROOT / "tests/watch/rules_test.yaml"
WATCHED = "|vision|team-b"
"""Two namespaces, and none at all: most series of the cases name no namespace."""


def promtool(*arguments: str) -> str:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_the_rules() -> None:
    assert f"{len(load_alerts()) - 1} rules found" in promtool("check", "rules", str(RULES / "visionr1-ptst.yaml"))


def test_each_alert_fires_when_it_should_and_is_silent_when_it_should_not(tmp_path: Path) -> None:
    rules, cases = tmp_path / "rules.yaml", tmp_path / "cases.yaml"
    rules.write_text(fill((RULES / "visionr1-ptst.yaml.in").read_text(), namespace="vision", watched=WATCHED))
    cases.write_text(CASES.read_text().replace("[RULES]", f"[{rules}]"))
    assert "SUCCESS" in promtool("test", "rules", str(cases))
