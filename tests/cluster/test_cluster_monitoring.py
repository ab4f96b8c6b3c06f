"""What the chart gives to Prometheus: alerts that can be changed one by one, monitors with limits."""

from __future__ import annotations

import json

import pytest
from chart import Manifest, Values, manifests, the
from generators.alerts import load_alerts

NAMES = {alert.name for alert in load_alerts()}


def alerts(**values: object) -> dict[str, Manifest]:
    made = the(manifests({"monitoring": {"rules": {"enabled": True, **values}}}), "PrometheusRule")
    (group,) = made["spec"]["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def test_an_alert_can_be_left_out() -> None:
    assert alerts().keys() == NAMES
    left = alerts(alerts={"VisionR1StepStalled": {"enabled": False}, "VisionR1Overthinking": {"enabled": True}})
    assert left.keys() == NAMES - {"VisionR1StepStalled"}


@pytest.mark.parametrize(
    ("operator", "pattern"),
    [
        ({}, "vision"),
        ({"watchNamespaces": ["vision", "team-b"]}, "vision|team-b"),
        ({"watchNamespaces": ["team-a", "*"]}, ".+"),
        ({"enabled": False, "watchNamespaces": ["vision", "team-b"]}, "vision"),
    ],
    ids=["its own", "two", "all", "a run alone"],
)
def test_an_alert_is_about_the_namespaces_of_its_release(operator: Values, pattern: str) -> None:
    """Two releases in one Prometheus would alert twice, and the switches of one would have no effect."""
    made = the(manifests({"monitoring": {"rules": {"enabled": True}}, "operator": operator}), "PrometheusRule")
    rules = {rule["alert"]: rule["expr"] for rule in made["spec"]["groups"][0]["rules"]}
    of_operator = {name: rules.pop(name) for name in ("VisionR1OperatorDown", "VisionR1ReconcileErrors") if name in rules}
    assert len(of_operator) == (0 if operator.get("enabled") is False else 2), "without one, its alerts could never be silent"
    assert all('{namespace="vision"}' in expr for expr in of_operator.values()), "it is in the release's own namespace"
    assert rules.keys() | of_operator.keys() == (NAMES if of_operator else rules.keys())
    for expr in rules.values():
        assert expr.count("namespace=~") == expr.count(f'namespace=~"{pattern}"') > 0


def test_an_alert_can_have_another_severity_time_and_labels() -> None:
    mine = {"severity": "warning", "for": "1h", "labels": {"team": "b", "page": "no"}}
    made = alerts(alertLabels={"team": "a"}, alerts={"VisionR1StepStalled": mine})
    one = made.pop("VisionR1StepStalled")
    assert one["labels"] == {"severity": "warning", "team": "b", "page": "no"} and one["for"] == "1h"
    before = alerts()
    for name, rule in made.items():
        assert rule == {**before[name], "labels": {**before[name]["labels"], "team": "a"}}


def test_an_alert_without_a_time_keeps_its_own() -> None:
    assert {name: rule["for"] for name, rule in alerts().items()} == {one.name: one.hold for one in load_alerts()}


@pytest.mark.parametrize("url", ["https://docs.example/visionr1/alerts.html"])
def test_a_runbook_is_an_address_that_a_browser_opens(url: str) -> None:
    for name, rule in alerts(runbookUrl=url).items():
        assert rule["annotations"]["runbook_url"] == f"{url}#{name.lower()}"
        assert rule["annotations"]["summary"] == alerts()[name]["annotations"]["summary"]
    assert {rule["annotations"]["runbook"] for rule in alerts().values()} == {f"docs/alerts.md#{name.lower()}" for name in NAMES}


def monitors(**values: object) -> dict[str, Manifest]:
    made = manifests({"monitoring": {"podMonitor": {"enabled": True, **values}}})
    return {one["metadata"]["name"]: one["spec"] for one in made if one["kind"] == "PodMonitor"}


def test_scrapes_have_limits() -> None:
    limits = {"sampleLimit": 5, "targetLimit": 6, "labelLimit": 7, "labelNameLengthLimit": 8, "labelValueLengthLimit": 9}
    for spec in monitors(**limits, scrapeTimeout="10s").values():
        assert limits.items() <= spec.items()
        assert {endpoint["scrapeTimeout"] for endpoint in spec["podMetricsEndpoints"]} == {"10s"}
    for spec in monitors().values():
        assert {name for name in spec if name.endswith("Limit")} == {"sampleLimit"}, "0 is no limit, and not a limit of 0"


def test_labels_can_be_changed_before_and_after_a_scrape() -> None:
    before = [{"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node"}]
    after = [{"sourceLabels": ["__name__"], "regex": "go_.*", "action": "drop"}]
    made = monitors(relabelings=before, metricRelabelings=after)
    before = [{**before[0], "action": "replace"}]
    for spec in made.values():
        for endpoint in spec["podMetricsEndpoints"]:
            assert endpoint["metricRelabelings"] == after and endpoint["relabelings"][-1:] == before
    (ray,) = made["ptst-ray"]["podMetricsEndpoints"]
    assert [one["targetLabel"] for one in ray["relabelings"]] == ["ray_io_cluster", "node"]
    assert {one["action"] for one in ray["relabelings"]} == {"replace"}, "the default of the definition, which it would add"
    assert "relabelings" not in json.dumps(monitors()["ptst-run"])


def test_the_operator_s_series_keep_the_namespace_of_their_run() -> None:
    made = monitors()
    assert [one.get("honorLabels") for one in made["ptst-operator"]["podMetricsEndpoints"]] == [True]
    assert {one.get("honorLabels") for name in ("ptst-run", "ptst-ray") for one in made[name]["podMetricsEndpoints"]} == {None}


def test_values_of_rules_are_checked_to_the_leaf() -> None:
    values: Values = {"monitoring": {"rules": {"enabled": True, "alerts": {"VisionR1StepStaled": {"enabled": False}}}}}
    with pytest.raises(AssertionError, match="VisionR1StepStaled"):
        manifests(values)


def test_a_label_of_everything_and_of_one_part_is_there_once() -> None:
    own = {"enabled": True, "labels": {"release": "prometheus"}}
    parts = {"podMonitor": own, "rules": own, "dashboards": own}
    made = manifests({"commonLabels": {"release": "all", "team": "vision"}, "monitoring": parts})
    found = [one["metadata"]["labels"] for one in made if one["kind"] in ("PodMonitor", "PrometheusRule", "ConfigMap")]
    assert len(found) == 8
    assert {(labels["release"], labels["team"]) for labels in found} == {("prometheus", "vision")}
