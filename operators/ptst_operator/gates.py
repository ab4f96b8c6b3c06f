"""Gates between two stages: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ptst_operator.spec import Gate
from ptst_operator.world import number


def breaches(gates: Sequence[Gate], records: Iterable[Mapping[str, Any]], stage: str) -> tuple[str, ...]:
    """A line for each gate that the last steps of `stage` do not pass; `records` are those of steps.jsonl, in order.

    A gate that finds no number to look at is not passed.
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
