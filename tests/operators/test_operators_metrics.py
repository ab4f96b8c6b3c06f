"""The operator serves exactly what its table declares, which docs/metrics.md and the dashboards are made from."""

from __future__ import annotations

from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from ptst_operator.metrics import OPERATOR_TABLE, OperatorMetrics
from ptst_operator.status import PhaseStatus, Status

FROM_THE_LIBRARY = {"le"}


def served() -> dict[str, tuple[str, str, set[str]]]:
    """Kind, help and labels by name, of a run that went on to its next phase at the second attempt."""
    metrics = OperatorMetrics()
    metrics.changed(
        "vision", "mine", Status(), Status(phase="Running", stage="sft", phases=[PhaseStatus(name="sft", attempts_begun=1)])
    )
    metrics.changed(
        "vision",
        "mine",
        Status(phase="Running", stage="sft", phases=[PhaseStatus(name="sft", attempts_begun=1)]),
        Status(phase="Running", stage="stage-1", phases=[PhaseStatus(name="sft", attempts_begun=2)]),
    )
    found = {}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        kept = [sample for sample in family.samples if not sample.name.endswith("_created")]
        name = f"{family.name}_total" if family.type == "counter" else family.name
        if kept:
            found[name] = (family.type, family.documentation, set().union(*(sample.labels for sample in kept)) - FROM_THE_LIBRARY)
    return found


def test_the_table_is_what_is_served() -> None:
    assert served() == {item.name: (item.kind, item.help, set(item.labels)) for item in OPERATOR_TABLE}
