"""What can be watched of the Kubernetes operator, declared beside the run's own table; the operator serves it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True)
class OperatorInstrument:
    """One thing to watch; `labels` are all that it has besides those of the scrape."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    unit: str
    help: str
    labels: tuple[str, ...] = ()


OPERATOR_TABLE: Final[tuple[OperatorInstrument, ...]] = (
    OperatorInstrument(
        "visionr1_ptst_run_phase", "gauge", "1", "1 for the phase that the PTSTRun is in, 0 for the others.", ("run", "phase")
    ),
    OperatorInstrument(
        "visionr1_ptst_stage_transitions_total",
        "counter",
        "transitions",
        "Changes from one phase of the recipe to another.",
        ("run", "from", "to"),
    ),
    OperatorInstrument(
        "visionr1_ptst_child_restarts_total", "counter", "attempts", "Attempts at a phase after its first.", ("run", "stage")
    ),
    OperatorInstrument("visionr1_ptst_reconcile_seconds", "histogram", "seconds", "Duration of one look at a run."),
    OperatorInstrument(
        "visionr1_ptst_reconcile_errors_total", "counter", "looks", "Looks that failed and are tried again.", ("reason",)
    ),
)
