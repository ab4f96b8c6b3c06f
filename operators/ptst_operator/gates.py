"""Gates between two stages: pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ptst_operator.spec import Gate


def breaches(gates: Sequence[Gate], records: Iterable[Mapping[str, Any]], stage: str) -> tuple[str, ...]:
    """A line for each gate that the last steps of `stage` do not pass; `records` are those of steps.jsonl, in order.

    A gate that finds no number to look at is not passed.
    """
    of_stage = [record for record in records if record["phase"] == stage]
    lines = []
    for gate in gates:
        values = [record[gate.metric] for record in of_stage[-gate.steps :] if _is_number(record.get(gate.metric))]
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


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
