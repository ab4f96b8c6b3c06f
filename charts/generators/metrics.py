"""The page docs/metrics.md: what a run's processes and the operator serve, from the tables that declare it."""

from __future__ import annotations

from typing import Final

from ptst_operator.metrics import OPERATOR_TABLE, OperatorInstrument

from generators import made_from
from visionr1.metrics.table import TABLE, Instrument

_INTRO: Final = f"""\
<!-- {made_from("visionr1/metrics/table.py and operators/ptst_operator/metrics.py")} -->
# Metrics

This page lists the metrics of a run and of the operator. Each process of a run serves `/metrics` for Prometheus and `/healthz`
for probes, at `metrics.host` and `metrics.port` of the recipe. Driver and cold start use this port. Workers use port + 1, + 2,
... on their node. Ranks of SFT use port, port + 1, ... on theirs. `metrics.enabled: false` turns all of this off. `/healthz`
answers `{{"age_seconds": ...}}`, the time since the process last made progress. If that is too long, its status is 503.

The same numbers are in `steps.jsonl` of the run directory, one JSON line per step, with `phase`, `stage` (null outside GRPO) and
the record keys below. There, a counter has only the step's own amount, and a metric with its own label is a mapping from the
label's values to numbers. A number that is not finite is null.

Every metric has the labels `run` (the recipe's name), `stage` (1, 2, ... in GRPO, else the phase's name) and `role`.
"""

_OPERATOR: Final = """
## The operator

The Kubernetes operator serves these on its own port. `run` is the name of the PTSTRun.
"""


def metrics_page() -> str:
    """The whole page, as Markdown."""
    head = ["| Metric | Kind | Unit | Own label | Record key | Meaning |", "|---|---|---|---|---|---|"]
    operator = ["| Metric | Kind | Unit | Labels | Meaning |", "|---|---|---|---|---|", *map(_operator_row, OPERATOR_TABLE)]
    return "\n".join([_INTRO, *head, *map(_row, TABLE), _OPERATOR, *operator]) + "\n"


def _row(item: Instrument) -> str:
    label, key = (f"`{text}`" if text else "" for text in (item.label, item.key if item.logged else None))
    return f"| `{item.name}` | {item.kind} | {item.unit} | {label} | {key} | {item.help} |"


def _operator_row(item: OperatorInstrument) -> str:
    labels = ", ".join(f"`{label}`" for label in item.labels)
    return f"| `{item.name}` | {item.kind} | {item.unit} | {labels} | {item.help} |"
