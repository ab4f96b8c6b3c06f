"""The alerts of `alerts.yaml` as Prometheus rules and as the page of runbooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

import yaml
from pydantic import Field

from generators import CHART, ROOT, made_from
from generators.source import NAME, Part, checked, read
from visionr1.errors import BadInput
from visionr1.watch.thresholds import THRESHOLDS

SOURCE: Final = Path(__file__).with_name("alerts.yaml")
RUNBOOKS: Final = "docs/alerts.md"
_CHART: Final = CHART.relative_to(ROOT)
_MADE: Final = made_from("charts/generators/alerts.yaml")
_DEFAULTS: Final = {one.name: f"{one.default:.12g}" for one in THRESHOLDS}
_PAGE: Final = f"""\
<!-- {_MADE} -->
# Alerts

The rules are in [`rules/visionr1-ptst.yaml`](../{_CHART}/rules/visionr1-ptst.yaml) for any Prometheus. The chart makes a
`PrometheusRule` of them, with thresholds from its values. `visionr1 watch` checks a run directory in the same way, with the same
thresholds. [Monitoring](monitoring.md) says how all of it is set up.

| Threshold | Default | Unit | Meaning |
|---|---|---|---|
"""


class Rule(Part):
    """An entry of alerts.yaml. `hold` is how long `expr` must be true; `summary` may use the series' labels.

    `@name@` in `expr` is a threshold, `@namespace@` the namespace of the chart's release. `runbook` is
    Markdown. Several series of one run differ in the labels of the scrape, which `and` and arithmetic keep.
    """

    severity: Literal["critical", "warning"]
    expr: str
    hold: str = Field(alias="for")
    summary: str
    runbook: str


class Alert(Rule):
    """A rule and its name."""

    name: str

    @property
    def anchor(self) -> str:
        return self.name.lower()


def load_alerts(source: Path = SOURCE) -> list[Alert]:
    """All alerts, in the order of the file. Raises BadInput for a mistake in it."""
    return [_alert(name, keys, f"{source.name}: {name}") for name, keys in read(source).items()]


def _alert(name: str, keys: Any, where: str) -> Alert:
    rule = checked(Rule, keys, where)
    if unknown := sorted(set(NAME.findall(rule.expr)) - {*_DEFAULTS, "namespace"}):
        raise BadInput(f"{where}: no threshold is called {', '.join(unknown)}; there are {', '.join(_DEFAULTS)}")
    return Alert.model_validate({"name": name, **keys})


def fill(text: str, namespace: str = "NAMESPACE") -> str:
    """`text` with the default in the place of each `@name@`."""
    return NAME.sub(lambda match: {**_DEFAULTS, "namespace": namespace}[match[1]], text)


def rules_file(alerts: list[Alert]) -> str:
    """The rules for any Prometheus, with the default thresholds. An alert about the chart's namespace is not one of them."""
    return f"# {_MADE}\n{fill(_rules([alert for alert in alerts if '@namespace@' not in alert.expr]))}"


def rules_template(alerts: list[Alert]) -> str:
    """All rules, with `@name@` for what the chart fills in."""
    return f"# {_MADE} The chart puts its thresholds and namespace in the place of names between two @.\n{_rules(alerts)}"


def alerts_page(alerts: list[Alert]) -> str:
    """The thresholds, then a runbook for each alert, as Markdown."""
    table = "".join(f"| `{one.name}` | {_DEFAULTS[one.name]} | {one.unit} | {one.help} |\n" for one in THRESHOLDS)
    return _PAGE + table + "".join(map(_paragraph, alerts))


def _rules(alerts: list[Alert]) -> str:
    groups = [{"name": "visionr1-ptst", "rules": [_rule(alert) for alert in alerts]}]
    return yaml.safe_dump({"groups": groups}, sort_keys=False, width=1000)


def _rule(alert: Alert) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expr,
        "for": alert.hold,
        "labels": {"severity": alert.severity},
        "annotations": {"summary": alert.summary, "runbook": f"{RUNBOOKS}#{alert.anchor}"},
    }


def _paragraph(alert: Alert) -> str:
    rule = f"{alert.severity}, for {alert.hold}:\n\n```promql\n{fill(alert.expr)}\n```"
    return f"\n## {alert.name}\n\n{rule}\n\n{alert.runbook}\n"
