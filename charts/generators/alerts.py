"""The alerts of `alerts.yaml` as Prometheus rules and as the page of runbooks."""

from __future__ import annotations

import re
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
_METRIC: Final = re.compile(r"\b(visionr1_\w+|DCGM_\w+)(?:{(?P<labels>[^}]*)})?")
_OPERATOR_S: Final = "visionr1_ptst_reconcile_"
"""Beginning of the metrics that say nothing of a run: their namespace is the operator's own."""
_DEFAULTS: Final = {one.name: f"{one.default:.12g}" for one in THRESHOLDS}
_PAGE: Final = f"""\
<!-- {_MADE} -->
# Alerts

The rules are in [`rules/visionr1-ptst.yaml`](../{_CHART}/rules/visionr1-ptst.yaml) for any Prometheus. The chart makes a
`PrometheusRule` of them, with thresholds from its values, for the namespaces that its operator watches. `visionr1 watch` checks
a run directory in the same way, with the same thresholds. [Monitoring](monitoring.md) says how all of it is set up.

| Threshold | Default | Unit | Meaning |
|---|---|---|---|
"""


class Rule(Part):
    """An entry of alerts.yaml. `hold` is how long `expr` must be true; `summary` may use the series' labels.

    `@name@` in `expr` is a threshold, `@namespace@` the namespace of the chart's release. `rules_template` adds
    the namespaces that the release watches. `runbook` is Markdown. Several series of one run differ in the labels of the
    scrape, which `and` and arithmetic keep.
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


def fill(text: str, namespace: str = "NAMESPACE", watched: str = "") -> str:
    """`text` with the default in the place of each `@name@`. `watched` is a pattern of namespaces, by default that one."""
    names = {**_DEFAULTS, "namespace": namespace, "watched": f'"{watched or namespace}"'}
    return NAME.sub(lambda match: names[match[1]], text)


def rules_file(alerts: list[Alert]) -> str:
    """The rules for any Prometheus, with the default thresholds. An alert about the chart's namespace is not one of them."""
    return f"# {_MADE}\n{fill(_rules([alert for alert in alerts if '@namespace@' not in alert.expr]))}"


def rules_template(alerts: list[Alert]) -> str:
    """All rules, with `@name@` for what the chart fills in; each series in them is one of the release's namespaces."""
    scoped = [alert.model_copy(update={"expr": _METRIC.sub(_scoped, alert.expr)}) for alert in alerts]
    return f"# {_MADE} The chart puts its thresholds and namespaces in the place of names between two @.\n{_rules(scoped)}"


def _scoped(metric: re.Match[str]) -> str:
    """A metric of an expression, in the namespaces that the release watches, or in the operator's own."""
    name, labels = metric[1], metric["labels"]
    if "@namespace@" in metric[0]:
        return metric[0]
    more = f",{labels}" if labels else ""
    if name.startswith("DCGM_"):
        # dcgm-exporter's chart scrapes without honorLabels: the pod that has the GPU is then in `exported_namespace`.
        one, other = (f"{name}{{{label}=~@watched@{more}}}" for label in ("namespace", "exported_namespace"))
        return f"({one} or {other})"
    if name.startswith(_OPERATOR_S):
        return f'{name}{{namespace="@namespace@"{more}}}'
    return f"{name}{{namespace=~@watched@{more}}}"


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
