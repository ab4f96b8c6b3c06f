"""Gates: bounds for the metrics of a stage. If a stage is out of them, the run waits for a person. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ptst_operator.spec import Gate
from ptst_operator.world import Breach
from visionr1.rundir.reading import number
from visionr1.rundir.rollback import Rollback


def breaches(gates: Sequence[Gate], records: Sequence[Mapping[str, Any]], stage: str) -> tuple[str, ...]:
    """A line for each gate that the last steps of `stage` do not pass. `records` are the records of steps.jsonl, in order.

    A gate is not passed if its metric is missing.
    """
    of_stage = [record for record in records if record["phase"] == stage]
    lines = []
    for gate in gates:
        values = [value for record in of_stage[-gate.steps :] if (value := number(record.get(gate.metric))) is not None]
        if not values:
            lines.append(f"{stage} has no {gate.metric} in steps.jsonl")
            continue
        mean = sum(values) / len(values)
        what = f"{gate.metric} of {stage} is {mean:.4g} over its last {len(values)} steps"
        if gate.min is not None and mean < gate.min:
            lines.append(f"{what}, less than {gate.min:g}")
        if gate.max is not None and mean > gate.max:
            lines.append(f"{what}, more than {gate.max:g}")
    return tuple(lines)


def first_breach(
    gates: Sequence[Gate], records: Sequence[Mapping[str, Any]], stage: str, first_step: int, step: int, done: bool
) -> Breach | None:
    """The first gate that stops `stage`, or rolls it back, at its newest committed global step. Rollback comes before Stop.

    A gate waits until the stage has as many steps as the gate looks at, or is done.

    Args:
        first_step: global step before the stage's first one.
    """
    acting = [gate for gate in gates if gate.action != "Hold" and (done or step - first_step >= gate.steps)]
    upto = [record for record in records if record["step"] <= step]
    for gate in sorted(acting, key=lambda gate: gate.action != "Rollback"):
        lines = breaches([gate], upto, stage)
        if lines:
            back = Rollback(stage, first_step) if gate.rollback_to is None else named(gate.rollback_to)
            return Breach(stage, lines[0], back if gate.action == "Rollback" else None)
    return None


def named(checkpoint: str) -> Rollback:
    """A checkpoint by its name, such as stage-1/step-100."""
    phase, _, step = checkpoint.partition("/step-")
    return Rollback(phase, int(step))
