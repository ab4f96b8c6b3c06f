"""Writes every file that is made from code here: `python -m visionr1.watch.files` in the checkout, or `make dashboards`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import yaml

from visionr1.metrics.reference import reference_page
from visionr1.watch.alerts import ALERTS, Alert, rules
from visionr1.watch.cluster import GPUS, OPERATOR
from visionr1.watch.grafana import to_json
from visionr1.watch.thresholds import THRESHOLDS, fill
from visionr1.watch.training import RUN, THROUGHPUT

DASHBOARDS: Final = (RUN, THROUGHPUT, GPUS, OPERATOR)
_CHART: Final = "charts/visionr1-ptst"
_MADE: Final = "Made by `make dashboards` from visionr1/watch; edit that."


def files() -> dict[str, str]:
    """Content by path in the checkout."""
    made = {f"{_CHART}/dashboards/{board.uid}.json": json.dumps(to_json(board), indent=1) + "\n" for board in DASHBOARDS}
    template, plain = (yaml.safe_dump(rules(chart=chart), sort_keys=False, width=1000) for chart in (True, False))
    made[f"{_CHART}/rules/visionr1-ptst.yaml"] = f"# {_MADE}\n{fill(plain)}"
    made[f"{_CHART}/rules/visionr1-ptst.yaml.in"] = (
        f"# {_MADE} The chart puts its thresholds and namespace in the place of names between two @.\n{template}"
    )
    made["docs/alerts.md"] = alerts_page()
    made["docs/metrics.md"] = reference_page()
    return made


def alerts_page() -> str:
    """The thresholds, then a runbook for each alert, as Markdown."""
    head = f"""\
<!-- {_MADE} -->
# Alerts

The rules are in [`rules/visionr1-ptst.yaml`](../{_CHART}/rules/visionr1-ptst.yaml) for any Prometheus. The chart makes a
`PrometheusRule` of them, with thresholds from its values. `visionr1 watch` says the same about a run directory, by the same
thresholds. [Monitoring](monitoring.md) says how all of it is set up.

| Threshold | Default | Unit | Meaning |
|---|---|---|---|
"""
    table = "".join(f"| `{one.name}` | {fill(f'@{one.name}@')} | {one.unit} | {one.help} |\n" for one in THRESHOLDS)
    return head + table + "".join(map(_paragraph, ALERTS))


def _paragraph(alert: Alert) -> str:
    rule = f"{alert.severity}, for {alert.hold}:\n\n```promql\n{fill(alert.expr)}\n```"
    return f"\n## {alert.name}\n\n{rule}\n\n{alert.runbook}\n"


if __name__ == "__main__":
    for path, content in files().items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(content, encoding="utf-8")
