r"""MM-Math (arXiv 2404.05091): 5,929 problems. Their `eval.py` compares what is in `\boxed{}` in solution and reply.

We could not get that file, so the rule is written from its description: both must hold a box, numbers may differ by 0.01, and
several answers may come in any order. What is no number must be the same to our strict rule.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from visionr1.benchmarks.blocks import boxed
from visionr1.benchmarks.latex_value import latex_value
from visionr1.benchmarks.problem import Benchmark, Column, Draft, Problem, Rule, Same

_PRECISION: Final = 1e-2


def read(problem: Problem, reply: str) -> str:
    r"""All boxes of a reply, joined by commas; "" without any."""
    return ",".join(boxed(reply))


def read_block(problem: Problem, block: str) -> str:
    """The boxes of an answer block, or, without any, all of it."""
    return read(problem, block) or block


def right(problem: Problem, answer: str, same: Same) -> bool:
    """Whether each true answer has one answer that is equal to it, and none is left."""
    given, true = _parts(answer), _parts(",".join(boxed(problem.facts["solution"])))
    if len(given) != len(true) or not given:
        return False
    if len(given) > 1 and same(answer, ",".join(true)):
        return True
    for truth in true:
        found = next((part for part in given if _equal(part, truth, same)), None)
        if found is None:
            return False
        given.remove(found)
    return True


def _parts(text: str) -> list[str]:
    """`text` at its commas outside all brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(character, 0)
        if character == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _equal(answer: str, truth: str, same: Same) -> bool:
    if answer == truth:
        return True
    value, true_value = (latex_value(_without_unit(text)) for text in (answer, truth))
    if value is not None and true_value is not None:
        try:
            return math.isclose(value, true_value, rel_tol=0, abs_tol=_PRECISION)
        except OverflowError:  # a whole number beyond every float
            return value == true_value
    return same(answer, truth)


def _without_unit(text: str) -> str:
    """Without signs for degrees and per cent, which the rule does not look at."""
    for sign in ("^{\\circ}", "^\\circ", "\\%", "%", "°", "$"):
        text = text.replace(sign, "")
    return text


RULE: Final = Rule("boxed-within-0.01", 1, read, read_block, right)


def draft(cells: Mapping[str, Any], place: int) -> Draft:
    """A problem of a row. The true answer is what is boxed in its solution."""
    true = boxed(cells["solution"])
    if not true:
        raise ValueError("the solution has no \\boxed{}")
    return Draft(str(place), cells["question"], "", ",".join(true), (), cells["file_name"])


MM_MATH: Final = Benchmark(
    name="mm-math",
    title="MM-Math",
    sources=("hf://THU-KEG/MM_Math@train",),
    sizes={"train": 5929},
    columns={
        "question": Column(("question",), "text"),
        "solution": Column(("solution",), "text"),
        "file_name": Column(("file_name", "image"), "picture"),
    },
    draft=draft,
    rule=RULE,
)
