"""DynaMath (arXiv 2411.00836): 501 questions in ten variants each. Source of the rule: DynaMath/DynaMath, commit 598c3c3.

Their score is the mean over all variants, and the share of questions that are right in every variant (worst case).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from visionr1.benchmarks.problem import Benchmark, Column, Draft, Problem, Right, Rule, Same

_NEAR: Final = 1e-3


def read(problem: Problem, reply: str) -> str:
    """The `short answer` of the JSON object in a reply; "" if there is none."""
    first, last = reply.find("{"), reply.rfind("}")
    text = reply[first : last + 1] if first != -1 else ""
    for spelling in (text, text.replace("\\", "")):  # LaTeX in it is rarely escaped
        try:
            found = json.loads(spelling, strict=False)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and "short answer" in found:
            return str(found["short answer"])
    return ""


def read_block(problem: Problem, block: str) -> str:
    """As `read`; an answer block without JSON is the short answer itself."""
    return read(problem, block) or block


def right(problem: Problem, answer: str, same: Same) -> bool:
    """Numbers within 0.001, the letter in front, or the true text anywhere in the answer."""
    truth = str(problem.facts["answer"])
    if problem.facts["answer_type"] == "float":
        given, true = _number(answer), _number(truth)
        return given is not None and true is not None and abs(given - true) <= _NEAR
    if problem.facts["answer_type"] == "multiple choice":
        return answer == truth if len(answer) == 1 else truth in answer[:3]
    return truth in answer


def _number(text: str) -> float | None:
    """A number up to the first blank, as a multiple of pi if there is one after it."""
    first = text.split(" ")[0]
    factor, has_pi, _ = first.partition("\N{GREEK SMALL LETTER PI}")
    try:
        return float(factor) * (math.pi if has_pi else 1)
    except ValueError:
        return None


RULE: Final = Rule("short-answer", 1, read, read_block, right)


def draft(cells: Mapping[str, Any], place: int) -> Draft:
    """A problem of a row."""
    hint = " Answer with a decimal number." if cells["answer_type"] == "float" else ""
    own_id = str(place + 1 if cells["id"] is None else cells["id"])
    return Draft(own_id, cells["question"] + hint, "", str(cells["answer"]), (), cells["image"])


def figures(right: Right) -> dict[str, float]:
    """The share of questions that are right in all variants: `worst case`."""
    worst: dict[str, bool] = {}
    for problem, is_right in right:
        question = problem.row.id.rpartition("#")[2]
        worst[question] = worst.get(question, True) and is_right
    return {"worst case": sum(worst.values()) / len(worst)} if worst else {}


DYNAMATH: Final = Benchmark(
    name="dynamath",
    title="DynaMath",
    source="hf://DynaMath/DynaMath_Sample@sample_variant1",
    sizes={"ten variants": 5010, "one variant": 501},
    columns={
        "id": Column(("id",), "any", needed=False),
        "question": Column(("question",), "text"),
        "image": Column(("decoded_image", "image"), "picture"),
        "answer": Column(("answer", "ground_truth"), "any"),
        "answer_type": Column(("answer_type",), "text"),
    },
    draft=draft,
    rule=RULE,
    figures=figures,
)
